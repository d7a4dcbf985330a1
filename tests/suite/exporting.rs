//! What the tests of exports share: interpreters, models with their data, plans.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{quantscope, sample, shared};

/// A Python interpreter that has the modules, of those that the variables name or that are on the path;
/// says so where there is none.
pub(crate) fn python_with(modules: &str, variables: &[&str]) -> Option<PathBuf> {
    let named = variables.iter().filter_map(std::env::var_os);
    let named = named.map(PathBuf::from);
    let on_path = ["python3", "python"].map(PathBuf::from);
    let found = named.chain(on_path).find(|python| {
        let import = format!("import {modules}");
        let output = Command::new(python).args(["-c", &import]).output();
        output.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        println!(
            "skipped: no Python interpreter with {modules}; name one in {}",
            variables[0]
        );
    }
    found
}

/// Runs a piece of Python, whose assertions are the test's, and gives what it prints.
#[track_caller]
pub(crate) fn script(python: &Path, code: &str, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .args(["-c", code])
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A model with its data.
pub(crate) struct Subject {
    pub(crate) model: PathBuf,
    pub(crate) options: Vec<String>,
}

pub(crate) fn bundled(model: &str) -> Subject {
    let data = |part: &str| sample("signs").join(part).display().to_string();
    let options = ["--data", &data("eval"), "--calib", &data("calib")];
    Subject {
        model: sample(model),
        options: options.map(str::to_owned).to_vec(),
    }
}

/// The file of a real model, and options of its data in which `@` stands for the folder of the data.
pub(crate) type Real = (&'static str, &'static str);

pub(crate) const CIFAR: &str = "--data @cifar10/test --calib @cifar10/calib --limit 500 --preprocess mean=.485,.456,.406;std=.229,.224,.225";
pub(crate) const RESNET20: Real = ("resnet20-cifar10.onnx", CIFAR);
pub(crate) const VIT: Real = (
    "vit-mnist.onnx",
    "--data @mnist/test --limit 400 --preprocess mean=.1307;std=.3081;channels=gray",
);
pub(crate) const DSCNN: Real = ("dscnn-kws.onnx", "--data @kws");
pub(crate) const WNET: Real = (
    "wnet-drive.onnx",
    "--data @drive --calib-samples 3 --limit 2 --preprocess unit",
);
pub(crate) const MOBILENET: Real = (
    "mobilenetv1-025-imagenet.onnx",
    "--data @imagenet500 --calib-samples 64 --limit 250 --preprocess imagenet",
);
pub(crate) const YOLOX: Real = (
    "yolox-nano-coco.onnx",
    "--data @coco128 --calib-samples 8 --limit 4 --preprocess raw;letterbox=114;channels=bgr",
);

/// A real model, if it is there.
pub(crate) fn real((model, options): Real) -> Option<Subject> {
    let folder = shared("data")?;
    let at = format!("{}/", folder.display());
    Some(Subject {
        model: folder.join("models").join(model),
        options: options
            .split_whitespace()
            .map(|option| option.replace('@', &at))
            .collect(),
    })
}

impl Subject {
    /// Exports to a folder and gives the report.
    #[track_caller]
    pub(crate) fn export(&self, target: &str, folder: &Path, more: &[&str]) -> Value {
        let (code, text, error) = self.command(target, folder, more);
        assert_eq!(code, Some(0), "{} {more:?}: {error}", self.model.display());
        serde_json::from_str(&text).unwrap()
    }

    /// Exit code, output and errors of an export.
    pub(crate) fn command(
        &self,
        target: &str,
        folder: &Path,
        more: &[&str],
    ) -> (Option<i32>, String, String) {
        let model = self.model.display().to_string();
        let folder = folder.display().to_string();
        let mut arguments = vec!["export", &model, "--target", target, "--out", &folder];
        arguments.extend(["--json", "--quiet"]);
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.extend(more);
        quantscope(&arguments)
    }
}

/// Whether integer kernels of this processor add up products of 8 bits whole.
///
/// Without VNNI those of x86-64 cut pairs of products to 16 bits. ONNX Runtime does so unless it is told
/// otherwise, and oneDNN, which `OpenVINO` computes with, halves weights or inputs instead
/// (<https://uxlfoundation.github.io/oneDNN/dev_guide_int8_computations.html>).
pub(crate) fn adds_products_whole() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512vnni")
            || std::arch::is_x86_feature_detected!("avxvnni")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        true
    }
}

pub(crate) fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(if *value == "inf" {
        f64::INFINITY
    } else {
        f64::NAN
    })
}

pub(crate) const W8A8: &[&str] = &["--weights", "8", "--activations", "8"];
pub(crate) const MIXED_8_4: &[&str] = &["--preset", "W8A8", "--set", "*2*=4/8"];
pub(crate) const MIXED_16_8: &[&str] = &["--preset", "W8A16", "--set", "*2*=8/8"];
