//! The numbers of a layer as text, for a spreadsheet.

use crate::model::Layer;
use crate::plan::LayerPlan;
use crate::session::{ActivationInspection, Inspection};

/// Lines of values separated by tabs: single numbers, then a table of the weight's channels.
///
/// Values are written in full, without units beside them; the names tell the unit.
pub(super) fn numbers_as_text(
    layer: &Layer,
    choice: &LayerPlan,
    inspection: &Inspection,
) -> String {
    let mut lines = vec![
        line("layer", &layer.name),
        line("operator", &layer.op),
        line("weight format", choice.weight.format),
        line("activation format", choice.activation.format),
    ];
    let weight = &inspection.weight;
    if let Some(statistics) = &weight.statistics {
        lines.extend([
            line("weight min", statistics.min),
            line("weight max", statistics.max),
            line("weight mean", statistics.mean),
            line("weight std", statistics.std),
            line("weight kurtosis", statistics.kurtosis),
        ]);
    }
    if let Some(errors) = &weight.errors {
        lines.extend([
            line("weight SQNR dB", errors.sqnr_db()),
            line("weight saturated share", errors.saturation()),
            line("weight max error", errors.max_abs_error),
        ]);
    }
    if let Some(rounded) = &inspection.rounded {
        let [nearest, now] = rounded.output_sqnr_db;
        lines.extend([
            line("weight rounding", &rounded.method),
            line("output SQNR dB, nearest", nearest),
            line("output SQNR dB, rounded", now),
            line("weight SQNR dB, nearest", rounded.nearest_errors.sqnr_db()),
        ]);
    }
    if let Some(levels) = weight.levels {
        lines.push(line("weight levels used", levels.used));
        lines.push(line("weight levels available", levels.available));
    }
    if let Some(activation) = &inspection.activation {
        lines.extend(activation_lines(activation));
    }
    lines.push(String::new());
    lines.push("channel\tmin\tmax\tscale\tSQNR dB\tsaturated share".to_owned());
    for (index, channel) in weight.channels.iter().enumerate() {
        let scale = channel.scale.map(|scale| scale.to_string());
        let errors = channel
            .errors
            .map(|errors| (errors.sqnr_db(), errors.saturation()));
        let (sqnr_db, saturation) = errors.unzip();
        let shown = |number: Option<f64>| number.map(|number| number.to_string());
        lines.push(format!(
            "{index}\t{}\t{}\t{}\t{}\t{}",
            channel.range.min(),
            channel.range.max(),
            scale.unwrap_or_default(),
            shown(sqnr_db).unwrap_or_default(),
            shown(saturation).unwrap_or_default(),
        ));
    }
    lines.join("\n") + "\n"
}

fn activation_lines(activation: &ActivationInspection) -> Vec<String> {
    let mut lines = vec![
        line("activation observed min", activation.observed.min()),
        line("activation observed max", activation.observed.max()),
        line("activation clip min", activation.clip.min()),
        line("activation clip max", activation.clip.max()),
        line("activation clipped share", activation.clipped),
    ];
    if let Some(grid) = &activation.grid {
        lines.push(line("activation scale", grid.scale()));
        lines.push(line("activation zero point", grid.zero_point()));
    }
    lines
}

fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}\t{value}")
}
