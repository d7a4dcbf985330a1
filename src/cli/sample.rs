//! What the program does where there is no display: the window's first job, in the terminal.

use super::args::{Arguments, Command};
use super::{Exit, finish, output, run_command};
use crate::session::{SessionError, bundled_samples};
use clap::Parser as _;

/// Evaluates the first bundled sample at 8 and at 4 bits.
pub fn run_sample() -> Exit {
    output::line("There is no display, so the bundled sample runs here in the terminal.");
    let Some(sample) = bundled_samples().into_iter().next() else {
        return finish(Err(SessionError::Missing(
            "the bundled samples are not there; start the program from its own folder".to_owned(),
        )));
    };
    for preset in ["W8A8", "W4A4"] {
        output::line(&format!("\n{}, {preset}", sample.name));
        let mut words = vec![
            "quantscope".into(),
            "eval".into(),
            sample.model.clone().into_os_string(),
        ];
        words.extend(["--data".into(), sample.data.data.clone().into_os_string()]);
        if let Some(calibration) = &sample.data.calibration {
            words.extend(["--calib".into(), calibration.clone().into_os_string()]);
        }
        words.extend(["--preset".into(), preset.into()]);
        let exit = match Arguments::try_parse_from(words) {
            Ok(Arguments {
                command: Some(Command::Eval(arguments)),
                ..
            }) => run_command(Command::Eval(arguments)),
            _ => Exit::BadInput,
        };
        if exit != Exit::Done {
            return exit;
        }
    }
    output::line(
        "\nWith a display, `quantscope` opens the window. `quantscope --help` lists the commands.",
    );
    Exit::Done
}
