//! Sections of a report, in the order of the page.

use super::html::{Page, TableCell};
use super::{ReportSubject, figures};
use crate::engine::{LayerErrors, quantize_layer_weight, weight_values};
use crate::model::Layer;
use crate::plan::{LayerPlan, Part, layer_cost};
use crate::quant::{NumberFormat, QuantSpec, Scheme, SliceErrors, histogram};

/// Layers whose distributions are shown.
const WORST_LAYERS: usize = 3;
/// Bins of a weight's distribution.
const BINS: usize = 96;

/// The numbers that matter most.
pub(super) fn summary(page: &mut Page, subject: &ReportSubject<'_>) {
    let metadata = subject.graph.metadata();
    let what = match &metadata.architecture {
        Some(architecture) => format!("{architecture}, {} layers", subject.layers.len()),
        None => format!("{} layers", subject.layers.len()),
    };
    let simulated = subject.target.as_ref().map_or_else(String::new, |target| {
        format!("; as {} computes it", target.profile.label)
    });
    page.paragraph(&format!("{what}{simulated}"));
    let mut numbers = Vec::new();
    if let Some(evaluation) = subject.evaluation {
        if let (Some(float), Some(plan)) = (evaluation.float.top1(), evaluation.plan.top1()) {
            let interval = |counts: &crate::engine::Classification| {
                counts
                    .top1_interval()
                    .map_or_else(String::new, |(low, high)| {
                        format!("95 % interval {:.2} to {:.2} %", 100.0 * low, 100.0 * high)
                    })
            };
            numbers.push([
                "Top-1, float".to_owned(),
                percent(float),
                interval(&evaluation.float),
            ]);
            numbers.push([
                "Top-1, plan".to_owned(),
                percent(plan),
                interval(&evaluation.plan),
            ]);
            let change = 100.0 * (plan - float);
            numbers.push([
                "Change".to_owned(),
                format!("{} points", signed(change)),
                format!("on {} labelled samples", evaluation.plan.labelled),
            ]);
        }
        if let Some(agreement) = evaluation.comparison.agreement() {
            let note = format!("same class on {} samples", evaluation.samples);
            numbers.push(["Agreement with float".to_owned(), percent(agreement), note]);
        }
        if let Some(db) = evaluation.comparison.sqnr_db() {
            let note = "signal to noise of the outputs".to_owned();
            numbers.push([
                "Output SQNR".to_owned(),
                format!("{} dB", decibels(db)),
                note,
            ]);
        }
    }
    numbers.extend(size_numbers(subject));
    page.numbers(&numbers);
    if subject.evaluation.is_none() {
        page.paragraph(
            "No data was given, so that neither accuracy nor errors of activations were measured.",
        );
    }
}

fn size_numbers(subject: &ReportSubject<'_>) -> Vec<[String; 3]> {
    let cost = &subject.cost;
    let file = subject.target.as_ref().and_then(|target| target.file_bytes);
    let size = file.unwrap_or(cost.size_bytes);
    let smaller = cost.float_size_bytes as f64 / size.max(1) as f64;
    let what = if file.is_some() { "file" } else { "parameters" };
    vec![
        [
            "Size".to_owned(),
            bytes(size),
            format!(
                "{what}; float {}, {smaller:.1} times as much",
                bytes(cost.float_size_bytes)
            ),
        ],
        [
            "Average width".to_owned(),
            format!("{:.2} bits", cost.average_weight_bits),
            format!(
                "of weights; inputs {:.2} bits",
                cost.average_activation_bits
            ),
        ],
    ]
}

/// Errors and sizes along the network.
pub(super) fn course(page: &mut Page, subject: &ReportSubject<'_>) {
    page.heading("Along the network");
    if let Some(evaluation) = subject.evaluation {
        page.figure(
            &figures::errors(&evaluation.layers),
            "Signal-to-quantization-noise ratio of each layer; higher is better. Tensors that stay float have no point. Numbers are those of the table of layers.",
        );
    }
    page.figure(
        &figures::sizes(subject.layers, subject.plan),
        "Weights with scales, zero points and biases, as float and under the plan.",
    );
}

