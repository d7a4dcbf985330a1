//! Pictures of large networks are made in the background, so that no frame waits for them.

use std::sync::Arc;

use crate::jobs::{JobHandle, spawn};
use crate::session::OpenModel;

/// Nodes from which a picture may take longer than a frame.
const MANY_NODES: usize = 2000;

/// Something that is there, or comes in one of the next frames.
#[derive(Debug)]
pub(super) enum Making<T> {
    Made(T),
    Running(JobHandle<(), T>),
    /// The reason is in the log.
    Failed,
}

impl<T: Send + 'static> Making<T> {
    /// Makes something of a model, at once if the model is small.
    pub(super) fn new(
        ctx: &egui::Context,
        model: &OpenModel,
        make: impl FnOnce(&OpenModel) -> T + Send + 'static,
    ) -> Self {
        if model.graph().nodes().len() < MANY_NODES {
            return Self::Made(make(model));
        }
        let (ctx, model) = (ctx.clone(), model.clone());
        let wake = Arc::new(move || ctx.request_repaint());
        match spawn("Graph", 0, wake, move |_| Ok(make(&model))) {
            Ok(handle) => Self::Running(handle),
            Err(error) => {
                tracing::error!("cannot start a thread for the graph: {error}");
                Self::Failed
            }
        }
    }

    /// What was made, or what is still to be waited for.
    pub(super) fn finish(self) -> Result<T, Self> {
        match self {
            Self::Made(made) => Ok(made),
            Self::Running(handle) => match handle.poll_done() {
                Some(Ok(made)) => Ok(made),
                Some(Err(error)) => {
                    tracing::error!("the graph cannot be laid out: {error}");
                    Err(Self::Failed)
                }
                None => Err(Self::Running(handle)),
            },
            Self::Failed => Err(Self::Failed),
        }
    }
}
