//! Figures: what a plot shows, apart from where it is shown.
//!
//! A [`Figure`] holds the data of one plot with its names and units. The window draws it on the screen,
//! and the writers here put the same on paper: [`Figure::to_svg`], [`Figure::to_png`] and
//! [`Figure::to_csv`]. Nothing here knows the program's other layers, reads or writes files, or has a
//! theme: paper is white.
//!
//! ```
//! use quantscope::figure::{Axis, Content, Figure, Ink, Plot, Series, Shape};
//!
//! let figure = Figure {
//!     title: "Error along the network".to_owned(),
//!     note: String::new(),
//!     content: Content::Plot(Plot {
//!         x: Axis::new("layer number", ""),
//!         y: Axis::new("SQNR", "dB"),
//!         series: vec![Series {
//!             name: "output".to_owned(),
//!             ink: Ink::Series(0),
//!             shape: Shape::Line { points: vec![[0.0, 41.5], [1.0, 38.0]], marker: None },
//!         }],
//!     }),
//! };
//! assert_eq!(
//!     figure.to_csv(),
//!     "series,layer number,SQNR in dB\noutput,0,41.5\noutput,1,38\n"
//! );
//! ```

mod axis;
mod csv;
mod drawing;
#[expect(
    clippy::module_inception,
    reason = "the file is named after its one type"
)]
mod figure;
mod format;
mod map_drawing;
mod paper;
mod plot_drawing;
mod png;
mod svg;

pub use axis::{Axis, Scale, mark_text, round_step};
pub use figure::{
    Bar, Cell, CellMap, Content, Figure, Ink, Interval, Marker, Plot, Ramp, Series, Shape,
};
pub use format::FigureFormat;
pub use paper::scale_color;
pub use png::PngError;
