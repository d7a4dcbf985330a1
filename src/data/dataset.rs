//! What a dataset folder is, and how its layout is recognised.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::{
    DataError, NpyRows, class_folders, fingerprint,
    folder::{Folder, Listing, PICTURE_EXTENSIONS, walk},
    labels_csv, npy_dataset, picture,
};

/// Names of sub-folders that are splits of a dataset rather than classes.
const SPLIT_NAMES: [&str; 8] = [
    "calib",
    "calibration",
    "eval",
    "test",
    "train",
    "val",
    "valid",
    "validation",
];

/// How the samples of a folder are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// `inputs.npy`, perhaps with `labels.npy`.
    Npy,
    /// Pictures named by `labels.csv`.
    LabelsCsv,
    /// One sub-folder of pictures a class.
    ClassFolders,
    /// `images/` and `masks/`; opened as pictures without labels.
    ImagesAndMasks,
    /// `images/` and YOLO `labels/`; opened as pictures without labels.
    ImagesAndBoxes,
    /// Pictures without labels.
    Pictures,
}

impl DatasetKind {
    /// Name for people, as in "class folders".
    pub fn description(self) -> &'static str {
        match self {
            Self::Npy => "inputs.npy",
            Self::LabelsCsv => "labels.csv",
            Self::ClassFolders => "class folders",
            Self::ImagesAndMasks => "images and masks",
            Self::ImagesAndBoxes => "images and boxes",
            Self::Pictures => "pictures without labels",
        }
    }
}

impl fmt::Display for DatasetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

/// One sample of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Path relative to the dataset's folder, with `/`; `inputs.npy[ROW]` for a row of an array.
    pub name: String,
    /// Class index; `None` if the sample has no label.
    pub label: Option<u32>,
    /// Bytes of the file or row.
    pub size_bytes: u64,
}

/// A file that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Path relative to the dataset's folder, with `/`.
    pub file: String,
    /// Why, as a phrase for people.
    pub reason: String,
}

/// The samples of one folder, in an order that depends on their names alone.
///
/// Opening lists files; no picture is decoded before a [`Loader`](super::Loader) asks for it.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// How the folder is laid out.
    pub kind: DatasetKind,
    /// Samples by name in byte order, or rows in the order of the array.
    pub samples: Vec<Sample>,
    /// Class names by label; empty if they are not known.
    pub classes: Vec<String>,
    /// What was left out.
    pub skipped: Vec<Skipped>,
    pub(super) rows: Option<NpyRows>,
    /// Digest of what names and sizes do not show, computed on opening.
    pub(super) content_digest: Option<String>,
}

impl Dataset {
    /// Recognises the layout of a folder and lists its samples.
    ///
    /// The first of these that is there decides:
    ///
    /// 1. `inputs.npy` `[samples, …]`, with optional `labels.npy` (integers) and `classes.txt` (one name a line);
    /// 2. `labels.csv` with the columns `file` and `label` (an index, or a class name: classes are then sorted) and
    ///    optionally `name`;
    /// 3. `images/` with `masks/`, or `images/` with `labels/` (YOLO): pictures, for now without labels;
    /// 4. one sub-folder a class: sorted names give the labels, or their lines in `classes.txt` if it names them all;
    /// 5. pictures in the folder itself, or in its only sub-folder `images/`: no labels.
    ///
    /// Hidden files are ignored; sub-folders are searched to any reasonable depth.
    ///
    /// # Errors
    /// [`DataError::NotAFolder`]; [`DataError::Unrecognised`] with what was looked for and what was found;
    /// [`DataError::Csv`], [`DataError::Npy`] and [`DataError::Labels`] for files that cannot be used.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        check_is_folder(path)?;
        let top = Folder::read(path, "")?;
        if top.has_file("inputs.npy") {
            return npy_dataset::open(path, &top);
        }
        if top.has_file("labels.csv") {
            return labels_csv::open(path, &top);
        }
        if top.has_folder("images") {
            for (companion, kind) in [
                ("masks", DatasetKind::ImagesAndMasks),
                ("labels", DatasetKind::ImagesAndBoxes),
            ] {
                if top.has_folder(companion) {
                    return open_pictures(path, &top, walk(path, "images"), kind);
                }
            }
        }
        let folders: BTreeMap<&str, Listing> = top
            .folders
            .iter()
            .map(|f| (f.as_str(), walk(path, f)))
            .collect();
        let with_pictures: Vec<&str> = folders
            .iter()
            .filter(|(_, listing)| !listing.pictures.is_empty())
            .map(|(name, _)| *name)
            .collect();
        match with_pictures.as_slice() {
            [] | ["images"] => {
                let mut listing = top.listing();
                for (_, inner) in folders {
                    listing.append(inner);
                }
                open_pictures(path, &top, listing, DatasetKind::Pictures)
            }
            names
                if names
                    .iter()
                    .all(|name| SPLIT_NAMES.contains(&name.to_lowercase().as_str())) =>
            {
                Err(unrecognised(
                    path,
                    &top,
                    &format!("These are parts of a dataset: open one of them, {names:?}."),
                ))
            }
            _ => class_folders::open(path, &top, folders),
        }
    }

    /// Number of classes: of the known names, or up to the largest label.
    pub fn class_count(&self) -> usize {
        let from_labels = self
            .samples
            .iter()
            .filter_map(|s| s.label)
            .max()
            .map_or(0, |label| label as usize + 1);
        self.classes.len().max(from_labels)
    }

    /// Tells whether at least one sample has a label.
    pub fn has_labels(&self) -> bool {
        self.samples.iter().any(|s| s.label.is_some())
    }

    /// Shape of one sample of an array dataset, without the batch axis; `None` for pictures.
    pub fn row_shape(&self) -> Option<&[usize]> {
        self.rows.as_ref().map(NpyRows::row_shape)
    }

    /// Width and height of the first readable picture; `None` for arrays.
    ///
    /// Reads file heads only; useful where a model leaves its input size open.
    pub fn first_picture_size(&self) -> Option<(u32, u32)> {
        if self.rows.is_some() {
            return None;
        }
        self.samples
            .iter()
            .take(16)
            .find_map(|sample| picture::dimensions(&self.root.join(&sample.name)).ok())
    }

    /// SHA-256 in hexadecimal over layout, names, sizes and labels of the samples.
    ///
    /// For an array also over its type, shape and a fixed selection of its content. Dates, the folder's own path and
    /// skipped files have no influence, so a copy on another machine has the same fingerprint.
    pub fn fingerprint(&self) -> String {
        fingerprint::dataset(self)
    }
}

