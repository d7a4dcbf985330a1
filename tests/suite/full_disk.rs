//! Disks that are full or cannot be written to: what is there is whole, and what was there stays.

use std::path::Path;
use std::process::Command;

use crate::common::{quantscope, sample};

/// A small file system of its own, if this user may mount one; says so where not.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mounted(kilobytes: usize) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        if disk.mount(&format!("size={kilobytes}k")) {
            Some(disk)
        } else {
            println!("skipped: this user may not mount a tmpfs");
            None
        }
    }

    fn mount(&self, options: &str) -> bool {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "quantscope-test"])
            .arg(self.folder.path())
            .output();
        output.is_ok_and(|output| output.status.success())
    }

    /// Nothing can be written any more.
    fn make_read_only(&self) {
        assert!(self.mount("remount,ro"));
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.folder.path()).output().ok();
    }
}

/// Exports to a folder; the exit code and the message.
fn export(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let model = sample("signs-mobilenet.onnx").display().to_string();
    let folder = folder.display().to_string();
    let mut arguments = vec!["export", &model, "--out", &folder, "--quiet"];
    arguments.extend(["--weights", "8", "--activations", "f32"]);
    arguments.extend(more);
    let (code, _, error) = quantscope(&arguments);
    (code, error)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_gets_no_file_at_all() {
    // Enough for the model of some 40 kB, and not for the tables beside it.
    for kilobytes in [16, 52] {
        let Some(disk) = SmallDisk::mounted(kilobytes) else {
            return;
        };
        for target in ["generic", "onnxruntime", "tensorrt"] {
            let (code, error) = export(disk.path(), &["--target", target]);
            assert_eq!(code, Some(2), "{target}: {error}");
            assert!(error.contains("cannot write"), "{target}: {error}");
            assert!(error.contains("No space left"), "{target}: {error}");
            assert_eq!(names(disk.path()), [""; 0], "{target}");
        }
    }
}

#[test]
fn a_full_disk_keeps_what_is_to_be_replaced() {
    let Some(disk) = SmallDisk::mounted(400) else {
        return;
    };
    let (code, error) = export(disk.path(), &["--target", "onnxruntime"]);
    assert_eq!(code, Some(0), "{error}");
    let before = names(disk.path());
    let content = |name: &String| std::fs::read(disk.path().join(name)).unwrap();
    let old: Vec<Vec<u8>> = before.iter().map(content).collect();
    let filled = std::fs::write(disk.path().join("filler"), vec![0; 1 << 20]);
    assert!(filled.is_err(), "the disk is full");
    let (code, error) = export(disk.path(), &["--target", "onnxruntime", "--force"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("No space left"), "{error}");
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    assert_eq!(names(disk.path()), before);
    let new: Vec<Vec<u8>> = before.iter().map(content).collect();
    assert!(old == new, "the files are as they were");
}

#[test]
fn a_read_only_disk_is_told() {
    let Some(disk) = SmallDisk::mounted(400) else {
        return;
    };
    disk.make_read_only();
    for target in ["plan", "onnxruntime"] {
        let (code, error) = export(disk.path(), &["--target", target]);
        assert_eq!(code, Some(2), "{error}");
        assert!(
            error.contains("cannot write") && error.contains("Read-only"),
            "{error}"
        );
        assert_eq!(names(disk.path()), [""; 0]);
    }
    let below = disk.path().join("new").join("folder");
    let (code, error) = export(&below, &["--target", "onnxruntime"]);
    assert_eq!(code, Some(2), "{error}");
}

#[test]
fn files_that_are_there_stay_without_force() {
    // One file of a set is enough to refuse the set.
    for (target, name) in [
        ("plan", "plan.json"),
        ("onnxruntime", "signs-mobilenet-onnxruntime.overrides.json"),
        ("tensorrt", "signs-mobilenet-tensorrt.plan.json"),
        ("generic", "signs-mobilenet-generic.onnx"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, "mine").unwrap();
        let (code, error) = export(folder.path(), &["--target", target]);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(name) && error.contains("--force"), "{error}");
        assert_eq!(names(folder.path()), [name]);
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        let (code, error) = export(folder.path(), &["--target", target, "--force"]);
        assert_eq!(code, Some(0), "{error}");
        assert_ne!(std::fs::read(&file).unwrap(), b"mine");
    }
}
