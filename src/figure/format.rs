//! Files that a figure can be written as.

use super::figure::Figure;
use super::png::PngError;

/// A file format for figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureFormat {
    /// Scalable graphics, text as text.
    Svg,
    /// A picture.
    Png,
    /// The data as a table.
    Csv,
}

impl FigureFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Svg, Self::Png, Self::Csv];

    /// The name in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Svg => "SVG",
            Self::Png => "PNG",
            Self::Csv => "CSV",
        }
    }

    /// The extension of such files, without a dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::Png => "png",
            Self::Csv => "csv",
        }
    }
}

impl Figure {
    /// The content of a file with this figure.
    ///
    /// # Errors
    /// A picture is too large for the memory.
    pub fn encoded(&self, format: FigureFormat) -> Result<Vec<u8>, PngError> {
        match format {
            FigureFormat::Svg => Ok(self.to_svg().into_bytes()),
            FigureFormat::Png => self.to_png(),
            FigureFormat::Csv => Ok(self.to_csv().into_bytes()),
        }
    }
}