/// What the target changed.
pub(super) fn target(page: &mut Page, subject: &ReportSubject<'_>) {
    let Some(target) = &subject.target else {
        return;
    };
    page.heading("Target");
    page.paragraph(&format!(
        "{}: {}.",
        target.profile.label, target.profile.description
    ));
    if target.changes.is_empty() {
        page.paragraph("It takes the plan as it was chosen.");
        return;
    }
    let rows: Vec<Vec<TableCell>> = target
        .changes
        .iter()
        .map(|change| {
            let layer = subject.layers.get(change.layer.index());
            let name = layer.map(|layer| layer.name.clone()).unwrap_or_default();
            let part = match change.part {
                Part::Weight => "weight",
                Part::Activation => "input",
            };
            vec![
                TableCell::Head(name, part.to_owned()),
                TableCell::Words(change.from.clone()),
                TableCell::Words(change.to.clone()),
                TableCell::Words(change.reason.clone()),
            ]
        })
        .collect();
    let caption = format!("{} changes that the target needs", rows.len());
    page.table(&caption, &["Layer", "Chosen", "Instead", "Why"], &rows);
}

/// Every layer with its widths, bytes and errors.
pub(super) fn plan_table(page: &mut Page, subject: &ReportSubject<'_>) {
    page.heading("Layers");
    let errors = |at: usize| subject.evaluation.and_then(|one| one.layers.get(at));
    let rows: Vec<Vec<TableCell>> = subject
        .layers
        .iter()
        .zip(subject.plan.layers())
        .enumerate()
        .map(|(at, (layer, choice))| {
            let rounding = subject.roundings.get(at).and_then(Option::as_deref);
            plan_row(at, layer, choice, errors(at), rounding)
        })
        .collect();
    page.table(
        "The plan; SQNR in dB, higher is better: of the weight, of the quantized input as it arrives, and of the output with all errors before it",
        &["No.", "Layer", "Weight", "Input", "Size", "Weight dB", "Input dB", "Output dB"],
        &rows,
    );
}

fn plan_row(
    at: usize,
    layer: &Layer,
    choice: &LayerPlan,
    errors: Option<&LayerErrors>,
    rounding: Option<&str>,
) -> Vec<TableCell> {
    let shape: Vec<String> = layer.weight_shape.iter().map(ToString::to_string).collect();
    let mut weight = format_words(&choice.weight, true);
    if let Some(rounding) = rounding {
        weight = format!("{weight}, rounded by {rounding}");
    }
    let level = |slice: Option<&SliceErrors>| {
        TableCell::Number(slice.map_or_else(|| "–".to_owned(), |one| decibels(one.sqnr_db())))
    };
    let output = errors.map_or_else(|| "–".to_owned(), |one| decibels(one.output.sqnr_db()));
    vec![
        TableCell::Number((at + 1).to_string()),
        TableCell::Head(
            layer.name.clone(),
            format!("{} {}", layer.op, shape.join("×")),
        ),
        TableCell::Words(weight),
        TableCell::Words(format_words(&choice.activation, false)),
        TableCell::Number(bytes(layer_cost(layer, choice).size_bytes)),
        level(errors.and_then(|one| one.weight.as_ref())),
        level(errors.and_then(|one| one.activation.as_ref())),
        TableCell::Number(output),
    ]
}

/// A choice in words: `4-bit per-channel`, `8-bit mse`.
fn format_words(spec: &QuantSpec, is_weight: bool) -> String {
    let NumberFormat::Int(bits) = spec.format else {
        return spec.format.to_string();
    };
    let mut words = vec![format!("{bits}-bit")];
    let usual = if is_weight {
        Scheme::Symmetric
    } else {
        Scheme::Asymmetric
    };
    if spec.scheme != usual {
        words.push(spec.scheme.to_string());
    }
    if is_weight {
        words.push(spec.granularity.to_string());
    }
    match spec.range_override {
        Some(range) => words.push(format!("{} to {}", range.min(), range.max())),
        None if !is_weight || spec.calibrator.to_string() != "minmax" => {
            words.push(spec.calibrator.to_string());
        }
        None => {}
    }
    words.join(" ")
}

