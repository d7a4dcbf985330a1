//! What a plot shows.

use std::fmt;

use super::axis::Axis;

/// A plot or a map with its title.
#[derive(Clone, PartialEq)]
pub struct Figure {
    /// What is shown.
    pub title: String,
    /// What it was measured on and under; may be empty.
    pub note: String,
    /// The data.
    pub content: Content,
}

/// The two kinds of figures.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Series over two axes.
    Plot(Plot),
    /// A table of coloured cells.
    Map(CellMap),
}

/// Series over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// The axis below.
    pub x: Axis,
    /// The axis on the left.
    pub y: Axis,
    /// What is drawn, the lowest first; names differ.
    pub series: Vec<Series>,
}

/// Data that belongs together: one colour, one name in the legend.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Name in the legend, in the table and under the pointer.
    pub name: String,
    /// Colour by meaning.
    pub ink: Ink,
    /// The data and its form.
    pub shape: Shape,
}

/// Form of a series. All numbers are in the units of the axes; those that are not finite are left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Straight lines from point to point, with a mark on each point where one is chosen.
    Line {
        /// `[x, y]` of each point.
        points: Vec<[f64; 2]>,
        /// The mark.
        marker: Option<Marker>,
    },
    /// Points by themselves.
    Points {
        /// `[x, y]` of each point.
        points: Vec<[f64; 2]>,
        /// The mark.
        marker: Marker,
        /// Name of each point, for table and pointer; empty if points have none.
        names: Vec<String>,
        /// Indices of the points beside which their names are written.
        labelled: Vec<usize>,
    },
    /// Rectangles: bars of a histogram, or ranges.
    Bars(Vec<Bar>),
    /// The area between a lower and an upper line.
    Band(Vec<Interval>),
    /// A broken line across the plot at this height.
    Level(f64),
    /// Thin lines from top to bottom at these places.
    Uprights(Vec<f64>),
    /// Broken lines from top to bottom at the ends of a range.
    Ends([f64; 2]),
    /// A range along the axis below, from top to bottom.
    Span([f64; 2]),
}

/// A rectangle of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Left and right end.
    pub x: [f64; 2],
    /// Lower and upper end.
    pub y: [f64; 2],
}

/// A piece of a band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Place along the axis below.
    pub x: f64,
    /// Lower and upper end.
    pub y: [f64; 2],
}

/// Form of a mark, so that series are not told apart by colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A square on its corner.
    Diamond,
}

/// Colour by meaning; a theme or the paper says which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// One of five colours for series; larger numbers begin again.
    Series(usize),
    /// What leads or is chosen.
    Accent,
    /// What stands back.
    Weak,
    /// Worth a look.
    Warn,
}

/// A table of coloured cells.
#[derive(Clone, Debug, PartialEq)]
pub struct CellMap {
    /// Rows; one name for each.
    pub rows: Axis,
    /// Columns; one name for each.
    pub columns: Axis,
    /// What the cells hold.
    pub value: Axis,
    /// Row by row, each as long as there are columns.
    pub cells: Vec<Cell>,
    /// How shades become colours.
    pub ramp: Ramp,
    /// What the two ends of the ramp mean.
    pub ends: [String; 2],
    /// What a frame around a cell means; empty if no cell has one.
    pub framed: String,
}

/// One cell of a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// The value; `None` where nothing was measured.
    pub value: Option<f64>,
    /// The value as it is written in the cell.
    pub text: String,
    /// Place on the ramp.
    pub shade: f64,
    /// Whether a frame is around it.
    pub framed: bool,
}

/// How shades become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ramp {
    /// Shades from 0, dark, to 1, light.
    Sequential,
    /// Shades from −1 over 0, no colour, to 1.
    Diverging,
}

impl Figure {
    /// A name for a file, from the title: lower case letters, digits and `-`; no extension.
    pub fn file_stem(&self) -> String {
        let words = self
            .title
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase);
        let mut stem = words.collect::<Vec<_>>().join("-");
        stem.truncate(60);
        if stem.is_empty() {
            "figure".to_owned()
        } else {
            stem
        }
    }

    /// The plot, unless it is a map.
    pub fn plot(&self) -> Option<&Plot> {
        match &self.content {
            Content::Plot(plot) => Some(plot),
            Content::Map(_) => None,
        }
    }
}

impl fmt::Debug for Figure {
    // The data would fill a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figure")
            .field("title", &self.title)
            .finish_non_exhaustive()
    }
}

impl Shape {
    /// Left, right, lower and upper end of everything finite along each axis; `None` where nothing is.
    pub(super) fn extent(&self) -> [Option<[f64; 2]>; 2] {
        let points = |points: &[[f64; 2]]| {
            let along = |axis: usize| extent(points.iter().map(|point| point[axis]));
            [along(0), along(1)]
        };
        match self {
            Self::Line { points: all, .. } | Self::Points { points: all, .. } => points(all),
            Self::Bars(bars) => [
                extent(bars.iter().flat_map(|bar| bar.x)),
                extent(bars.iter().flat_map(|bar| bar.y)),
            ],
            Self::Band(band) => [
                extent(band.iter().map(|interval| interval.x)),
                extent(band.iter().flat_map(|interval| interval.y)),
            ],
            Self::Level(y) => [None, extent([*y].into_iter())],
            Self::Uprights(xs) => [extent(xs.iter().copied()), None],
            Self::Ends(ends) | Self::Span(ends) => [extent(ends.iter().copied()), None],
        }
    }
}

/// Least and largest of the finite numbers.
fn extent(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    values
        .filter(|value| value.is_finite())
        .fold(None, |extent, value| {
            let [low, high] = extent.unwrap_or([value, value]);
            Some([low.min(value), high.max(value)])
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_come_from_titles() {
        for (title, stem) in [
            ("Error along the network", "error-along-the-network"),
            (
                "/model/Conv_3: weight, 8 bits",
                "model-conv-3-weight-8-bits",
            ),
            ("−∞", "figure"),
        ] {
            let figure = Figure {
                title: title.to_owned(),
                note: String::new(),
                content: Content::Plot(Plot {
                    x: Axis::new("x", ""),
                    y: Axis::new("y", ""),
                    series: Vec::new(),
                }),
            };
            assert_eq!(figure.file_stem(), stem);
        }
    }
}
