//! Which pixels are multiplied with which, summed over the windows of a convolution.
//!
//! Two kernel elements of a window always lie at the same distance. Over all windows, the first of
//! them visits a rectangle of pixels; pairs at the same distance visit rectangles that differ at the
//! edges. Cut along all edges, the image falls into regions, each of which is summed once for all the
//! pairs that visit it.

use std::ops::Range;

use super::super::planes::Windows;

/// Most products that are added one after another; longer sums in `f32` would lose digits.
pub(super) const CHAIN: usize = 4096;

/// Pixels that are multiplied with those at a distance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// First pixel.
    pub start: usize,
    /// From a pixel to the one it is multiplied with.
    pub distance: usize,
    pub rows: usize,
    pub columns: usize,
    /// Pixels from a row to the next.
    pub row_step: usize,
    pub column_step: usize,
    /// The pairs of kernel elements that visit all of the region, by their number.
    pub pairs: Vec<usize>,
    /// Whether each pixel is multiplied with itself.
    pub is_square: bool,
}

impl Region {
    /// A row of pixels, each multiplied with itself.
    pub(super) fn row(columns: usize) -> Self {
        Self {
            start: 0,
            distance: 0,
            rows: 1,
            columns,
            row_step: columns,
            column_step: 1,
            pairs: Vec::new(),
            is_square: true,
        }
    }

    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Parts of at most [`CHAIN`] pixels.
    fn parts(&self) -> Vec<Self> {
        let columns = self.columns.clamp(1, CHAIN);
        let rows = CHAIN / columns;
        let mut parts = Vec::new();
        for row in (0..self.rows).step_by(rows) {
            for column in (0..self.columns).step_by(columns) {
                parts.push(Self {
                    start: self.start + row * self.row_step + column * self.column_step,
                    rows: rows.min(self.rows - row),
                    columns: columns.min(self.columns - column),
                    ..self.clone()
                });
            }
        }
        parts
    }

    /// Takes columns for rows: few long rows are summed faster than many short ones.
    fn transpose(&mut self) {
        std::mem::swap(&mut self.rows, &mut self.columns);
        std::mem::swap(&mut self.row_step, &mut self.column_step);
    }
}

/// Kernel elements along one axis that see their partner at the same distance, and whose positions
/// fall on the same ones modulo the stride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Kernel elements from one to its partner.
    difference: isize,
    elements: Vec<usize>,
}

/// The classes along one axis.
pub(super) fn classes(kernel: usize, dilation: usize, stride: usize) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for element in 0..kernel {
        for partner in 0..kernel {
            let difference = partner as isize - element as isize;
            let phase = element * dilation % stride;
            let found = classes.iter_mut().find(|class| {
                class.difference == difference && class.elements[0] * dilation % stride == phase
            });
            match found {
                Some(class) => class.elements.push(element),
                None => classes.push(Class {
                    difference,
                    elements: vec![element],
                }),
            }
        }
    }
    classes
}

/// Positions along one axis that the same kernel elements visit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Band {
    start: usize,
    len: usize,
    elements: Vec<usize>,
}

/// Where the elements of a class meet pixels whose partners lie in the image too.
fn bands(class: &Class, windows: &Windows, axis: usize) -> Vec<Band> {
    let [stride, dilation, pad, len, output] = [
        windows.strides[axis],
        windows.dilations[axis],
        windows.pads[axis],
        windows.input[axis],
        windows.output[axis],
    ]
    .map(|number| number as isize);
    let shift = class.difference * dilation;
    let first = |element: usize| element as isize * dilation - pad;
    let phase = first(class.elements[0]).rem_euclid(stride);
    // Position `phase + stride · place`.
    let place_from = |position: isize| (position - phase + stride - 1).div_euclid(stride);
    let (lowest, end) = (
        place_from(0.max(-shift)),
        place_from(len.min(len - shift)).max(place_from(0.max(-shift))),
    );
    let visited = |element: usize| -> Range<isize> {
        let start = place_from(first(element));
        start.clamp(lowest, end)..(start + output).clamp(lowest, end)
    };
    let mut cuts: Vec<isize> = class
        .elements
        .iter()
        .flat_map(|element| {
            let visited = visited(*element);
            [visited.start, visited.end]
        })
        .chain([lowest, end])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2)
        .map(|cut| {
            let elements: Vec<usize> = class
                .elements
                .iter()
                .copied()
                .filter(|element| {
                    let visited = visited(*element);
                    visited.start <= cut[0] && cut[1] <= visited.end
                })
                .collect();
            Band {
                start: (phase + stride * cut[0]) as usize,
                len: (cut[1] - cut[0]) as usize,
                elements,
            }
        })
        .collect()
}

