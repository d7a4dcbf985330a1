//! Laying out series over two axes.

use super::axis::{Axis, Scale};
use super::drawing::{Anchor, Drawing, MARGIN, Piece, Rect, TEXT, WIDTH, text_width};
use super::figure::{Bar, Interval, Marker, Plot, Series, Shape};
use super::paper::{BLACK, GRAY, GRID, Rgb};

/// Height of the area of data.
const HEIGHT: f64 = 320.0;
/// Room that the data leaves at its ends where no range is given.
const ROOM: f64 = 0.05;
/// Lines of the grid along the axis below and along the upright one, about so many.
const LINES: [f64; 2] = [7.0, 6.0];
/// Radius of a mark.
const RADIUS: f64 = 3.0;
/// More points than this are not marked, their marks would run into one another.
const MARKED_POINTS: usize = 300;

/// Draws legend, axes and series below `top`; returns the height of the whole drawing.
pub(super) fn draw_plot(drawing: &mut Drawing, plot: &Plot, top: f64) -> f64 {
    let top = draw_legend(drawing, &plot.series, top);
    let ranges = ranges(plot);
    let marks = [
        plot.x.marks(ranges[0], LINES[0]),
        plot.y.marks(ranges[1], LINES[1]),
    ];
    let widest = marks[1]
        .iter()
        .map(|(_, text)| text_width(text, TEXT))
        .fold(0.0, f64::max);
    let left = MARGIN + TEXT + 10.0 + widest + 8.0;
    let area = [left, top + 6.0, WIDTH - MARGIN, top + 6.0 + HEIGHT];
    let place = Placement { area, ranges, plot };
    place.draw_axes(drawing, &marks);
    drawing.pieces.push(Piece::Clip(area));
    for series in &plot.series {
        place.draw_series(drawing, series);
    }
    drawing.pieces.push(Piece::EndClip);
    drawing.pieces.push(Piece::Frame {
        rect: area,
        color: GRAY,
        width: 1.0,
    });
    area[3] + 2.0 * TEXT + 18.0 + MARGIN
}

/// Swatches and names, as many in a line as fit.
fn draw_legend(drawing: &mut Drawing, series: &[Series], top: f64) -> f64 {
    let (mut x, mut y) = (MARGIN, top + TEXT);
    for series in series {
        let width = text_width(&series.name, TEXT) + 36.0;
        if x > MARGIN && x + width > WIDTH - MARGIN {
            (x, y) = (MARGIN, y + TEXT + 6.0);
        }
        draw_swatch(drawing, series, [x, y - TEXT / 2.0 + 1.5]);
        drawing.text([x + 20.0, y], series.name.clone(), BLACK, Anchor::Start);
        x += width;
    }
    if series.is_empty() { top } else { y + 6.0 }
}

fn draw_swatch(drawing: &mut Drawing, series: &Series, [x, y]: [f64; 2]) {
    let color = series.ink.on_paper();
    let across = || vec![[x, y], [x + 15.0, y]];
    let middle = [x + 7.5, y];
    match &series.shape {
        Shape::Line { marker, .. } => {
            drawing.line(across(), color, 2.0, false);
            if let Some(marker) = marker {
                draw_mark(drawing, middle, *marker, color);
            }
        }
        Shape::Points { marker, .. } => draw_mark(drawing, middle, *marker, color),
        Shape::Level(_) | Shape::Ends(_) => drawing.line(across(), color, 1.5, true),
        Shape::Uprights(_) => {
            drawing.line(
                vec![[middle[0], y - 5.0], [middle[0], y + 5.0]],
                color,
                1.0,
                false,
            );
        }
        Shape::Bars(_) => drawing.rect([x + 2.0, y - 5.0, x + 13.0, y + 5.0], color),
        Shape::Band(_) | Shape::Span(_) => drawing.pieces.push(Piece::Rect {
            rect: [x + 2.0, y - 5.0, x + 13.0, y + 5.0],
            fill: color,
            opacity: 0.3,
        }),
    }
}

