//! The report as a page that stands alone.

use std::path::Path;

use crate::common::{quantscope, sample};

/// Writes a report of the bundled `ResNet` and gives its text.
#[track_caller]
fn report(folder: &Path, more: &[&str]) -> String {
    let out = folder.join("report.html").display().to_string();
    let model = sample("signs-resnet.onnx").display().to_string();
    let mut arguments = vec!["report", &model, "--out", &out, "--quiet", "--force"];
    arguments.extend(more);
    let (code, text, error) = quantscope(&arguments);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(text.trim(), out);
    std::fs::read_to_string(&out).unwrap()
}

fn data() -> [String; 4] {
    let folder = |part: &str| sample("signs").join(part).display().to_string();
    [
        "--data".to_owned(),
        folder("eval"),
        "--calib".to_owned(),
        folder("calib"),
    ]
}

/// Tags that are opened and not closed, or closed and not opened.
fn unbalanced(page: &str) -> Vec<String> {
    let mut open: Vec<String> = Vec::new();
    let mut wrong = Vec::new();
    for tag in page.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric())
            .collect();
        let is_void =
            ["meta", "br"].contains(&name.as_str()) || tag.ends_with('/') || tag.starts_with('!');
        if tag.starts_with('/') {
            if open.pop() != Some(name.clone()) {
                wrong.push(name);
            }
        } else if !is_void {
            open.push(name);
        }
    }
    wrong.extend(open);
    wrong
}

#[test]
fn the_page_has_everything_in_itself() {
    let folder = tempfile::tempdir().unwrap();
    let data = data();
    let mut more: Vec<&str> = data.iter().map(String::as_str).collect();
    more.extend([
        "--limit",
        "60",
        "--preset",
        "W4A8",
        "--sensitivity",
        "8,2",
        "--target",
        "openvino",
    ]);
    let page = report(folder.path(), &more);
    assert_eq!(unbalanced(&page), [""; 0]);
    for outside in [
        "<script", "<link", "<img", "@import", "url(http", "src=", "href=",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    let addresses = page.matches("http").count();
    assert_eq!(
        addresses,
        page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
    );
    for part in [
        "<title>Quantization of signs-resnet.onnx</title>",
        "Top-1, float",
        "95 % interval",
        "Along the network",
        "changes that the target needs",
        "OpenVINO takes",
        "Sensitivity",
        "Layers with the largest errors of their own",
        "Preprocessing",
        "SHA-256 of the model",
        "quantscope report",
        "--sensitivity 8,2",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let figures = page.matches("<figure>").count();
    assert_eq!(page.matches("role=\"img\"").count(), figures);
    assert!(figures >= 6, "{figures} figures");
    let mut areas: Vec<&str> = page
        .split("<clipPath id=\"")
        .skip(1)
        .filter_map(|area| area.split('"').next())
        .collect();
    let count = areas.len();
    areas.sort_unstable();
    areas.dedup();
    assert_eq!(areas.len(), count, "ids of clip paths");
}

/// Every layer stands in the table, with and without data.
#[test]
fn without_data_the_plan_itself_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let page = report(folder.path(), &["--weights", "4", "--set", "*conv1*=8/f32"]);
    assert!(page.contains("No data was given"), "{page}");
    assert!(!page.contains("Top-1"), "{page}");
    let model = sample("signs-resnet.onnx").display().to_string();
    let (_, info, _) = quantscope(&["info", &model, "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    for layer in info["layers"].as_array().unwrap() {
        let row = format!("<th scope=\"row\">{}<br>", layer["name"].as_str().unwrap());
        assert_eq!(page.matches(&row).count(), 1, "{row}");
    }
}

#[test]
fn a_report_that_is_there_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    report(folder.path(), &[]);
    let out = folder.path().join("report.html").display().to_string();
    let model = sample("signs-resnet.onnx").display().to_string();
    let (code, _, error) = quantscope(&["report", &model, "--out", &out]);
    assert_eq!(code, Some(2));
    assert!(
        error.contains("report.html") && error.contains("--force"),
        "{error}"
    );
}
