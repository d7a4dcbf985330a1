//! Headless commands over the session layer; the contract is the README's command-line section.

mod args;
mod bench;
mod eval;
mod export;
mod info;
mod memory;
mod merge;
mod number;
mod output;
mod random_inputs;
mod report;
mod run;
mod sample;
mod scores;
mod search;
mod search_report;
mod sensitivity;
mod timing;
mod tuning;

pub use args::{Arguments, Command, WindowArguments};
pub use sample::run_sample;

use crate::session::SessionError;

/// Exit codes of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Done, but a check such as `--min-top1` failed.
    CheckFailed,
    /// Bad input or usage; a message was written to standard error.
    BadInput,
}

impl Exit {
    /// The number that the process returns.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::CheckFailed => 1,
            Self::BadInput => 2,
        }
    }
}

/// Runs a command to its end.
pub fn run_command(command: Command) -> Exit {
    let result = match command {
        Command::Info(arguments) => info::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Sensitivity(arguments) => sensitivity::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
    };
    finish(result)
}

/// Tells what stopped the program.
pub fn report_error(text: &str) -> Exit {
    output::error(text);
    Exit::BadInput
}

fn finish(result: Result<Exit, SessionError>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) => report_error(&error.to_string()),
    }
}