fn draw_mark(drawing: &mut Drawing, at: [f64; 2], marker: Marker, fill: Rgb) {
    drawing.pieces.push(Piece::Mark {
        at,
        marker,
        fill,
        radius: RADIUS,
    });
}

/// The part of each axis that is shown, as places.
fn ranges(plot: &Plot) -> [[f64; 2]; 2] {
    let mut extents = [None::<[f64; 2]>; 2];
    for series in &plot.series {
        for (all, of_series) in extents.iter_mut().zip(series.shape.extent()) {
            *all = union(*all, of_series);
        }
    }
    let along = |axis: &Axis, extent: Option<[f64; 2]>| {
        if let Some(range) = axis.range.filter(|[low, high]| low < high) {
            return range.map(|end| axis.scale.place(end));
        }
        let included = axis.includes.iter().map(|value| Some([*value; 2]));
        let extent = included.fold(extent, union).unwrap_or([0.0, 1.0]);
        let [low, high] = extent.map(|end| axis.scale.place(end));
        let room = match high - low {
            span if span > 0.0 => ROOM * span,
            _ => (0.1 * low.abs()).max(0.5),
        };
        // Counts stand on the axis.
        let low = if axis.scale == Scale::LogCount {
            low
        } else {
            low - room
        };
        [low, high + room]
    };
    let [x, y] = extents;
    [along(&plot.x, x), along(&plot.y, y)]
}

fn union(a: Option<[f64; 2]>, b: Option<[f64; 2]>) -> Option<[f64; 2]> {
    match (a, b) {
        (Some([low, high]), Some([b_low, b_high])) => Some([low.min(b_low), high.max(b_high)]),
        (a, b) => a.or(b),
    }
}

/// Where values are on the paper.
struct Placement<'a> {
    area: Rect,
    ranges: [[f64; 2]; 2],
    plot: &'a Plot,
}

