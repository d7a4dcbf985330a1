//! Writing figures to files.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::SessionError;
use super::files::write_atomically;
use super::messages::Remedy;
use super::session::Session;
use crate::figure::{Figure, FigureFormat};

impl Session {
    pub(super) fn save_figure(
        &mut self,
        figure: &Arc<Figure>,
        format: FigureFormat,
        path: PathBuf,
    ) {
        let figure = Arc::clone(figure);
        self.jobs.figures.start(&self.wake, move |_| {
            let content = figure
                .encoded(format)
                .map_err(|error| SessionError::Missing(error.to_string()))?;
            write_atomically(&path, &content)?;
            Ok(path)
        });
    }

    pub(super) fn poll_figures(&mut self) -> bool {
        let Some(outcome) = self.jobs.figures.outcome() else {
            return false;
        };
        match outcome {
            Ok(path) => self.tell_of_file("Save plot", &path),
            Err(error) => self.report("Save plot", &error, None::<Remedy>),
        }
        true
    }
}
