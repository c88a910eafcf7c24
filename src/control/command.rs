//! The commands `reload` and `status`.

use std::io;
use std::path::PathBuf;

use serde_json::json;

use super::client::{self, AskError};
use super::journal;
use super::place::Surroundings;
use super::watch::{Seen, size_of_stdout, watch};
use crate::cli::{self, Settings};
use crate::commands::{Error, Outcome, print};
use crate::config::Config;
use crate::signals;
use crate::supervisor::reload::Answer;

/// Where the process that runs with these settings may be asked.
fn sockets(settings: &Settings) -> Vec<PathBuf> {
    let asked = Config::socket(&settings.sources());
    Surroundings::of_process(Some(&settings.config)).candidates(asked.as_deref())
}

fn ask_runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Start {
            what: "no runtime could be started",
            error,
        })
}

/// `groundtrack reload`
pub(crate) fn reload(arguments: &cli::Reload) -> Result<Outcome, Error> {
    let sockets = sockets(&arguments.settings);
    let answer = ask_runtime()?.block_on(client::reload(&sockets))?;
    if arguments.json {
        print(&format_args!("{}\n", json!(answer)))?;
    }
    match answer {
        Answer::Applied(applied) => {
            if !arguments.json {
                print(&applied)?;
            }
            Ok(Outcome::Done)
        }
        Answer::Refused { mistakes } => Err(Error::Refused(mistakes)),
        Answer::Ending => Err(Error::Ending),
    }
}

/// `groundtrack status`: what it says goes to stdout; that it does not run, and what the journal
/// said last of it, to stderr.
pub(crate) fn status(arguments: &cli::Status) -> Result<Outcome, Error> {
    let sockets = sockets(&arguments.settings);
    let runtime = ask_runtime()?;
    let seen = if arguments.watch {
        let (listener, signals) = signals::listen().map_err(|error| Error::Start {
            what: "the signals cannot be taken over",
            error,
        })?;
        let watched = runtime.block_on(watch(&sockets, arguments.json, signals));
        drop(listener);
        match watched {
            // Who read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Outcome::Done),
            watched => match watched.map_err(Error::Output)? {
                Some(seen) => seen,
                None => return Ok(Outcome::Done),
            },
        }
    } else {
        let seen = runtime.block_on(Seen::ask(&sockets));
        match &seen {
            Seen::Answered(document) if arguments.json => print(&format_args!("{document:#}\n"))?,
            Seen::Answered(_) => print(&seen.text(size_of_stdout()))?,
            Seen::Unanswered(_) => {}
        }
        seen
    };
    match seen.into_health() {
        Ok(true) => Ok(Outcome::Done),
        Ok(false) => Ok(Outcome::NotWell),
        Err(error @ AskError::NotRunning(_)) => {
            let unit = Surroundings::of_process(Some(&arguments.settings.config)).unit();
            let words = journal::last_words(&unit);
            Err(Error::NotRunning(format!("{error}\n{words}")))
        }
        Err(error) => Err(error.into()),
    }
}
