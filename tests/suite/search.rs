//! Search and split work on the command line: shards, resuming after a kill, and what cannot be met.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{quantscope, root, sample, shared};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A model on a few pictures.
struct Task {
    model: PathBuf,
    eval: PathBuf,
    calib: PathBuf,
}

impl Task {
    /// A model on the bundled pictures.
    fn signs(model: PathBuf) -> Self {
        Self {
            model,
            eval: sample("signs/eval"),
            calib: sample("signs/calib"),
        }
    }

    fn command<'a>(&'a self, command: &'a str) -> Vec<&'a str> {
        vec![
            command,
            text(&self.model),
            "--data",
            text(&self.eval),
            "--calib",
            text(&self.calib),
            "--calib-samples",
            "32",
            "--limit",
            "48",
            "--quiet",
        ]
    }
}

#[track_caller]
fn run(arguments: &[&str]) -> String {
    let (code, out, err) = quantscope(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {err}");
    out
}

#[track_caller]
fn refused(arguments: &[&str], said: &str) {
    let (code, _, err) = quantscope(arguments);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains(said), "{err}");
}

#[test]
fn parts_of_a_sweep_are_merged_into_what_one_run_gives() {
    let folder = tempfile::tempdir().unwrap();
    let task = match (
        shared("data/models/resnet20-cifar10.onnx"),
        shared("data/cifar10/test"),
        shared("data/cifar10/calib"),
    ) {
        (Some(model), Some(eval), Some(calib)) => Task { model, eval, calib },
        _ => Task::signs(sample("signs-resnet.onnx")),
    };
    let mut arguments = task.command("sensitivity");
    arguments.extend(["--bits", "8,3", "--what", "both", "--batch", "16"]);
    let whole: Value = serde_json::from_str(&run(&[&arguments[..], &["--json"]].concat())).unwrap();
    let names: Vec<String> = (1..=4).map(|part| format!("{part}.json")).collect();
    let parts: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
    let merged = folder.path().join("merged.json");
    for (index, part) in parts.iter().enumerate() {
        if index == 3 {
            // Before the last part is there it is named.
            let early: Vec<&str> = parts[..3].iter().map(|part| text(part)).collect();
            let merge = [&["merge"], &early[..], &["--out", text(&merged)]].concat();
            refused(&merge, "parts are missing: 4/4");
        }
        let shard = format!("{}/4", index + 1);
        run(&[&arguments[..], &["--shard", &shard, "--out", text(part)]].concat());
    }
    let all: Vec<&str> = parts.iter().rev().map(|part| text(part)).collect();
    run(&[&["merge", "--quiet"], &all[..], &["--out", text(&merged)]].concat());
    let merged = json(&merged);
    for field in ["protocol", "what", "samples", "float", "layers"] {
        assert_eq!(merged[field], whole[field], "{field}");
    }
}

#[test]
fn an_interrupted_sweep_goes_on_and_parts_of_other_work_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-resnet.onnx"));
    let arguments = task.command("sensitivity");
    let sweep = [&arguments[..], &["--bits", "4", "--batch", "8"]].concat();
    let (kept, out) = (
        folder.path().join("kept.json"),
        folder.path().join("out.json"),
    );
    let with = |extra: &[&str]| {
        let keeps = ["--resume", text(&kept), "--out", text(&out)];
        run(&[&sweep[..], &keeps, extra].concat());
        json(&out)
    };
    let whole = with(&[]);
    // What an interrupted run leaves: the first half of the samples, with other counts than the rest.
    let mut stored = json(&kept);
    assert_eq!(stored["samples"], 48);
    stored["samples"] = 24.into();
    stored["total"] = 48.into();
    stored["float_batches"] = 3.into();
    for row in stored["cells"].as_array_mut().unwrap() {
        for cell in row.as_array_mut().unwrap() {
            cell["batches"] = 3.into();
        }
    }
    std::fs::write(&kept, stored.to_string()).unwrap();
    let resumed = with(&[]);
    let hits = |document: &Value| document["float"]["top1"].as_f64().unwrap();
    assert!(hits(&resumed) > 0.0 && whole["samples"] == resumed["samples"]);
    // 24 of 48 samples were counted again, on top of all 48.
    assert_eq!(json(&kept)["float"]["labelled"], 72);
    let other = [&arguments[..], &["--bits", "3", "--resume", text(&kept)]].concat();
    refused(&other, "another model, data, preprocessing or settings");
}