/// The map of a sweep.
pub(super) fn sensitivity(page: &mut Page, subject: &ReportSubject<'_>) {
    let Some(sweep) = subject.sensitivity else {
        return;
    };
    page.heading("Sensitivity");
    let figure = figures::sensitivity(sweep, subject.layers, subject.plan);
    let caption = format!(
        "Each layer at each width ({}), measured on {} samples.",
        sweep.request.protocol.name(),
        sweep.samples
    );
    page.figure(&figure, &caption);
}

/// Distributions of the layers with the largest errors of their own.
pub(super) fn worst_layers(page: &mut Page, subject: &ReportSubject<'_>) {
    let worst = worst(subject);
    if worst.is_empty() {
        return;
    }
    page.heading("Layers with the largest errors of their own");
    page.paragraph("Those whose weight or input loses most when it is quantized, the worst first. Counts are on a logarithmic axis.");
    for at in worst {
        let (Some(layer), Some(choice)) = (subject.layers.get(at), subject.plan.layers().get(at))
        else {
            continue;
        };
        weight_figure(page, subject, at, layer, choice);
        input_figure(page, subject, at, layer);
    }
}

/// Indices of the layers with the lowest SQNR of weight or input.
fn worst(subject: &ReportSubject<'_>) -> Vec<usize> {
    let own = |errors: &LayerErrors| {
        let parts = [&errors.weight, &errors.activation];
        let levels = parts.into_iter().flatten().map(SliceErrors::sqnr_db);
        levels.fold(f64::INFINITY, f64::min)
    };
    let layers = subject.evaluation.iter().flat_map(|one| &one.layers);
    let mut levels: Vec<(usize, f64)> = layers
        .map(own)
        .enumerate()
        .filter(|(_, level)| level.is_finite())
        .collect();
    levels.sort_by(|a, b| a.1.total_cmp(&b.1));
    levels
        .into_iter()
        .take(WORST_LAYERS)
        .map(|(at, _)| at)
        .collect()
}

fn weight_figure(
    page: &mut Page,
    subject: &ReportSubject<'_>,
    at: usize,
    layer: &Layer,
    choice: &LayerPlan,
) {
    let Ok(values) = weight_values(subject.graph, layer) else {
        return;
    };
    let Some(histogram) = histogram(&values, BINS) else {
        return;
    };
    // Rounding on data moves the scales, so that these levels would be others.
    let grids = if choice.rounds_on_data() {
        Vec::new()
    } else {
        quantize_layer_weight(layer, &values, &choice.weight)
            .map(|weight| weight.grids)
            .unwrap_or_default()
    };
    let caption = format!(
        "Layer {}: weight, {}.",
        at + 1,
        format_words(&choice.weight, true)
    );
    page.figure(&figures::weight(layer, &histogram, &grids), &caption);
}

fn input_figure(page: &mut Page, subject: &ReportSubject<'_>, at: usize, layer: &Layer) {
    let observer = subject
        .ranges
        .and_then(|ranges| ranges.observer(layer.input));
    let Some(histogram) = observer.and_then(|observer| observer.histogram()) else {
        return;
    };
    let layers = subject.prepared.map(|prepared| prepared.layers());
    let one = layers.and_then(|layers| layers.get(at));
    let grid = one.and_then(|one| one.activation.grid());
    let caption = format!(
        "Layer {}: input on the calibration samples, with the ends of its grid.",
        at + 1
    );
    page.figure(&figures::input(layer, histogram, grid), &caption);
}

