//! One open document: model, data, plan and results, and the jobs that compute them.
//!
//! [`Session`] is the only place that changes the plan, through [`Session::apply`]; the window and the
//! command line stand on the same functions.

mod action;
mod apply;
mod bundled;
mod error;
mod export;
mod export_desk;
mod figures;
mod files;
mod forecast;
mod history;
mod inspection;
mod job_slot;
mod memory;
mod messages;
mod open_data;
mod open_model;
mod pictures;
mod plan_records;
mod poll;
mod previews;
mod project_file;
mod recent;
mod recent_picture;
mod report;
mod report_desk;
mod scoring;
mod search_desk;
mod search_files;
mod search_folds;
mod search_setup;
#[expect(
    clippy::module_inception,
    reason = "the file is named after its one type"
)]
mod session;
mod standing;
mod sweep_store;
mod tuning;
mod tuning_desk;
mod undo;
mod work;

pub use action::{Action, LayerEdit, Typed};
pub use apply::read_plan;
pub use bundled::{BundledSample, bundled_samples};
pub use error::SessionError;
pub use export::{
    ExportRequest, ExportSource, Exported, StoredModel, check_free, export_plan, verifier,
    verify_export,
};
pub use export_desk::{ExportEnd, ExportForecast, ExportOrder, ExportReport, RuntimeFound};
pub use files::write_atomically;
pub use history::HistoryEntry;
pub use inspection::{
    ActivationInspection, ChannelInspection, Inspection, Levels, RoundedInspection,
    WeightInspection,
};
pub use job_slot::JobStatus;
pub use memory::{default_cache_bytes, process_bytes};
pub use messages::{Message, Remedy, Severity};
pub use open_data::{DataRequest, OpenData};
pub use open_model::OpenModel;
pub use plan_records::PlanRecord;
pub use previews::Preview;
pub use project_file::{PROJECT_VERSION, ProjectFile};
pub use recent::Recent;
pub use report::{MeasuredPlan, ReportRequest, write_report};
pub use scoring::Scored;
pub use search_desk::{SearchNews, Solver, SolverBasis, StoredSearch};
pub use search_files::{PartFile, in_file, read_progress, write_json};
pub(crate) use search_folds::scores_in_folds;
pub use search_setup::{SearchRequest, SearchSetup, prepare_plan, run_search};
pub use session::{LAYER_ERROR_SAMPLES, PlanResult, Session};
pub use standing::{Basis, Standing};
pub use sweep_store::{SweepKey, SweepStore};
pub use tuning::{Tuned, TuningMemory, TuningStage, needs_calibration, tune};
pub use tuning_desk::{Counterpart, RoundingState};