/// Starts the program, and kills it as soon as what it keeps in a file has come far enough.
#[track_caller]
fn kill_when(arguments: &[String], kept: &Path, is_far: impl Fn(&Value) -> bool) {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_quantscope"))
        .args(arguments)
        .current_dir(root())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let far = || {
        // The file is replaced as a whole, so it is never half-written.
        let Ok(text) = std::fs::read_to_string(kept) else {
            return false;
        };
        is_far(&serde_json::from_str(&text).unwrap())
    };
    while !far() && child.try_wait().unwrap().is_none() {
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "nothing is kept"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().ok();
    child.wait().unwrap();
    assert!(far());
}

#[test]
fn a_killed_sweep_goes_on_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-mobilenet.onnx"));
    let (killed, whole) = (
        folder.path().join("killed.json"),
        folder.path().join("whole.json"),
    );
    let sweep = |out: &Path| -> Vec<String> {
        let arguments = task.command("sensitivity");
        let rest = ["--bits", "8,4,3,2", "--batch", "4", "--out", text(out)];
        let all = arguments.iter().chain(&rest);
        all.map(|word| (*word).to_owned()).collect()
    };
    let finished = |out: &Path| {
        let arguments = sweep(out);
        run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        json(out)
    };
    let kept = folder.path().join("killed.json.progress");
    let samples = |stored: &Value| stored["samples"].as_u64().unwrap_or(0);
    kill_when(&sweep(&killed), &kept, |stored| samples(stored) > 0);
    assert!(!killed.exists(), "it was killed before its end");
    let before = samples(&json(&kept));
    assert!((1..48).contains(&before), "{before} samples");
    let (resumed, whole) = (finished(&killed), finished(&whole));
    assert_eq!(resumed["float"], whole["float"]);
    assert_eq!(resumed["layers"], whole["layers"]);
}

#[test]
fn a_killed_search_goes_on_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-mobilenet.onnx"));
    let arguments = task.command("search");
    let (killed, whole) = (
        folder.path().join("killed.json"),
        folder.path().join("whole.json"),
    );
    let search = |out: &Path| -> Vec<String> {
        let rest = ["--bits", "8,4,2", "--budget", "size=W4A8", "--plans", "30"];
        let rest = rest.iter().chain(&["--json", "--out"]);
        let all = arguments.iter().chain(rest).map(|word| (*word).to_owned());
        all.chain([text(out).to_owned()]).collect()
    };
    let state = folder.path().join("killed.json.search");
    let measured = |state: &Value| state["measured"].as_array().map_or(0, Vec::len);
    kill_when(&search(&killed), &state, |state| measured(state) >= 5);
    let document = |out: &Path| -> Value {
        let arguments = search(out);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        serde_json::from_str(&run(&arguments)).unwrap()
    };
    let (resumed, whole) = (document(&killed), document(&whole));
    for field in ["evaluated", "frontier", "chosen", "uniform"] {
        assert_eq!(resumed[field], whole[field], "{field}");
    }
    check_document(&whole);
    // The plan can be evaluated as it is.
    let eval_arguments = task.command("eval");
    let evaluated = run(&[&eval_arguments[..], &["--plan", text(&killed), "--json"]].concat());
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    let chosen = plan(&whole, whole["chosen"].as_str().unwrap());
    assert_eq!(evaluated["size_bytes"], chosen["size_bytes"]);
    assert_eq!(evaluated["plan"]["top1"], chosen["final"]["top1"]);
}

fn plan<'a>(document: &'a Value, id: &str) -> &'a Value {
    let plans = document["evaluated"].as_array().unwrap();
    plans.iter().find(|plan| plan["plan_id"] == id).unwrap()
}

/// The front holds against every uniform plan, and the chosen plan keeps its budget.
fn check_document(document: &Value) {
    let ids = |field: &str| -> Vec<&Value> {
        let ids = document[field].as_array().unwrap().iter();
        ids.map(|id| plan(document, id.as_str().unwrap())).collect()
    };
    let size = |plan: &Value| plan["size_bytes"].as_u64().unwrap();
    let kl = |plan: &Value| plan["measured"]["kl"].as_f64().unwrap();
    assert_eq!(ids("uniform").len(), 3);
    for uniform in ids("uniform") {
        let front = ids("frontier");
        let mut within = front.iter().filter(|plan| size(plan) <= size(uniform));
        assert!(
            within.any(|plan| kl(plan) <= kl(uniform)),
            "{}",
            uniform["name"]
        );
    }
    let w4 = *ids("uniform")
        .iter()
        .find(|plan| plan["name"] == "W4A8")
        .unwrap();
    let chosen = plan(document, document["chosen"].as_str().unwrap());
    assert!(size(chosen) <= size(w4) && kl(chosen) <= kl(w4));
    assert!(
        document["prediction_error"]["median_factor"]
            .as_f64()
            .unwrap()
            >= 1.0
    );
}