fn check_is_folder(path: &Path) -> Result<(), DataError> {
    let (found, remedy) = match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => ("a file", "Open the folder that holds it."),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            ("nothing: it does not exist", "Check the path.")
        }
        Err(source) => {
            return Err(DataError::Io {
                action: "open the dataset",
                path: path.to_path_buf(),
                source,
            });
        }
    };
    Err(DataError::NotAFolder {
        path: path.to_path_buf(),
        found,
        remedy,
    })
}

fn open_pictures(
    path: &Path,
    top: &Folder,
    listing: Listing,
    kind: DatasetKind,
) -> Result<Dataset, DataError> {
    if listing.pictures.is_empty() {
        return Err(unrecognised(
            path,
            top,
            "Check that this is the right folder and that its pictures are readable.",
        ));
    }
    let samples = listing
        .pictures
        .into_iter()
        .map(|file| Sample {
            name: file.name,
            label: None,
            size_bytes: file.size_bytes,
        })
        .collect();
    let classes = read_classes(path, top)?.unwrap_or_default();
    Ok(Dataset::new(path, kind, samples, classes, listing.skipped))
}

impl Dataset {
    /// A dataset of pictures; brings samples and skipped files into their order.
    pub(super) fn new(
        root: &Path,
        kind: DatasetKind,
        mut samples: Vec<Sample>,
        classes: Vec<String>,
        mut skipped: Vec<Skipped>,
    ) -> Self {
        samples.sort_by(|a, b| a.name.cmp(&b.name));
        skipped.sort_by(|a, b| a.file.cmp(&b.file));
        Self {
            root: root.to_path_buf(),
            kind,
            samples,
            classes,
            skipped,
            rows: None,
            content_digest: None,
        }
    }
}

