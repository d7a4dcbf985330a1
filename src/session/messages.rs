//! What the session has to tell.

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

/// A message that stays until it is dismissed.
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
}