#[test]
fn plans_that_are_rounded_are_searched_by_layers_that_are_rounded() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-resnet.onnx"));
    let arguments = task.command("search");
    let search = |name: &str, more: &[&str]| -> Value {
        let out = folder.path().join(name);
        let rest = ["--bits", "8,4,2", "--budget", "size=W4A8", "--plans", "12"];
        let out = ["--json", "--out", text(&out)];
        serde_json::from_str(&run(&[&arguments[..], &rest, &out, more].concat())).unwrap()
    };
    let nearest = search("nearest.json", &[]);
    let rounded = search(
        "rounded.json",
        &[
            "--rounding",
            "gptq",
            "--correct",
            "bias,refit",
            "--calibrator",
            "auto",
        ],
    );
    check_document(&rounded);
    let predicted = |document: &Value| {
        let plans = document["evaluated"].as_array().unwrap();
        let uniform = plans.iter().find(|plan| plan["name"] == "W2A8").unwrap();
        uniform["predicted"]["harm"].as_f64().unwrap()
    };
    assert!(predicted(&rounded) < 0.5 * predicted(&nearest));
    // Every uniform plan is compared with what the front has at its size, on other samples.
    let compared = rounded["against_uniform"].as_array().unwrap();
    assert_eq!(compared.len(), 3);
    for one in compared {
        let harm = &one["harm"];
        let at = |field: &str| harm[field].as_f64().unwrap();
        assert!(at("low") <= at("mean") && at("mean") <= at("high"), "{one}");
        let is_itself = one["front"] == one["uniform"];
        assert!(
            !is_itself || at("mean") == 0.0 && at("high") == 0.0,
            "{one}"
        );
    }
}

#[test]
fn samples_that_round_weights_do_not_score_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("plan.json");
    let (model, data) = (sample("signs-mobilenet.onnx"), sample("signs/eval"));
    // Without a calibration folder the few samples that round are all there are.
    let arguments = ["search", text(&model), "--data", text(&data), "--limit"];
    let few = ["200", "--calib-samples", "24", "--bits", "8,3", "--json"];
    let budget = ["--budget", "size=W3A8", "--plans", "3", "--out", text(&out)];
    let rounding = ["--rounding", "gptq", "--correct", "bias,refit"];
    let (code, document, said) = quantscope(&[&arguments[..], &few, &budget, &rounding].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("each half is scored with weights that are rounded without it"));
    let document: Value = serde_json::from_str(&document).unwrap();
    for name in ["W8A8", "W3A8"] {
        let plans = document["evaluated"].as_array().unwrap();
        let plan = plans.iter().find(|plan| plan["name"] == name).unwrap();
        let decibel = |on: &str| plan[on]["sqnr_db"].as_f64().unwrap();
        // On the samples that it is rounded on, it seems to be 17 dB better than it is.
        let seems = decibel("measured") - decibel("final");
        assert!(seems < 3.0, "{name} seems {seems} dB better than it is");
    }
}

#[test]
fn parts_of_a_search_are_merged_and_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-resnet.onnx"));
    let arguments = task.command("search");
    let search = [&arguments[..], &["--bits", "8,4", "--budget", "size=40%"]].concat();
    let path = |name: &str| folder.path().join(name);
    let (one, two, whole, merged) = (path("1"), path("2"), path("w"), path("m"));
    for (shard, out) in [("1/2", &one), ("0/2", &two), ("1/1", &whole)] {
        run(&[
            &search[..],
            &["--shard", shard, "--out", text(out), "--plans", "14"],
        ]
        .concat());
    }
    run(&[
        "merge",
        "--quiet",
        text(&one),
        text(&two),
        "--out",
        text(&merged),
    ]);
    let measured = |path: &Path| json(path)["measured"].as_array().unwrap().clone();
    let (merged_plans, whole_plans) = (measured(&merged), measured(&path("w.search")));
    // One run goes on around the front after the plans that were shared out.
    let count = merged_plans.len().min(whole_plans.len());
    assert!(count >= 6, "{count} plans");
    assert_eq!(merged_plans[..count], whole_plans[..count]);
    let last = [
        &search[..],
        &["--resume", text(&merged), "--plans", "1", "--json"],
    ]
    .concat();
    let document = run(&[&last[..], &["--out", text(&path("plan.json"))]].concat());
    let document: Value = serde_json::from_str(&document).unwrap();
    assert!(document["evaluated"].as_array().unwrap().len() >= merged_plans.len());
    assert!(path("plan.json").exists());
}

