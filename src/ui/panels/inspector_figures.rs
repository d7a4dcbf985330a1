//! Figures of one layer: distributions of weight, error and input, ranges of channels.

use crate::figure::{Axis, Bar, Content, Figure, Ink, Plot, Scale, Series, Shape};
use crate::model::Layer;
use crate::quant::{Grid, Histogram, Range};
use crate::session::{ActivationInspection, Inspection, WeightInspection};
use crate::ui::format;

/// Grids with more levels are not drawn, they would be a solid block.
pub(super) const MOST_LEVELS: i64 = 64;

/// The weight's distribution with the levels of its grid.
pub(super) fn weight_figure(layer: &Layer, weight: &WeightInspection, log: bool) -> Figure {
    let mut series = Vec::new();
    series.extend(
        weight
            .histogram
            .as_ref()
            .map(|histogram| bars("weights", Ink::Series(0), histogram)),
    );
    let note = widest_grid(&weight.grids).map(|(channel, grid)| {
        let levels = levels(grid);
        let note = match (levels.len(), weight.grids.len()) {
            (0, _) => format!("more than {MOST_LEVELS} levels: not drawn"),
            (levels, 1) => format!("{levels} levels of the grid"),
            (levels, _) => format!("{levels} levels of channel {channel}, whose steps are largest"),
        };
        series.extend(grid_lines(levels, Ink::Series(1)));
        note
    });
    Figure {
        title: format!("Weight of {}", layer.name),
        note: note.unwrap_or_default(),
        content: Content::Plot(Plot {
            x: Axis::new("weight", ""),
            y: counts("count", log),
            series,
        }),
    }
}

/// The distribution of the weight's rounding error, over that of the nearest levels where they were not
/// taken; `None` for a float weight.
pub(super) fn error_figure(layer: &Layer, inspection: &Inspection) -> Option<Figure> {
    let histogram = inspection.weight.error_histogram.as_ref()?;
    let nearest = inspection.rounded.as_ref();
    let nearest = nearest.and_then(|rounded| rounded.nearest_histogram.as_ref());
    let name = if nearest.is_some() {
        "rounded"
    } else {
        "errors"
    };
    let mut series = vec![bars(name, Ink::Series(3), histogram)];
    series.extend(nearest.map(|nearest| bars("nearest", Ink::Series(2), nearest)));
    Some(Figure {
        title: format!("Error of the weight of {}", layer.name),
        note: String::new(),
        content: Content::Plot(Plot {
            x: Axis::new("w − ŵ", ""),
            y: counts("count", false),
            series,
        }),
    })
}

/// Smallest and largest weight of every output channel; outliers are a series of their own.
pub(super) fn channel_figure(layer: &Layer, weight: &WeightInspection) -> Figure {
    let outliers = weight.outliers();
    let is_outlier = |index: usize| outliers.iter().any(|(outlier, _)| *outlier == index);
    let ranges = |outlying: bool| {
        weight
            .channels
            .iter()
            .enumerate()
            .filter(|(index, _)| is_outlier(*index) == outlying)
            .map(|(index, channel)| Bar {
                x: [index as f64 - 0.45, index as f64 + 0.45],
                y: [
                    f64::from(channel.range.min()),
                    f64::from(channel.range.max()),
                ],
            })
            .collect()
    };
    let mut series = vec![Series {
        name: "range".to_owned(),
        ink: Ink::Series(2),
        shape: Shape::Bars(ranges(false)),
    }];
    if !outliers.is_empty() {
        series.push(Series {
            name: "outlier".to_owned(),
            ink: Ink::Warn,
            shape: Shape::Bars(ranges(true)),
        });
    }
    Figure {
        title: format!("Range of each channel of {}", layer.name),
        note: format!(
            "axis {} of {}",
            layer.channel_axis,
            format::shape(&layer.weight_shape)
        ),
        content: Content::Plot(Plot {
            x: Axis::new("output channel", ""),
            y: Axis::new("weight", ""),
            series,
        }),
    }
}

