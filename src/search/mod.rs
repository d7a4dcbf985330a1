//! From "which layer hurts" to the best plan for a budget.
//!
//! [`allocate`] chooses one width for every group within a budget, exactly; [`Frontier`] holds what is best
//! for every price. A [`Space`] says what may be chosen, a [`Model`] what harm to expect, and both make a
//! [`Problem`], which is solved in milliseconds. [`SearchRun`] measures: it scores single layers, measures
//! plans around the front, and corrects the model with them. All it knows is in a [`SearchState`], which
//! can be stored after every plan.

mod allocation;
mod budget;
mod effects;
mod error;
mod frontier;
mod judge;
mod moves;
mod planner;
mod problem;
mod run;
mod score;
mod shard;
mod space;
mod state;
mod sweep;

pub use allocation::{Allocation, Infeasible, allocate};
pub use budget::{Axis, Budget, Goal};
pub use effects::{Effects, Meaning, Model, PartEffects, Prediction};
pub use error::SearchError;
pub use frontier::{Candidate, Corner, Frontier};
pub use judge::PairedDifference;
pub use planner::{Planner, Proposal};
pub use problem::{Problem, Solution};
pub use run::{End, Fold, Limits, Prepare, SearchRun, Settings, Stage};
pub use score::{Power, Score};
pub use shard::Shard;
pub use space::{Bound, LayerSpace, Space, SpaceRequest};
pub use state::{MeasuredPlan, Origin, PredictionError, SearchState, Seconds};
pub use sweep::{StoredCell, StoredSweep, effects, studied};
