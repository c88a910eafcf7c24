//! The `groundtrack` command: arguments in, exit code out.

use std::process::ExitCode;

use groundtrack::commands::{self, Error};
use groundtrack::supervisor::ExitReason;

/// librdkafka allocates on one thread and frees on another, which costs the system's allocator a
/// third of the CPU in locks; `override` replaces malloc for the C code as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ended = commands::run(stand_in::load(), stand_in::groups(), false);
    if let Err(error) = &ended {
        eprintln!("{error}");
    }
    ExitCode::from(exit_code(&ended))
}

/// The one place where what happened becomes a number.
fn exit_code(ended: &Result<ExitReason, Error>) -> u8 {
    match ended {
        Ok(ExitReason::Drained | ExitReason::CaughtUp) => 0,
        Ok(ExitReason::OnlyStoppedLeft(_) | ExitReason::GaveUp(_) | ExitReason::Interrupted) => 1,
        Err(Error::Start { .. }) => 1,
        Err(Error::Configuration(_)) => 2,
        Ok(ExitReason::Fenced(_)) => 5,
    }
}

/// Stands where `cli.rs`, the loader of the configuration and the groups come in.
mod stand_in {
    use groundtrack::supervisor::{Group, GroupName, Load};

    pub(super) fn load() -> Load {
        Box::new(|| {
            Err(vec![
                "the configuration's loader is not built in".to_owned(),
            ])
        })
    }

    pub(super) fn groups() -> Vec<Group> {
        vec![Group::new(GroupName::Web, groundtrack::web::run)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_that_scripts_rely_on() {
        assert_eq!(exit_code(&Ok(ExitReason::Drained)), 0);
        assert_eq!(exit_code(&Ok(ExitReason::CaughtUp)), 0);
        assert_eq!(
            exit_code(&Ok(ExitReason::OnlyStoppedLeft(String::new()))),
            1
        );
        assert_eq!(exit_code(&Ok(ExitReason::GaveUp(String::new()))), 1);
        assert_eq!(exit_code(&Ok(ExitReason::Interrupted)), 1);
        assert_eq!(exit_code(&Err(Error::Configuration(Vec::new()))), 2);
        assert_eq!(exit_code(&Ok(ExitReason::Fenced(String::new()))), 5);
    }
}
