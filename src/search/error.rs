//! Errors of planning a search.

/// Why there is nothing to search, or no plan for a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// No widths to choose from.
    #[error("there are no widths to choose from for {0}; name at least one, for example 8,4")]
    NoWidths(&'static str),
    /// Nothing may be changed.
    #[error("every layer is locked, so there is nothing to choose; unlock at least one layer")]
    AllLocked,
    /// A bound or a budget cannot be read.
    #[error("{what} {text:?}: {reason}")]
    Spelling {
        /// `budget`, `bound` or `shard`.
        what: &'static str,
        /// What was typed.
        text: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A bound selects no layer.
    #[error(
        "no layer matches the bound {glob:?}; expected a glob over layer names such as {example:?}"
    )]
    NoMatch {
        /// The glob.
        glob: String,
        /// Name of one layer of the model.
        example: String,
    },
    /// Bounds, locks and groups leave a layer no width.
    #[error(
        "no width is left for {part} of layer {layer:?}; its bounds, its group and the widths to choose from exclude each other"
    )]
    NothingLeft {
        /// `the weight` or `the input`.
        part: &'static str,
        /// The layer.
        layer: String,
    },
    /// No plan fits the budget.
    #[error(
        "no plan fits the budget of {asked}: the smallest budget that can be met is {least}; allow narrower widths, lower the bounds, or unlock layers"
    )]
    Infeasible {
        /// The budget.
        asked: String,
        /// The smallest one that can be met.
        least: String,
    },
    /// A state or part belongs to something else.
    #[error("{0}")]
    Foreign(String),
}