/// The regions of all pairs of kernel elements, a pair and its reverse once.
///
/// The pairs of an element with itself have the numbers of the elements; then follow those of the first
/// element with each later one, and so on.
pub(super) fn regions(windows: &Windows) -> Vec<Region> {
    regions_where(windows, |_, is_visited| is_visited == [true; 2])
}

/// The regions of the pairs for which `counts` holds, given how far apart the elements of a pair are,
/// and whether it visits the rows and the columns of the region.
pub(super) fn regions_where(
    windows: &Windows,
    counts: impl Fn([isize; 2], [bool; 2]) -> bool,
) -> Vec<Region> {
    let width = windows.input[1];
    let mut regions = Vec::new();
    for [vertical, horizontal] in &distances(windows) {
        let differences = [vertical.difference, horizontal.difference];
        let distance = vertical.difference * (windows.dilations[0] * width) as isize
            + horizontal.difference * windows.dilations[1] as isize;
        let row_bands = bands(vertical, windows, 0);
        for columns in bands(horizontal, windows, 1) {
            for rows in &row_bands {
                let pairs = pairs(windows, [vertical, horizontal], |row, column| {
                    let is_visited = [
                        rows.elements.contains(&row),
                        columns.elements.contains(&column),
                    ];
                    counts(differences, is_visited)
                });
                if pairs.is_empty() {
                    continue;
                }
                let mut region = Region {
                    start: rows.start * width + columns.start,
                    distance: distance as usize,
                    rows: rows.len,
                    columns: columns.len,
                    row_step: windows.strides[0] * width,
                    column_step: windows.strides[1],
                    pairs,
                    is_square: differences == [0, 0],
                };
                if region.columns < region.rows {
                    region.transpose();
                }
                regions.extend(region.parts());
            }
        }
    }
    regions
}

/// The pairs of kernel elements at one distance, by their number.
#[derive(Clone, Debug)]
pub(super) struct Lag {
    /// Rows and columns from an element to its partner.
    pub distance: [isize; 2],
    pub pairs: Vec<usize>,
}

/// The pairs of all distances, each distance and its reverse once; if a row or column of the image is
/// given, only those that have both elements there without visiting it.
pub(super) fn lags(windows: &Windows, line: Option<(usize, usize)>) -> Vec<Lag> {
    let mut lags = Vec::new();
    for [vertical, horizontal] in &distances(windows) {
        let distance = [vertical.difference, horizontal.difference];
        let misses = |axis: usize, element: usize| {
            line.is_none_or(|(line_axis, place)| {
                let start = element as isize - windows.pads[axis] as isize;
                let visited = start..start + windows.output[axis] as isize;
                line_axis != axis || (distance[axis] == 0 && !visited.contains(&(place as isize)))
            })
        };
        let pairs = pairs(windows, [vertical, horizontal], |row, column| {
            misses(0, row) && misses(1, column)
        });
        if !pairs.is_empty() {
            lags.push(Lag { distance, pairs });
        }
    }
    lags
}

/// The classes of rows and columns, a distance and its reverse once.
fn distances(windows: &Windows) -> Vec<[Class; 2]> {
    let [row_classes, column_classes] = [0, 1].map(|axis| {
        classes(
            windows.kernel[axis],
            windows.dilations[axis],
            windows.strides[axis],
        )
    });
    let mut distances = Vec::new();
    for vertical in row_classes.iter().filter(|class| class.difference >= 0) {
        for horizontal in &column_classes {
            if vertical.difference > 0 || horizontal.difference >= 0 {
                distances.push([vertical.clone(), horizontal.clone()]);
            }
        }
    }
    distances
}

/// The numbers of the pairs whose first element counts.
fn pairs(
    windows: &Windows,
    [vertical, horizontal]: [&Class; 2],
    counts: impl Fn(usize, usize) -> bool,
) -> Vec<usize> {
    let [kernel_rows, kernel_columns] = windows.kernel;
    let taps = kernel_rows * kernel_columns;
    let taps_apart = vertical.difference * kernel_columns as isize + horizontal.difference;
    let mut pairs = Vec::new();
    for row in &vertical.elements {
        for column in &horizontal.elements {
            if counts(*row, *column) {
                let tap = row * kernel_columns + column;
                let partner = (tap as isize + taps_apart) as usize;
                pairs.push(if tap == partner {
                    tap
                } else {
                    taps + tap * (2 * taps - tap - 1) / 2 + partner - tap - 1
                });
            }
        }
    }
    pairs
}
