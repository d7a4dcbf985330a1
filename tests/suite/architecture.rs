//! The layers depend on each other in one direction only.

use std::path::{Path, PathBuf};

use crate::common::root;

/// Layers from left to right; a layer may use those to its left. `data` and `jobs` may be used by all
/// that stand to the right of `quant`, `figure` by those that show or write results; it uses no other.
const LAYERS: [&str; 10] = [
    "model", "quant", "plan", "engine", "search", "export", "session", "cli", "ui", "main",
];

/// Which layers a layer may name.
fn allowed(layer: &str, other: &str) -> bool {
    if layer == other {
        return true;
    }
    let place = |name: &str| LAYERS.iter().position(|known| *known == name);
    match (layer, other) {
        ("data" | "jobs" | "figure", _)
        | ("model", "quant")
        | ("quant", "model")
        | ("search", "export")
        | ("cli", "ui")
        | ("ui", "cli") => false,
        (_, "figure") => place(layer) >= place("export"),
        (_, "data" | "jobs") => place(layer) >= place("engine"),
        _ => place(other) < place(layer),
    }
}

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The layer that a source file belongs to; `None` for the crate's root.
fn layer_of(file: &Path) -> Option<String> {
    let inner = file.strip_prefix(root().join("src")).unwrap();
    let first = inner.components().next()?.as_os_str().to_str()?.to_owned();
    match first.as_str() {
        "lib.rs" => None,
        "main.rs" => Some("main".to_owned()),
        _ => Some(first),
    }
}

/// The code of a file without comments and without its tests.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let product = text
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default();
    product
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn arrows_point_one_way() {
    let mut wrong = Vec::new();
    for file in source_files(&root().join("src")) {
        let Some(layer) = layer_of(&file) else {
            continue;
        };
        let text = code(&file);
        for other in LAYERS.iter().copied().chain(["data", "jobs", "figure"]) {
            if text.contains(&format!("crate::{other}::")) && !allowed(&layer, other) {
                wrong.push(format!("{} names {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn packages_stay_in_their_layers() {
    let mut wrong = Vec::new();
    for file in source_files(&root().join("src")) {
        let Some(layer) = layer_of(&file) else {
            continue;
        };
        let text = code(&file);
        let window = ["ui", "main"].contains(&layer.as_str());
        for package in ["egui", "eframe", "rfd"] {
            if text.contains(&format!("{package}::")) && !window {
                wrong.push(format!("{} uses {package}", file.display()));
            }
        }
        let without_tensors =
            ["quant", "plan", "ui", "data", "jobs", "figure"].contains(&layer.as_str());
        if text.contains("candle") && without_tensors {
            wrong.push(format!("{} uses candle", file.display()));
        }
        if layer == "ui" && text.contains("std::fs") {
            wrong.push(format!("{} reads or writes files", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_keep_to_one_subject() {
    let is_test = |file: &Path| {
        file.file_stem()
            .is_some_and(|stem| stem == "tests" || stem == "testing")
    };
    let long: Vec<String> = source_files(&root().join("src"))
        .into_iter()
        .filter(|file| !is_test(file))
        .filter_map(|file| {
            let lines = code(&file).lines().count();
            (lines > 600).then(|| format!("{}: {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these files: {long:#?}");
}

#[test]
fn the_top_level_is_as_agreed() {
    let expected = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "assets",
        "sample-models",
        "src",
        "tests",
    ];
    let mut found: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    assert_eq!(found, expected);
}
