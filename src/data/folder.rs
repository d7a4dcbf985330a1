//! Listing folders in a fixed order.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{DataError, Skipped};

/// File name extensions that are taken for pictures, in lower case.
pub(super) const PICTURE_EXTENSIONS: [&str; 8] =
    ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

/// Sub-folders deeper than this are left out.
const DEPTH_MAX: usize = 16;

/// A file, by its path relative to the dataset's folder.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) size_bytes: u64,
}

/// The visible entries of one folder, sorted by name in byte order.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Names of sub-folders, without path.
    pub(super) folders: Vec<String>,
    pub(super) files: Vec<File>,
    skipped: Vec<Skipped>,
}

/// Pictures found, and what was left out.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) pictures: Vec<File>,
    pub(super) skipped: Vec<Skipped>,
}

impl Listing {
    pub(super) fn append(&mut self, other: Self) {
        self.pictures.extend(other.pictures);
        self.skipped.extend(other.skipped);
    }
}

impl Folder {
    /// Reads the folder `relative` (empty for the root itself).
    pub(super) fn read(root: &Path, relative: &str) -> Result<Self, DataError> {
        let path = root.join(relative);
        let failed = |source| DataError::Io {
            action: "read the folder",
            path: path.clone(),
            source,
        };
        let mut folder = Self::default();
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let os_name = entry.file_name();
            let shown = join(relative, &os_name.to_string_lossy());
            match (os_name.to_str(), fs::metadata(entry.path())) {
                (Some(name), _) if name.starts_with('.') || name == "__MACOSX" => {}
                (None, _) => folder.skip(shown, "the name is not valid UTF-8"),
                (_, Err(e)) => folder.skip(shown, &format!("it cannot be opened: {e}")),
                (Some(name), Ok(metadata)) if metadata.is_dir() => {
                    folder.folders.push(name.to_owned());
                }
                (Some(_), Ok(metadata)) if metadata.is_file() => {
                    folder.files.push(File {
                        name: shown,
                        size_bytes: metadata.len(),
                    });
                }
                (Some(_), Ok(_)) => folder.skip(shown, "not a regular file"),
            }
        }
        folder.folders.sort();
        folder.files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(folder)
    }

    fn skip(&mut self, file: String, reason: &str) {
        self.skipped.push(Skipped {
            file,
            reason: reason.to_owned(),
        });
    }

    pub(super) fn has_file(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    pub(super) fn has_folder(&self, name: &str) -> bool {
        self.folders.iter().any(|folder| folder == name)
    }

    /// The pictures directly in this folder; other files are skipped, but not `classes.txt`, which is read elsewhere.
    pub(super) fn listing(&self) -> Listing {
        let mut listing = Listing {
            pictures: Vec::new(),
            skipped: self.skipped.clone(),
        };
        for file in &self.files {
            match picture_reason(&file.name) {
                Ok(()) => listing.pictures.push(file.clone()),
                Err(_) if file.name == "classes.txt" => {}
                Err(reason) => listing.skipped.push(Skipped {
                    file: file.name.clone(),
                    reason,
                }),
            }
        }
        listing
    }

    /// A summary for error messages, as in `2 folders ("a", "b") and 3 files (2 .txt, 1 .json)`.
    pub(super) fn describe(&self) -> String {
        if self.folders.is_empty() && self.files.is_empty() {
            return "nothing that is visible".to_owned();
        }
        let mut parts = Vec::new();
        if !self.folders.is_empty() {
            let names: Vec<String> = self
                .folders
                .iter()
                .take(5)
                .map(|name| format!("{name:?}"))
                .collect();
            let more = if self.folders.len() > 5 { ", …" } else { "" };
            parts.push(format!(
                "{} ({}{more})",
                count(self.folders.len(), "folder"),
                names.join(", ")
            ));
        }
        if !self.files.is_empty() {
            let mut extensions: BTreeMap<String, usize> = BTreeMap::new();
            for file in &self.files {
                *extensions.entry(extension(&file.name)).or_default() += 1;
            }
            let kinds: Vec<String> = extensions
                .iter()
                .take(5)
                .map(|(ext, n)| format!("{n} .{ext}"))
                .collect();
            parts.push(format!(
                "{} ({})",
                count(self.files.len(), "file"),
                kinds.join(", ")
            ));
        }
        parts.join(" and ")
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// Lists the pictures under `relative`, however deep; folders that cannot be read are skipped with the reason.
pub(super) fn walk(root: &Path, relative: &str) -> Listing {
    let mut listing = Listing::default();
    walk_into(root, relative, &mut Vec::new(), &mut listing);
    listing
}

/// `enclosing` holds the real paths of the folders around this one, so that links in a circle end.
fn walk_into(root: &Path, relative: &str, enclosing: &mut Vec<PathBuf>, listing: &mut Listing) {
    let mut skip = |reason: String| {
        listing.skipped.push(Skipped {
            file: relative.to_owned(),
            reason,
        });
    };
    let real = match root.join(relative).canonicalize() {
        Ok(real) => real,
        Err(e) => return skip(format!("it cannot be opened: {e}")),
    };
    if enclosing.contains(&real) {
        return skip("a link to a folder around it".to_owned());
    }
    if enclosing.len() >= DEPTH_MAX {
        return skip(format!("deeper than {DEPTH_MAX} folders"));
    }
    let folder = match Folder::read(root, relative) {
        Ok(folder) => folder,
        Err(DataError::Io { source, .. }) => return skip(format!("it cannot be opened: {source}")),
        Err(other) => return skip(other.to_string()),
    };
    listing.append(folder.listing());
    enclosing.push(real);
    for name in &folder.folders {
        walk_into(root, &join(relative, name), enclosing, listing);
    }
    enclosing.pop();
}

/// Tells by its extension whether a file is a picture, or why it is not.
pub(super) fn picture_reason(name: &str) -> Result<(), String> {
    let ext = extension(name);
    if PICTURE_EXTENSIONS.contains(&ext.as_str()) {
        Ok(())
    } else if ext.is_empty() {
        Err("not a picture: the name has no extension".to_owned())
    } else {
        Err(format!(
            "not a picture: .{ext} is none of {}",
            PICTURE_EXTENSIONS.join(", ")
        ))
    }
}

/// The extension in lower case, empty if there is none.
fn extension(name: &str) -> String {
    Path::new(name)
        .extension()
        .map(|ext| ext.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

fn join(relative: &str, name: &str) -> String {
    if relative.is_empty() {
        name.to_owned()
    } else {
        format!("{relative}/{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_extension() {
        for name in ["a.png", "a.b/c.JPG", "x.TiFf", "ü.webp"] {
            assert_eq!(picture_reason(name), Ok(()), "{name}");
        }
        for name in ["a.txt", "a", "png", "a.png.txt", "a.pngx"] {
            assert!(picture_reason(name).is_err(), "{name}");
        }
    }

    #[test]
    fn hidden_files_are_ignored_and_order_is_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.png",
            "B.png",
            "a10.png",
            "a9.png",
            ".hidden.png",
            "note.md",
        ] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        fs::create_dir(dir.path().join(".git")).unwrap();
        fs::create_dir(dir.path().join("__MACOSX")).unwrap();
        let folder = Folder::read(dir.path(), "").unwrap();
        let names: Vec<&str> = folder.files.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["B.png", "a10.png", "a9.png", "b.png", "note.md"]);
        assert_eq!(folder.describe(), "5 files (1 .md, 4 .png)");
        assert_eq!(folder.listing().pictures.len(), 4);
        assert_eq!(folder.listing().skipped[0].file, "note.md");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_and_broken_links_end() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/x.png"), "x").unwrap();
        symlink(dir.path().join("a"), dir.path().join("a/again")).unwrap();
        symlink(dir.path().join("nowhere"), dir.path().join("a/broken.png")).unwrap();
        let listing = walk(dir.path(), "a");
        assert_eq!(listing.pictures.len(), 1);
        let skipped: Vec<&str> = listing.skipped.iter().map(|s| s.file.as_str()).collect();
        assert_eq!(skipped, ["a/broken.png", "a/again"]);
    }

    #[test]
    fn very_deep_folders_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let deep = "d/".repeat(DEPTH_MAX + 1);
        fs::create_dir_all(dir.path().join(&deep)).unwrap();
        fs::write(dir.path().join(&deep).join("x.png"), "x").unwrap();
        let listing = walk(dir.path(), "d");
        assert!(listing.pictures.is_empty());
        assert!(
            listing.skipped[0].reason.contains("deeper"),
            "{:?}",
            listing.skipped
        );
    }
}
