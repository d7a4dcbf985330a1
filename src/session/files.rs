//! Reading and writing whole files.

use std::io::Write as _;
use std::path::Path;

use super::error::SessionError;

/// Largest JSON file that is read, in bytes.
const LARGEST_TEXT: u64 = 256 << 20;

/// Writes a file so that it is either there whole or as it was before.
///
/// # Errors
/// [`SessionError::Write`] names the file.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), SessionError> {
    write_together(&[(path, content)])
}

/// Writes files so that all of them are there whole, or all as they were before.
///
/// Every content is on the disk before the first file gets its name, so that a full disk changes none.
///
/// # Errors
/// [`SessionError::Write`] names the first file that could not be written.
pub(super) fn write_together(files: &[(&Path, &[u8])]) -> Result<(), SessionError> {
    let failed = |path: &Path, source| SessionError::Write {
        path: path.to_owned(),
        source,
    };
    let mut written = Vec::with_capacity(files.len());
    for (path, content) in files {
        let file = unnamed(path, content).map_err(|error| failed(path, error))?;
        written.push((path, file));
    }
    for (path, file) in written {
        file.persist(path)
            .map_err(|error| failed(path, error.error))?;
    }
    Ok(())
}

/// The content in a file beside its place, which goes away with the value.
fn unnamed(path: &Path, content: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".quantscope-");
    // Not for its owner alone, as temporary files are, but as the user's mask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Reads a text file of bounded length.
pub(super) fn read_text(path: &Path) -> Result<String, SessionError> {
    let failed = |source| SessionError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_TEXT {
        return Err(SessionError::Malformed {
            path: path.to_owned(),
            reason: format!("the file has {length} bytes, more than a plan or project ever has"),
        });
    }
    std::fs::read_to_string(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let beyond = folder.path().join("missing").join("plan.json");
        let error = write_atomically(&beyond, b"x").unwrap_err().to_string();
        assert!(error.contains("plan.json"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
