//! One sub-folder of pictures a class.

use std::{collections::BTreeMap, path::Path};

use super::{
    DataError, Dataset, DatasetKind, Sample, Skipped,
    dataset::read_classes,
    folder::{Folder, Listing},
};

/// Labels by sorted folder name, or by `classes.txt` where it names every folder.
///
/// A folder without pictures keeps its label, so that a part of a dataset has the labels of the whole.
pub(super) fn open(
    path: &Path,
    top: &Folder,
    folders: BTreeMap<&str, Listing>,
) -> Result<Dataset, DataError> {
    let sorted: Vec<String> = folders.keys().map(|name| (*name).to_owned()).collect();
    let classes = match read_classes(path, top)? {
        Some(named) if sorted.iter().all(|folder| named.contains(folder)) => named,
        _ => sorted,
    };
    let mut skipped = top.listing().skipped;
    skipped.extend(top.listing().pictures.into_iter().map(|file| Skipped {
        file: file.name,
        reason: "it lies beside the class folders, not in one".to_owned(),
    }));
    let mut samples = Vec::new();
    for (name, listing) in folders {
        let label = classes
            .iter()
            .position(|class| class == name)
            .map(|position| position as u32);
        if listing.pictures.is_empty() {
            skipped.push(Skipped {
                file: name.to_owned(),
                reason: "a class folder without pictures".to_owned(),
            });
        }
        skipped.extend(listing.skipped);
        samples.extend(listing.pictures.into_iter().map(|file| Sample {
            name: file.name,
            label,
            size_bytes: file.size_bytes,
        }));
    }
    Ok(Dataset::new(
        path,
        DatasetKind::ClassFolders,
        samples,
        classes,
        skipped,
    ))
}
