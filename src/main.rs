//! The `groundtrack` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use groundtrack::cli::Cli;
use groundtrack::commands::{self, Error, Outcome};
use groundtrack::control::client::AskError;
use groundtrack::supervisor::ExitReason;

/// librdkafka allocates on one thread and frees on another, which costs the system's allocator a
/// third of the CPU in locks; `override` replaces malloc for the C code as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // Nobody is left to be told where not even this can be written.
            let _ = usage.print();
            return u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let ended = commands::dispatch(cli.command);
    if let Err(error) = &ended {
        eprintln!("{error}");
    }
    ExitCode::from(exit_code(&ended))
}

/// The one place where what happened becomes a number.
fn exit_code(ended: &Result<Outcome, Error>) -> u8 {
    match ended {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::NotWell) => 1,
        Ok(Outcome::Disproved) => 3,
        Ok(Outcome::Served(reason)) => match reason {
            ExitReason::Drained | ExitReason::CaughtUp => 0,
            ExitReason::OnlyStoppedLeft(_) | ExitReason::GaveUp(_) | ExitReason::Interrupted => 1,
            ExitReason::Fenced(_) => 5,
        },
        Err(Error::Configuration(_) | Error::Refused(_)) => 2,
        Err(Error::Ask(AskError::NotRunning(_)) | Error::NotRunning(_) | Error::Ending) => 4,
        Err(
            Error::Start { .. }
            | Error::Output(_)
            | Error::Sample(_)
            | Error::Unproven(_)
            | Error::Adopt(_)
            | Error::Ask(_),
        ) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_that_scripts_rely_on() {
        let served = |reason| exit_code(&Ok(Outcome::Served(reason)));
        assert_eq!(served(ExitReason::Drained), 0);
        assert_eq!(served(ExitReason::CaughtUp), 0);
        assert_eq!(served(ExitReason::OnlyStoppedLeft(String::new())), 1);
        assert_eq!(served(ExitReason::GaveUp(String::new())), 1);
        assert_eq!(served(ExitReason::Interrupted), 1);
        assert_eq!(served(ExitReason::Fenced(String::new())), 5);
        assert_eq!(exit_code(&Ok(Outcome::Done)), 0);
        assert_eq!(exit_code(&Ok(Outcome::NotWell)), 1);
        assert_eq!(exit_code(&Ok(Outcome::Disproved)), 3);
        assert_eq!(exit_code(&Err(Error::Unproven(String::new()))), 1);
        assert_eq!(exit_code(&Err(Error::Configuration(Vec::new()))), 2);
        assert_eq!(exit_code(&Err(Error::Refused(Vec::new()))), 2);
        assert_eq!(exit_code(&Err(Error::Ending)), 4);
        assert_eq!(exit_code(&Err(Error::NotRunning(String::new()))), 4);
        let ask = |error| exit_code(&Err(Error::Ask(error)));
        assert_eq!(ask(AskError::NotRunning(Vec::new())), 4);
        let path = String::new();
        assert_eq!(ask(AskError::Ended { path }), 1);
        assert_eq!(exit_code(&Err(Error::Sample(String::new()))), 1);
    }
}
