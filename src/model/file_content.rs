//! The content of a model file, mapped into memory where it is large.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;
use prost::bytes::Bytes;

/// A file of at least this many bytes is mapped; a smaller one is read in milliseconds, and may then
/// be replaced by the next export of the network while the first is still open.
const MAPPED_FROM_BYTES: u64 = 16 << 20;

/// All of a file, or a part of it, without a copy for each part.
///
/// What is mapped and not looked at takes no memory. The price is that the file must stay as it is
/// for as long as a part of it is held. Every [`read`](Self::read) therefore asks for its length and
/// time of change, and refuses a file that was written to: no number of another network is ever taken
/// for one of this. A file that was deleted, or replaced under its name, stays readable.
#[derive(Clone)]
pub(super) struct FileContent {
    bytes: Bytes,
    mapped: Option<Arc<MappedFile>>,
}

/// A file that is mapped, as it was then.
struct MappedFile {
    file: File,
    state: FileState,
}

#[derive(PartialEq, Eq)]
struct FileState {
    len: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}

impl FileContent {
    /// Opens a file, and reads it unless it is large.
    ///
    /// # Errors
    /// The path is not one of a file, such as a folder or a pipe; or what the system reports.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("the path is not a file"));
        }
        let mut file = File::open(path)?;
        let state = FileState::of(&file)?;
        if state.len < MAPPED_FROM_BYTES {
            let mut bytes = Vec::with_capacity(state.len as usize);
            file.read_to_end(&mut bytes)?;
            return Ok(Self::from(Bytes::from(bytes)));
        }
        Ok(Self {
            bytes: Bytes::from_owner(mapped(&file)?),
            mapped: Some(Arc::new(MappedFile { file, state })),
        })
    }

    /// The bytes, for those who check with [`Self::read`] or [`Self::check`] what they made of them.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A part of this file, given as a slice of [`Self::bytes`].
    pub(super) fn part(&self, bytes: Bytes) -> Self {
        Self {
            bytes,
            mapped: self.mapped.clone(),
        }
    }

    /// What `look` makes of the bytes, which are those that were there on opening.
    ///
    /// # Errors
    /// The file was written to since it was opened, or its state is not known.
    pub(super) fn read<T>(&self, look: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        self.check()?;
        let seen = look(&self.bytes);
        self.check()?;
        Ok(seen)
    }

    /// Makes sure that the file is still what it was.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.mapped {
            Some(mapped) if FileState::of(&mapped.file)? != mapped.state => Err(io::Error::other(
                "another program wrote to the model file after it was opened; open the model again",
            )),
            _ => Ok(()),
        }
    }
}

/// Bytes that lie in memory of their own.
impl From<Bytes> for FileContent {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            mapped: None,
        }
    }
}

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileContent")
            .field("len", &self.bytes.len())
            .field("mapped", &self.mapped.is_some())
            .finish()
    }
}

#[expect(unsafe_code, reason = "a mapped file can be changed by other programs")]
fn mapped(file: &File) -> io::Result<Mmap> {
    // SAFETY: Nothing in this program writes to a model file that it reads, and the mapping is
    // read-only. Another program may write, which no lock prevents on all systems. Then the bytes
    // change while they are looked at: every reader of them takes any bytes at all, because a file
    // may hold any, and `FileContent::read` throws away what was made of changed ones. A file that
    // another program cuts short during such a look ends this one by a signal, as it does every
    // program that maps files; between looks, `FileContent::read` reports it.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LARGE: usize = MAPPED_FROM_BYTES as usize + 3;

    /// A file of `len` bytes 0, 1, …, 250, 0, ….
    fn file(folder: &Path, len: usize) -> std::path::PathBuf {
        let path = folder.join(format!("{len}"));
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn large_files_are_mapped_and_all_are_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (len, is_mapped) in [(0, false), (1000, false), (LARGE, true)] {
            let path = file(folder.path(), len);
            let content = FileContent::open(&path).unwrap();
            assert_eq!(content.mapped.is_some(), is_mapped, "{len}");
            assert_eq!(*content.bytes(), fs::read(&path).unwrap(), "{len}");
            let part = content.part(content.bytes().slice(len / 2..));
            let last = part.read(|bytes| bytes.last().copied()).unwrap();
            assert_eq!(last, len.checked_sub(1).map(|at| (at % 251) as u8), "{len}");
        }
        for path in [folder.path().to_owned(), folder.path().join("none")] {
            assert!(FileContent::open(&path).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_refused() {
        type Change = fn(&Path) -> io::Result<()>;
        let changes: [(&str, Change); 4] = [
            ("cut short", |path| {
                File::options().write(true).open(path)?.set_len(100)
            }),
            ("emptied", |path| File::create(path).map(drop)),
            ("longer", |path| {
                let longer = MAPPED_FROM_BYTES + 1000;
                File::options().write(true).open(path)?.set_len(longer)
            }),
            ("as long as before", |path| {
                let file = File::options().write(true).open(path)?;
                file.set_modified(file.metadata()?.modified()? + Duration::from_secs(1))
            }),
        ];
        for (name, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            let path = file(folder.path(), LARGE);
            let content = FileContent::open(&path).unwrap();
            let part = content.part(content.bytes().slice(LARGE - 10..));
            assert!(part.check().is_ok(), "{name}");
            change(&path).unwrap();
            let error = part.read(<[u8]>::to_vec).expect_err(name).to_string();
            assert!(error.contains("open the model again"), "{name}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_replaced_or_deleted_is_still_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), LARGE);
        let content = FileContent::open(&path).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "a new export").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(content.read(<[u8]>::len).unwrap(), LARGE);
        fs::remove_file(&path).unwrap();
        assert_eq!(content.read(|bytes| bytes[252]).unwrap(), 1);
    }
}
