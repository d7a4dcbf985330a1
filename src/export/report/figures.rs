//! Figures of a report.

use crate::engine::{LayerErrors, Sensitivity, SensitivityCell};
use crate::figure::{
    Axis, Bar, Cell, CellMap, Content, Figure, Ink, Marker, Plot, Ramp, Scale, Series, Shape,
};
use crate::model::Layer;
use crate::plan::{Plan, layer_cost};
use crate::quant::{Grid, Histogram, NumberFormat, SliceErrors};

/// Bars of a histogram on paper, about so many.
const BARS: usize = 96;
/// Grids with more levels are not drawn: they would be a solid block.
const MOST_LEVELS: usize = 64;

/// Errors of weights, inputs and outputs along the network.
pub(super) fn errors(layers: &[LayerErrors]) -> Figure {
    let series = |name: &str, index: usize, marker, value: &dyn Fn(&LayerErrors) -> Option<f64>| {
        let points = layers
            .iter()
            .enumerate()
            .filter_map(|(at, errors)| Some([at as f64 + 1.0, value(errors)?]));
        Series {
            name: name.to_owned(),
            ink: Ink::Series(index),
            shape: Shape::Line {
                points: points.collect(),
                marker: Some(marker),
            },
        }
    };
    let level = |errors: &Option<SliceErrors>| errors.as_ref().map(SliceErrors::sqnr_db);
    plot(
        "Error along the network",
        Axis::new("layer number", ""),
        Axis::new("SQNR", "dB"),
        vec![
            series("weight", 0, Marker::Circle, &|one| level(&one.weight)),
            series("input", 1, Marker::Square, &|one| level(&one.activation)),
            series(
                "output, with all errors before",
                2,
                Marker::Diamond,
                &|one| Some(one.output.sqnr_db()),
            ),
        ],
    )
}

/// Bytes of every layer as float and under the plan.
pub(super) fn sizes(layers: &[Layer], plan: &Plan) -> Figure {
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let bars = |height: &dyn Fn(usize) -> f64, half: f64| {
        let bars = (0..layers.len()).map(|at| Bar {
            x: [at as f64 + 1.0 - half, at as f64 + 1.0 + half],
            y: [0.0, height(at)],
        });
        Shape::Bars(bars.collect())
    };
    let float = |at: usize| kib(layers[at].parameters * 4);
    let planned = |at: usize| {
        let choice = plan.layers().get(at);
        choice.map_or(
            0.0,
            |choice| kib(layer_cost(&layers[at], choice).size_bytes),
        )
    };
    plot(
        "Size of each layer",
        Axis::new("layer number", ""),
        Axis::new("size", "KiB").including([0.0]),
        vec![
            Series {
                name: "float".to_owned(),
                ink: Ink::Weak,
                shape: bars(&float, 0.42),
            },
            Series {
                name: "plan".to_owned(),
                ink: Ink::Series(0),
                shape: bars(&planned, 0.3),
            },
        ],
    )
}

/// The values of a weight with the levels of the grid with the largest steps.
pub(super) fn weight(layer: &Layer, histogram: &Histogram, grids: &[Grid]) -> Figure {
    let mut series = vec![bars("weights", histogram)];
    let widest = grids.iter().max_by(|a, b| a.scale().total_cmp(&b.scale()));
    if let Some(grid) = widest.filter(|grid| grid.levels() as usize <= MOST_LEVELS) {
        let levels = (grid.q_min()..=grid.q_max()).map(|code| f64::from(grid.dequantize(code)));
        let name = if grids.len() == 1 {
            "levels"
        } else {
            "levels of the widest grid"
        };
        series.push(Series {
            name: name.to_owned(),
            ink: Ink::Series(1),
            shape: Shape::Uprights(levels.collect()),
        });
    }
    plot(
        &format!("Weight of {}", layer.name),
        Axis::new("weight", ""),
        counts(),
        series,
    )
}

/// The values of a layer's input with the range of its grid.
pub(super) fn input(layer: &Layer, histogram: &Histogram, grid: Option<&Grid>) -> Figure {
    let mut series = vec![bars("input", histogram)];
    if let Some(grid) = grid {
        let range = grid.range();
        series.push(Series {
            name: "range of the grid".to_owned(),
            ink: Ink::Accent,
            shape: Shape::Ends([range.min(), range.max()].map(f64::from)),
        });
    }
    plot(
        &format!("Input of {}", layer.name),
        Axis::new("input activation", ""),
        counts(),
        series,
    )
}

/// How much every layer hurts at every width: the loss of accuracy, or else the SQNR of the outputs.
pub(super) fn sensitivity(sweep: &Sensitivity, layers: &[Layer], plan: &Plan) -> Figure {
    let labelled = sweep.float.labelled > 0;
    let (quantity, unit) = if labelled {
        ("top-1 drop", "points")
    } else {
        ("SQNR", "dB")
    };
    let value = |cell: &SensitivityCell| {
        if labelled {
            Some(100.0 * cell.spread.accuracy_drop()?.value)
        } else {
            cell.comparison.sqnr_db()
        }
    };
    let all: Vec<f64> = sweep.cells.iter().flatten().filter_map(value).collect();
    let finite = all.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let shade = |value: f64| {
        let share = ((value - low) / (high - low).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
        if labelled { 1.0 - share } else { share }
    };
    let planned = |at: usize, width: NumberFormat| {
        plan.layers()
            .get(at)
            .is_some_and(|choice| choice.weight.format == width)
    };
    let cells = sweep.cells.iter().enumerate().flat_map(|(at, row)| {
        row.iter()
            .zip(&sweep.request.widths)
            .map(move |(cell, width)| {
                let value = value(cell);
                Cell {
                    value,
                    text: value.map_or_else(String::new, |value| format!("{value:.1}")),
                    shade: value.map_or(0.0, shade),
                    framed: planned(at, *width),
                }
            })
    });
    let names: Vec<String> = layers.iter().map(|layer| layer.name.clone()).collect();
    let widths = sweep.request.widths.iter().map(|width| width.to_string());
    Figure {
        title: format!(
            "Sensitivity to the width of {}",
            sweep.request.subject.name()
        ),
        note: String::new(),
        content: Content::Map(CellMap {
            rows: Axis::new("layer", "").with_names(names.into()),
            columns: Axis::new("width", "").with_names(widths.collect()),
            value: Axis::new(quantity, unit),
            cells: cells.collect(),
            ramp: Ramp::Sequential,
            ends: ["worse", "better"].map(str::to_owned),
            framed: "width of the plan".to_owned(),
        }),
    }
}

fn plot(title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Figure {
    Figure {
        title: title.to_owned(),
        note: String::new(),
        content: Content::Plot(Plot { x, y, series }),
    }
}

fn counts() -> Axis {
    Axis {
        scale: Scale::LogCount,
        ..Axis::new("count", "").including([0.0])
    }
}

fn bars(name: &str, histogram: &Histogram) -> Series {
    let neighbours = histogram.counts().len().div_ceil(BARS).max(1);
    let histogram = histogram.merged(neighbours);
    let width = histogram.bin_width().max(f64::MIN_POSITIVE);
    let bars = histogram.counts().iter().enumerate().map(|(bin, count)| {
        let start = histogram.bin_start(bin);
        Bar {
            x: [start, start + width],
            y: [0.0, *count as f64],
        }
    });
    Series {
        name: name.to_owned(),
        ink: Ink::Series(0),
        shape: Shape::Bars(bars.collect()),
    }
}
