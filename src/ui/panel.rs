//! The panels that can be docked.

use serde::{Deserialize, Serialize};

/// Where a panel stands until it is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// At the left.
    Left,
    /// A tab in the middle.
    Centre,
    /// At the right.
    Right,
}

/// Makes the list of panels: each is named once, and [`Views`](super::views::Views) draws it.
macro_rules! panels {
    ($( #[doc = $doc:literal] $name:ident: $title:literal, $home:ident, $hint:literal; )*) => {
        /// A panel of the window.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum Panel {
            $( #[doc = $doc] $name, )*
        }

        impl Panel {
            /// All panels, in the order of their tabs.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Name on its tab.
            pub fn title(self) -> &'static str {
                match self { $( Self::$name => $title, )* }
            }

            pub(crate) fn home(self) -> Home {
                match self { $( Self::$name => Home::$home, )* }
            }

            /// What a newcomer should try first.
            pub(crate) fn hint(self) -> &'static str {
                match self { $( Self::$name => $hint, )* }
            }
        }
    };
}

panels! {
    /// The table of layers.
    Layers: "Layers", Left,
        "Click a layer, or Ctrl+A for all, then type 8, 4 or 2: the plan is measured again at once";
    /// Accuracy, size and history.
    Overview: "Overview", Centre,
        "Float is the network as it came, the plan is your choice of widths. Numbers settle while samples are measured";
    /// Which layer suffers at which width.
    Sensitivity: "Sensitivity", Centre,
        "Each row is a layer, each column a width. Click a cell to select the layer, double click it to choose that width";
    /// Size against accuracy.
    Pareto: "Pareto", Centre,
        "Each point is a measured plan. Drag the budget: the best widths within it are found at once. Click a point to make it the plan";
    /// The network as a picture.
    Graph: "Graph", Centre,
        "Drag to move, turn the wheel to zoom, click a node to select its layer everywhere, double click to look at it closely";
    /// Pictures with their predictions.
    Samples: "Samples", Centre,
        "The pictures as the network sees them. Choose those that the plan gets wrong, and click one to see both predictions";
    /// Two plans layer by layer.
    Compare: "Compare", Centre,
        "Choose two plans that were measured: their widths and errors layer by layer, and the samples that differ";
    /// Which operators are quantized.
    Coverage: "Coverage", Centre,
        "What the plan can quantize in this model, what stays in float, and why";
    /// Ways to open a model, data or a project.
    Open: "Open", Centre,
        "Drop a model file or a folder of samples anywhere onto the window, or type a path here";
    /// One layer in detail.
    Inspector: "Inspector", Right,
        "One layer in detail: its values, the grid they are rounded to, and what that costs. Drag the ends of the clip range";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_panels_share_a_title() {
        let titles: BTreeSet<_> = Panel::ALL.iter().map(|panel| panel.title()).collect();
        assert_eq!(titles.len(), Panel::ALL.len());
    }
}
