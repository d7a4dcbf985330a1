//! What the session has to tell.

use std::time::Duration;

/// How much a message matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something was done.
    Info,
    /// Something was done, but not as asked.
    Warning,
    /// Something could not be done.
    Error,
}

/// The obvious next step after something could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Choose a model file.
    ChooseModel,
    /// Choose a data folder.
    ChooseData,
    /// Run the jobs again.
    RunAgain,
    /// Look which operators are unsupported.
    ShowCoverage,
}

/// A message that stays until it is dismissed, and in the log for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Identifies the message for [`super::Action::Dismiss`].
    pub id: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What the program was doing, for example `Open model`.
    pub title: String,
    /// What happened, and what to do.
    pub text: String,
    /// What to do about it, if that is one step.
    pub remedy: Option<Remedy>,
    /// When, counted from the start of the session.
    pub at: Duration,
}