/// The lines of `classes.txt`, if it is there.
pub(super) fn read_classes(root: &Path, top: &Folder) -> Result<Option<Vec<String>>, DataError> {
    if !top.has_file("classes.txt") {
        return Ok(None);
    }
    let path = root.join("classes.txt");
    let bytes = std::fs::read(&path).map_err(|source| DataError::Io {
        action: "read class names",
        path,
        source,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(Some(
        text.trim_end()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect(),
    ))
}

/// The error for a folder in which no layout was found.
pub(super) fn unrecognised(path: &Path, top: &Folder, remedy: &str) -> DataError {
    DataError::Unrecognised {
        path: path.to_path_buf(),
        looked_for: format!(
            "inputs.npy, labels.csv, images/ with masks/ or labels/, one sub-folder of pictures a class, and pictures \
             ({})",
            PICTURE_EXTENSIONS.join(", ")
        ),
        found: top.describe(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::RgbImage;

    use super::{
        super::{write_f32, write_i64},
        *,
    };

    /// Names and contents.
    type Files<'a> = &'a [(&'a str, &'a str)];

    /// A folder with these files: pictures of 2 x 2 for `.png`, else the text.
    fn folder(files: Files<'_>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            if path.extension().is_some_and(|ext| ext == "png") {
                RgbImage::new(2, 2).save(path).unwrap();
            } else {
                fs::write(path, text).unwrap();
            }
        }
        dir
    }

    fn samples(dataset: &Dataset) -> Vec<(&str, Option<u32>)> {
        dataset
            .samples
            .iter()
            .map(|s| (s.name.as_str(), s.label))
            .collect()
    }

    fn skipped(dataset: &Dataset) -> Vec<&str> {
        dataset.skipped.iter().map(|s| s.file.as_str()).collect()
    }

    #[test]
    fn class_folders_are_labelled_by_sorted_name() {
        let dir = folder(&[
            ("dog/b.png", ""),
            ("dog/deep/a.png", ""),
            ("cat/z.png", ""),
            ("cat/notes.txt", "x"),
            ("stray.png", ""),
            (".hidden/x.png", ""),
        ]);
        fs::create_dir(dir.path().join("cow")).unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(dataset.kind, DatasetKind::ClassFolders);
        assert_eq!(dataset.classes, ["cat", "cow", "dog"]);
        assert_eq!(
            samples(&dataset),
            [
                ("cat/z.png", Some(0)),
                ("dog/b.png", Some(2)),
                ("dog/deep/a.png", Some(2))
            ]
        );
        assert_eq!(skipped(&dataset), ["cat/notes.txt", "cow", "stray.png"]);
        assert_eq!((dataset.class_count(), dataset.has_labels()), (3, true));
        assert_eq!(dataset.first_picture_size(), Some((2, 2)));
    }

    #[test]
    fn classes_txt_gives_a_part_of_the_classes_their_indices() {
        let dir = folder(&[
            ("dog/b.png", ""),
            ("cat/z.png", ""),
            ("classes.txt", "\u{feff}dog\r\nbird\r\ncat\r\n\r\n"),
        ]);
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(dataset.classes, ["dog", "bird", "cat"]);
        assert_eq!(
            samples(&dataset),
            [("cat/z.png", Some(2)), ("dog/b.png", Some(0))]
        );
        fs::write(dir.path().join("classes.txt"), "dog\n").unwrap();
        assert_eq!(Dataset::open(dir.path()).unwrap().classes, ["cat", "dog"]);
    }

    #[test]
    fn tables_name_files_below_the_folder() {
        let table = "file,label\nimages/b.png,1\nimages\\a.png,0\n../x.png,1\nimages/gone.png,1\nt.txt,1\nimages/b.png,0\n,2\n";
        let dir = folder(&[
            ("labels.csv", table),
            ("images/a.png", ""),
            ("images/b.png", ""),
            ("t.txt", ""),
        ]);
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(dataset.kind, DatasetKind::LabelsCsv);
        assert_eq!(
            samples(&dataset),
            [("images/a.png", Some(0)), ("images/b.png", Some(1))]
        );
        assert_eq!(
            skipped(&dataset),
            [
                "../x.png",
                "images/b.png",
                "images/gone.png",
                "labels.csv:8",
                "t.txt"
            ]
        );
        assert_eq!((dataset.classes.len(), dataset.class_count()), (0, 2));
    }

    #[test]
    fn layouts_are_told_apart() {
        let cases: [(Files<'_>, DatasetKind, usize); 6] = [
            (
                &[("images/a.png", ""), ("masks/a.png", "")],
                DatasetKind::ImagesAndMasks,
                1,
            ),
            (
                &[
                    ("images/a.png", ""),
                    ("labels/a.txt", "0 1 1 1 1"),
                    ("classes.txt", "x"),
                ],
                DatasetKind::ImagesAndBoxes,
                1,
            ),
            (
                &[("images/a.png", ""), ("images/sub/b.png", "")],
                DatasetKind::Pictures,
                2,
            ),
            (&[("a.png", ""), ("b.png", "")], DatasetKind::Pictures, 2),
            (&[("only/a.png", "")], DatasetKind::ClassFolders, 1),
            (
                &[
                    ("labels.csv", "file,label\na.png,0"),
                    ("a.png", ""),
                    ("c/b.png", ""),
                ],
                DatasetKind::LabelsCsv,
                1,
            ),
        ];
        for (files, kind, count) in cases {
            let dataset = Dataset::open(folder(files).path()).unwrap();
            assert_eq!(
                (dataset.kind, dataset.samples.len()),
                (kind, count),
                "{files:?}"
            );
        }
    }

    #[test]
    fn arrays_with_and_without_labels() {
        let dir = folder(&[("classes.txt", "yes\nno\n"), ("a.png", "")]);
        let write_labels = |shape: &[usize], labels: &[i64]| {
            write_i64(&dir.path().join("labels.npy"), shape, labels)
        };
        write_f32(&dir.path().join("inputs.npy"), &[3, 2], &[0.5; 6]).unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(
            (dataset.kind, dataset.samples.len(), dataset.has_labels()),
            (DatasetKind::Npy, 3, false)
        );
        assert_eq!(
            (dataset.row_shape(), dataset.first_picture_size()),
            (Some([2].as_slice()), None)
        );
        write_labels(&[3, 1], &[1, 0, 1]).unwrap();
        let dataset = Dataset::open(dir.path()).unwrap();
        assert_eq!(samples(&dataset)[2], ("inputs.npy[2]", Some(1)));
        assert_eq!(dataset.classes, ["yes", "no"]);
        for (shape, labels, expected) in [
            (&[2][..], &[1, 0][..], "[2], and inputs.npy has 3 rows"),
            (&[3], &[0, -1, 0], "row 1 is -1"),
        ] {
            write_labels(shape, labels).unwrap();
            let message = Dataset::open(dir.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        write_f32(&dir.path().join("labels.npy"), &[3], &[0.0; 3]).unwrap();
        assert!(
            Dataset::open(dir.path())
                .unwrap_err()
                .to_string()
                .contains("expected integers")
        );
        write_f32(&dir.path().join("inputs.npy"), &[3, 0], &[]).unwrap();
        assert!(
            Dataset::open(dir.path())
                .unwrap_err()
                .to_string()
                .contains("[3, 0] holds no element")
        );
    }

    #[test]
    fn unusable_folders_say_what_was_looked_for_and_found() {
        let cases: [(Files<'_>, &[&str]); 5] = [
            (&[], &["inputs.npy, labels.csv, images/", "Found nothing"]),
            (&[("a.txt", ""), ("b.txt", "")], &["2 files (2 .txt)"]),
            (
                &[("train/x/a.png", ""), ("val/x/a.png", "")],
                &["open one of them", "\"train\", \"val\""],
            ),
            (
                &[("labels.csv", "file,label\ngone.png,1")],
                &["names no picture", "gone.png"],
            ),
            (
                &[("labels.csv", "a,b\n")],
                &["line 1", "expected file,label"],
            ),
        ];
        for (files, expected) in cases {
            let message = Dataset::open(folder(files).path()).unwrap_err().to_string();
            for part in expected {
                assert!(message.contains(part), "{files:?}: {message}");
            }
        }
        let dir = folder(&[("a.png", "")]);
        let file = Dataset::open(&dir.path().join("a.png"))
            .unwrap_err()
            .to_string();
        assert!(file.contains("this is a file. Open the folder"), "{file}");
        let missing = Dataset::open(&dir.path().join("b"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("does not exist"), "{missing}");
    }

    #[test]
    fn fingerprints_follow_names_sizes_labels_and_arrays() {
        let files: &[(&str, &str)] = &[
            ("labels.csv", "file,label\na.png,0\nb.png,1"),
            ("a.png", ""),
            ("b.png", ""),
        ];
        let (dir, copy) = (folder(files), folder(files));
        let print = |dir: &tempfile::TempDir| Dataset::open(dir.path()).unwrap().fingerprint();
        let first = print(&dir);
        assert_eq!(first.len(), 64);
        assert_eq!(first, print(&copy), "a copy elsewhere has the same");
        fs::write(copy.path().join("readme.txt"), "x").unwrap();
        assert_eq!(first, print(&copy), "other files do not matter");
        fs::write(
            copy.path().join("labels.csv"),
            "file,label\na.png,1\nb.png,1",
        )
        .unwrap();
        assert_ne!(first, print(&copy), "labels do");
        RgbImage::new(30, 30)
            .save(dir.path().join("a.png"))
            .unwrap();
        assert_ne!(first, print(&dir), "sizes do");
        let inputs = copy.path().join("inputs.npy");
        let array = |shape: &[usize], value: f32| {
            write_f32(&inputs, shape, &[0.0, 0.0, 0.0, value]).unwrap();
            print(&copy)
        };
        assert_eq!(array(&[4], 1.0), array(&[4], 1.0));
        assert_ne!(array(&[4], 1.0), array(&[4], 2.0), "content of arrays does");
        assert_ne!(array(&[4, 1], 1.0), array(&[2, 2], 1.0), "and their shape");
    }
}