/// The input's distribution with clip range, grid, and the ends that each calibrator would choose.
///
/// `clip` is the range to show; `None` for a float input.
pub(super) fn activation_figure(
    layer: &Layer,
    activation: &ActivationInspection,
    clip: Option<[f64; 2]>,
    log: bool,
) -> Figure {
    let mut series = vec![bars("input", Ink::Series(0), &activation.histogram)];
    if let Some(clip) = clip {
        series.push(Series {
            name: "clip range".to_owned(),
            ink: Ink::Accent,
            shape: Shape::Span(clip),
        });
        // While an end is dragged the grid is still that of the range before.
        let in_force = [activation.clip.min(), activation.clip.max()].map(f64::from);
        let grid = activation.grid.as_ref().filter(|_| clip == in_force);
        series.extend(grid.and_then(|grid| grid_lines(levels(grid), Ink::Weak)));
    }
    series.extend(candidates(activation));
    Figure {
        title: format!("Input of {}", layer.name),
        note: String::new(),
        content: Content::Plot(Plot {
            x: Axis::new("input activation", ""),
            y: counts("count", log),
            series,
        }),
    }
}

/// The range that each calibrator would choose.
fn candidates(activation: &ActivationInspection) -> impl Iterator<Item = Series> {
    let inks = [1, 2, 3, 4].map(Ink::Series).into_iter();
    activation
        .candidates
        .iter()
        .zip(inks.chain([Ink::Weak]).cycle())
        .map(|((calibrator, range), ink): (&(_, Range), Ink)| Series {
            name: calibrator.to_string(),
            ink,
            shape: Shape::Ends([range.min(), range.max()].map(f64::from)),
        })
}

/// An axis of counts, by their logarithm or evenly.
fn counts(label: &str, log: bool) -> Axis {
    Axis {
        scale: if log { Scale::LogCount } else { Scale::Linear },
        ..Axis::new(label, "").including([0.0])
    }
}

fn bars(name: &str, ink: Ink, histogram: &Histogram) -> Series {
    let width = histogram.bin_width().max(f64::MIN_POSITIVE);
    let counts = histogram.counts();
    // Empty bins at the ends, which a range that grows by doubling leaves, would only widen the axis.
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let end = counts
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1);
    let seen = counts.iter().enumerate().take(end).skip(first);
    let bars = seen.map(|(bin, count)| {
        let start = histogram.bin_start(bin);
        Bar {
            x: [start, start + width],
            y: [0.0, *count as f64],
        }
    });
    Series {
        name: name.to_owned(),
        ink,
        shape: Shape::Bars(bars.collect()),
    }
}

/// Levels as lines, if there are any.
fn grid_lines(levels: Vec<f64>, ink: Ink) -> Option<Series> {
    (!levels.is_empty()).then(|| Series {
        name: "levels of the grid".to_owned(),
        ink,
        shape: Shape::Uprights(levels),
    })
}

/// The levels of a grid, if they are few enough to be told apart.
fn levels(grid: &Grid) -> Vec<f64> {
    let (q_min, q_max) = (i64::from(grid.q_min()), i64::from(grid.q_max()));
    if q_max - q_min >= MOST_LEVELS {
        return Vec::new();
    }
    (grid.q_min()..=grid.q_max())
        .map(|code| f64::from(grid.dequantize(code)))
        .collect()
}

/// The grid with the largest steps, and its index.
fn widest_grid(grids: &[Grid]) -> Option<(usize, &Grid)> {
    grids
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.scale().total_cmp(&b.1.scale()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::BitWidth;

    #[test]
    fn only_grids_that_can_be_told_apart_are_drawn() {
        let range = Range::new(-1.0, 1.0).unwrap();
        let grid = |bits| Grid::asymmetric(range, BitWidth::new(bits).unwrap());
        assert_eq!(levels(&grid(3)).len(), 8);
        assert_eq!(levels(&grid(6)).len(), 64);
        assert!(levels(&grid(7)).is_empty());
        assert_eq!(grid_lines(levels(&grid(7)), Ink::Weak), None);
    }
}