impl Placement<'_> {
    fn x_of_place(&self, place: f64) -> f64 {
        let [left, _, right, _] = self.area;
        let [low, high] = self.ranges[0];
        keep_near(left + (right - left) * (place - low) / (high - low))
    }

    fn y_of_place(&self, place: f64) -> f64 {
        let [_, top, _, bottom] = self.area;
        let [low, high] = self.ranges[1];
        keep_near(bottom - (bottom - top) * (place - low) / (high - low))
    }

    fn x(&self, value: f64) -> f64 {
        self.x_of_place(self.plot.x.scale.place(value))
    }

    fn y(&self, value: f64) -> f64 {
        self.y_of_place(self.plot.y.scale.place(value))
    }

    fn draw_axes(&self, drawing: &mut Drawing, marks: &[Vec<(f64, String)>; 2]) {
        let [left, top, right, bottom] = self.area;
        for (place, text) in &marks[0] {
            let x = self.x_of_place(*place);
            drawing.line(vec![[x, top], [x, bottom]], GRID, 1.0, false);
            drawing.text([x, bottom + TEXT + 4.0], text.clone(), GRAY, Anchor::Middle);
        }
        for (place, text) in &marks[1] {
            let y = self.y_of_place(*place);
            drawing.line(vec![[left, y], [right, y]], GRID, 1.0, false);
            let at = [left - 6.0, y + TEXT / 2.0 - 2.0];
            drawing.text(at, text.clone(), GRAY, Anchor::End);
        }
        let below = [left.midpoint(right), bottom + 2.0 * TEXT + 12.0];
        drawing.text(below, self.plot.x.text(), BLACK, Anchor::Middle);
        drawing.pieces.push(Piece::Text {
            at: [MARGIN + TEXT - 2.0, top.midpoint(bottom)],
            text: self.plot.y.text(),
            size: TEXT,
            color: BLACK,
            anchor: Anchor::Middle,
            bold: false,
            upright: true,
        });
    }

    fn draw_series(&self, drawing: &mut Drawing, series: &Series) {
        let color = series.ink.on_paper();
        let [_, top, _, bottom] = self.area;
        match &series.shape {
            Shape::Line { points, marker } => {
                let points = self.points(points);
                drawing.line(points.clone(), color, 1.75, false);
                if let Some(marker) = marker.filter(|_| points.len() <= MARKED_POINTS) {
                    for point in points {
                        draw_mark(drawing, point, marker, color);
                    }
                }
            }
            Shape::Points {
                points,
                marker,
                names,
                labelled,
            } => {
                for point in self.points(points) {
                    draw_mark(drawing, point, *marker, color);
                }
                for index in labelled {
                    if let (Some([x, y]), Some(name)) = (points.get(*index), names.get(*index)) {
                        let at = [self.x(*x) + 8.0, self.y(*y) + TEXT / 2.0 - 2.0];
                        drawing.text(at, name.clone(), BLACK, Anchor::Start);
                    }
                }
            }
            Shape::Bars(bars) => {
                let finite = |bar: &&Bar| bar.x.iter().chain(&bar.y).all(|end| end.is_finite());
                for bar in bars.iter().filter(finite) {
                    let [left, right] = bar.x.map(|x| self.x(x));
                    let [low, high] = bar.y.map(|y| self.y(y));
                    if low > high {
                        drawing.rect([left, high, right.max(left + 0.3), low], color);
                    }
                }
            }
            Shape::Band(band) => self.draw_band(drawing, band, color),
            Shape::Level(y) if y.is_finite() => {
                let y = self.y(*y);
                let ends = vec![[self.area[0], y], [self.area[2], y]];
                drawing.line(ends, color, 1.5, true);
            }
            Shape::Uprights(xs) => {
                for x in xs.iter().filter(|x| x.is_finite()) {
                    let x = self.x(*x);
                    drawing.line(vec![[x, top], [x, bottom]], color, 0.75, false);
                }
            }
            Shape::Ends(ends) => {
                for x in ends.iter().filter(|x| x.is_finite()) {
                    let x = self.x(*x);
                    drawing.line(vec![[x, top], [x, bottom]], color, 1.5, true);
                }
            }
            Shape::Span(ends) if ends.iter().all(|end| end.is_finite()) => {
                let [left, right] = ends.map(|x| self.x(x));
                drawing.pieces.push(Piece::Rect {
                    rect: [left, top, right, bottom],
                    fill: color,
                    opacity: 0.12,
                });
                for x in [left, right] {
                    drawing.line(vec![[x, top], [x, bottom]], color, 1.5, false);
                }
            }
            Shape::Level(_) | Shape::Span(_) => {}
        }
    }

    fn draw_band(&self, drawing: &mut Drawing, band: &[Interval], color: Rgb) {
        let finite = |interval: &&Interval| {
            interval.x.is_finite() && interval.y.iter().all(|end| end.is_finite())
        };
        let lower = band
            .iter()
            .filter(finite)
            .map(|i| [self.x(i.x), self.y(i.y[0])]);
        let upper = band
            .iter()
            .filter(finite)
            .map(|i| [self.x(i.x), self.y(i.y[1])]);
        let points: Vec<[f64; 2]> = lower.chain(upper.rev()).collect();
        if points.len() >= 4 {
            drawing.pieces.push(Piece::Area {
                points,
                fill: color,
                opacity: 0.25,
            });
        }
    }

    fn points(&self, points: &[[f64; 2]]) -> Vec<[f64; 2]> {
        points
            .iter()
            .filter(|point| point.iter().all(|value| value.is_finite()))
            .map(|[x, y]| [self.x(*x), self.y(*y)])
            .collect()
    }
}

/// A coordinate near the paper: far ones, of a small part of the data, would lose their digits.
fn keep_near(coordinate: f64) -> f64 {
    coordinate.clamp(-1e5, 1e5)
}