/// Where the numbers come from, and how to get them again.
pub(super) fn provenance(page: &mut Page, subject: &ReportSubject<'_>) {
    page.heading("How it was measured");
    let metadata = subject.graph.metadata();
    let mut facts = vec![
        ("Model", metadata.name.clone()),
        ("SHA-256 of the model", metadata.sha256.clone()),
        ("Fingerprint of the plan", subject.plan.fingerprint().0),
    ];
    if let Some(data) = &subject.data {
        facts.push(("Evaluation data", data.evaluation.clone()));
        if let Some(evaluation) = subject.evaluation {
            facts.push(("Evaluation samples", evaluation.samples.to_string()));
        }
        let folder = data.calibration.clone();
        let folder = folder
            .unwrap_or_else(|| "a part of the evaluation data that is not evaluated".to_owned());
        facts.push(("Calibration data", folder));
        facts.push(("Calibration samples", data.calibration_samples.to_string()));
        let preprocessing = match &data.guess {
            Some(why) => format!("{} (guessed: {why})", data.preprocessing),
            None => data.preprocessing.clone(),
        };
        facts.push(("Preprocessing", preprocessing));
        facts.push(("Calibrators of inputs", calibrators(subject)));
        facts.push(("Seed", data.seed.to_string()));
        if data.skipped > 0 {
            facts.push(("Samples that could not be read", data.skipped.to_string()));
        }
        facts.push(("Fingerprint of the data", data.fingerprint.0.clone()));
    }
    facts.push((
        "Program",
        format!("Quantscope {}", env!("CARGO_PKG_VERSION")),
    ));
    page.facts(&facts);
    if let Some(command) = &subject.command {
        page.paragraph("This command writes the report again:");
        page.code(command);
    }
}

/// The calibrators of quantized inputs, each once.
fn calibrators(subject: &ReportSubject<'_>) -> String {
    let mut names: Vec<String> = Vec::new();
    for choice in subject.plan.layers() {
        let name = choice.activation.calibrator.to_string();
        if !choice.activation.format.is_float() && !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        "none: inputs stay float".to_owned()
    } else {
        names.join(", ")
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A number with its sign, with a real minus.
fn signed(value: f64) -> String {
    let text = format!("{value:+.2}");
    if matches!(text.as_str(), "+0.00" | "-0.00") {
        return "0.00".to_owned();
    }
    text.replace('-', "−")
}

/// A level with one decimal; no error at all is ∞.
fn decibels(level: f64) -> String {
    if level.is_nan() {
        "–".to_owned()
    } else if level.is_infinite() {
        if level > 0.0 { "∞" } else { "−∞" }.to_owned()
    } else {
        format!("{level:.1}").replace('-', "−")
    }
}

/// Bytes with a binary unit.
fn bytes(value: u64) -> String {
    match value {
        large if large >= 1 << 20 => format!("{:.2} MiB", large as f64 / f64::from(1 << 20)),
        middle if middle >= 1 << 10 => format!("{:.1} KiB", middle as f64 / 1024.0),
        small => format!("{small} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [signed(-1.234), signed(0.5), signed(-0.001)],
            ["−1.23", "+0.50", "0.00"]
        );
        assert_eq!([decibels(f64::INFINITY), decibels(-3.04)], ["∞", "−3.0"]);
        assert_eq!(
            [bytes(500), bytes(2048), bytes(3 << 20)],
            ["500 B", "2.0 KiB", "3.00 MiB"]
        );
    }

    #[test]
    fn choices_are_told_in_words() {
        let mut spec = QuantSpec::weight("4".parse().unwrap());
        assert_eq!(format_words(&spec, true), "4-bit per-channel");
        spec.scheme = Scheme::Asymmetric;
        assert_eq!(format_words(&spec, true), "4-bit asymmetric per-channel");
        let input = QuantSpec::activation("8".parse().unwrap());
        assert_eq!(
            format_words(&input, false),
            format!("8-bit {}", input.calibrator)
        );
        let float = QuantSpec::weight("bf16".parse().unwrap());
        assert_eq!(format_words(&float, true), "bf16");
    }
}
