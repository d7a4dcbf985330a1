//! What was measured of a plan, as one HTML page.
//!
//! The page stands alone: style and figures are in it, nothing is loaded, no script runs. It reads on a
//! screen and on paper. Everything that comes from files is escaped.

mod figures;
mod html;
mod sections;

use crate::engine::{Evaluation, PreparedPlan, Ranges, Sensitivity};
use crate::model::{Graph, Layer};
use crate::plan::{Cost, Fingerprint, Plan, TargetChange, TargetProfile};
use html::Page;

/// What a report tells of.
#[derive(Debug)]
pub struct ReportSubject<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Its layers.
    pub layers: &'a [Layer],
    /// The plan.
    pub plan: &'a Plan,
    /// What the plan costs.
    pub cost: Cost,
    /// The plan as it runs, where it was made ready.
    pub prepared: Option<&'a PreparedPlan>,
    /// Statistics of the inputs, where they were calibrated.
    pub ranges: Option<&'a Ranges>,
    /// How each weight was rounded, where that took calibration data.
    pub roundings: Vec<Option<String>>,
    /// What was measured.
    pub evaluation: Option<&'a Evaluation>,
    /// How much every layer hurts at every width, where that was measured.
    pub sensitivity: Option<&'a Sensitivity>,
    /// Which data it was measured on.
    pub data: Option<DataFacts>,
    /// The runtime that is simulated.
    pub target: Option<TargetFacts<'a>>,
    /// The command that writes this report again, where one did.
    pub command: Option<String>,
}

/// Data of a report, in words.
#[derive(Clone, Debug)]
pub struct DataFacts {
    /// Name of the folder of evaluation samples.
    pub evaluation: String,
    /// Name of the folder of calibration samples; `None` for a part of the same folder.
    pub calibration: Option<String>,
    /// Samples that ranges and weights were made on.
    pub calibration_samples: usize,
    /// How samples become inputs.
    pub preprocessing: String,
    /// Why, where it was guessed.
    pub guess: Option<String>,
    /// Decides which samples are taken where not all are.
    pub seed: u64,
    /// Samples that could not be read.
    pub skipped: usize,
    /// Identifies data, split and preprocessing.
    pub fingerprint: Fingerprint,
}

/// The runtime of a report.
#[derive(Clone, Copy, Debug)]
pub struct TargetFacts<'a> {
    /// Its profile.
    pub profile: &'a TargetProfile,
    /// What it changed.
    pub changes: &'a [TargetChange],
    /// Bytes of the file that an export writes, where that is known.
    pub file_bytes: Option<u64>,
}

/// The page.
pub fn report_html(subject: &ReportSubject<'_>) -> String {
    let name = &subject.graph.metadata().name;
    let mut page = Page::new(&format!("Quantization of {name}"));
    sections::summary(&mut page, subject);
    sections::course(&mut page, subject);
    sections::target(&mut page, subject);
    sections::plan_table(&mut page, subject);
    sections::sensitivity(&mut page, subject);
    sections::worst_layers(&mut page, subject);
    sections::provenance(&mut page, subject);
    page.finish()
}
