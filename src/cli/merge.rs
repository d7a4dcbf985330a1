//! `quantscope merge`: the parts of split work as one whole.

use super::Exit;
use super::args::MergeArguments;
use super::{output, search_report, sensitivity};
use crate::search::{SearchError, SearchState, StoredSweep};
use crate::session::{PartFile, SessionError, write_json};

pub(super) fn run(arguments: &MergeArguments) -> Result<Exit, SessionError> {
    let (mut sweeps, mut searches): (Vec<StoredSweep>, Vec<SearchState>) = (Vec::new(), Vec::new());
    for path in &arguments.parts {
        match PartFile::read(path)? {
            PartFile::Sweep(sweep) => sweeps.push(*sweep),
            PartFile::Search(search) => searches.push(*search),
        }
    }
    if !sweeps.is_empty() && !searches.is_empty() {
        return Err(SessionError::from(SearchError::Foreign(
            "some parts are of a sensitivity sweep and some of a search; join each on its own"
                .to_owned(),
        )));
    }
    if searches.is_empty() {
        let whole = StoredSweep::merge(&sweeps)?;
        let report = sensitivity::report(&whole, None)?;
        write_json(&arguments.out, &report)?;
        if arguments.output.json {
            output::json(&report)?;
        } else if !arguments.output.quiet {
            sensitivity::print(&report, &whole.widths);
        }
    } else {
        let whole = SearchState::merge(&searches)?;
        write_json(&arguments.out, &whole)?;
        let report = search_report::report(&whole, None);
        if arguments.output.json {
            output::json(&report)?;
        } else if !arguments.output.quiet {
            search_report::print(&report);
            output::line(&format!(
                "Choose a plan and measure it on the evaluation data with `quantscope search … --resume {}`",
                arguments.out.display()
            ));
        }
    }
    Ok(Exit::Done)
}