#[test]
fn what_cannot_be_met_is_said_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(sample("signs-resnet.onnx"));
    let arguments = task.command("search");
    let out = folder.path().join("plan.json");
    let search = |extra: &[&'static str]| -> Vec<&str> {
        [&arguments[..], &["--out", text(&out)], extra].concat()
    };
    refused(
        &search(&["--budget", "bits=1.5"]),
        "smallest budget that can be met is 2 bits a weight",
    );
    refused(&search(&["--budget", "bits=x"]), "bits=2.5");
    refused(
        &search(&["--budget", "bits=3", "--bound", "nothing=2..4"]),
        "no layer matches the bound",
    );
    let locked = folder.path().join("plan.json");
    let export = [
        "export",
        text(&task.model),
        "--weights",
        "4",
        "--out",
        text(folder.path()),
    ];
    run(&export);
    let mut plan = json(&locked);
    for layer in plan["layers"].as_array_mut().unwrap() {
        layer["locked"] = true.into();
    }
    std::fs::write(&locked, plan.to_string()).unwrap();
    let with_plan = [
        &search(&["--budget", "bits=3"])[..],
        &["--plan", text(&locked)],
    ]
    .concat();
    refused(&with_plan, "every layer is locked");
    assert!(!folder.path().join("plan.json.search").exists());
}

#[test]
fn a_model_of_one_layer_is_searched_with_a_word_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let task = Task::signs(root().join("tests/golden/ops/conv_2d_depth_multiplier.onnx"));
    let mut arguments = task.command("search");
    arguments.retain(|word| *word != "--quiet");
    let out = folder.path().join("plan.json");
    let rest = ["--budget", "bits=5", "--bits", "8,4,3", "--out", text(&out)];
    let (code, printed, notes) = quantscope(&[&arguments[..], &rest].concat());
    assert_eq!(code, Some(0), "{notes}");
    assert!(printed.contains("Plan written"), "{printed}");
    for said in [
        "The model has one layer, so every plan is uniform",
        "All plans that the widths allow around the front are measured",
        "The model is no classifier",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    // The widest of the widths that keep the budget.
    assert_eq!(json(&out)["layers"][0]["weight"]["format"], "4");
}

#[test]
fn pictures_without_labels_are_searched_by_agreement() {
    let folder = tempfile::tempdir().unwrap();
    let (model, calib) = (sample("signs-mobilenet.onnx"), sample("signs/calib"));
    let flat = folder.path().join("flat");
    std::fs::create_dir(&flat).unwrap();
    for class in std::fs::read_dir(&calib).unwrap() {
        let class = class.unwrap();
        for picture in std::fs::read_dir(class.path()).unwrap().take(3) {
            let picture = picture.unwrap();
            let name = format!("{:?}-{:?}", class.file_name(), picture.file_name());
            let name = name.replace('"', "");
            std::fs::copy(picture.path(), flat.join(name)).unwrap();
        }
    }
    let out = folder.path().join("plan.json");
    let search = [
        "search",
        text(&model),
        "--data",
        text(&flat),
        "--bits",
        "8,4",
        "--plans",
        "8",
        "--budget",
        "drop=5",
        "--out",
        text(&out),
        "--json",
        "--calib-samples",
        "24",
    ];
    let (code, document, notes) = quantscope(&search);
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        notes.contains("agreement and KL against float stand in"),
        "{notes}"
    );
    let document: Value = serde_json::from_str(&document).unwrap();
    let chosen = plan(&document, document["chosen"].as_str().unwrap());
    assert!(chosen["measured"]["agreement"].as_f64().unwrap() >= 0.95);
    assert!(chosen["measured"].get("top1").is_none());
}
