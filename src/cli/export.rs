//! `quantscope export`: a plan as a file.

use serde::Serialize;

use super::Exit;
use super::args::ExportArguments;
use super::output;
use crate::plan::PlanFile;
use crate::session::{OpenModel, SessionError, write_atomically};

#[derive(Serialize)]
struct Report {
    target: &'static str,
    files: Vec<std::path::PathBuf>,
}

pub(super) fn run(arguments: &ExportArguments) -> Result<Exit, SessionError> {
    if arguments.target != "plan" {
        return Err(SessionError::Missing(format!(
            "unknown target {:?}; expected plan",
            arguments.target
        )));
    }
    let model = OpenModel::open(&arguments.model)?;
    let plan = arguments.plan.fixed_plan_for(&model)?;
    let file = PlanFile::new(&plan, model.layers(), model.identity(), None);
    std::fs::create_dir_all(&arguments.out).map_err(|source| SessionError::Write {
        path: arguments.out.clone(),
        source,
    })?;
    let path = arguments.out.join("plan.json");
    write_atomically(&path, file.to_json()?.as_bytes())?;
    if arguments.output.json {
        output::json(&Report {
            target: "plan",
            files: vec![path],
        })?;
    } else {
        output::line(&format!("{}", path.display()));
    }
    Ok(Exit::Done)
}
