//! What each command does. Errors become exit codes in `main.rs` and nowhere else.

use std::fmt;
use std::io;
use std::sync::Arc;

use slog::{Logger, error, info, warn};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::logging::{self, LogSetup};
use crate::signals;
use crate::status::Status;
use crate::supervisor::{ExitReason, GONE_WITHIN, Group, Load, Plan, supervise};

/// Why a command could not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not valid: all of its mistakes, one a line.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// The system refused what the process needs to start.
    #[error("{what}: {error}")]
    Start {
        /// What it refused.
        what: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

/// What [`serve`] is given.
pub struct Service {
    /// What it starts with.
    pub config: Config,
    /// What SIGHUP calls.
    pub load: Load,
    /// Ingest, landing and web.
    pub groups: Vec<Group>,
    /// Land what the topic held at the start, then end.
    pub until_caught_up: bool,
    /// Cancelled: drain and end.
    pub shutdown: CancellationToken,
    /// Made by the caller, who may read it meanwhile.
    pub status: Arc<Status>,
    /// The log.
    pub log: LogSetup,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Service")
            .field("config", &self.config)
            .field("groups", &self.groups)
            .field("until_caught_up", &self.until_caught_up)
            .finish_non_exhaustive()
    }
}

/// `groundtrack run`: loads the configuration and runs the groups until there is a reason to end.
///
/// # Errors
/// [`Error::Configuration`] with all mistakes, [`Error::Start`].
pub fn run(mut load: Load, groups: Vec<Group>, until_caught_up: bool) -> Result<ExitReason, Error> {
    let config = load().map_err(Error::Configuration)?;
    serve(Service {
        log: logging::start(&config.log),
        config,
        load,
        groups,
        until_caught_up,
        shutdown: CancellationToken::new(),
        status: Status::new(),
    })
}

/// Runs the groups until there is a reason to end: what `run` and `demo` share.
///
/// # Errors
/// [`Error::Start`] where the signals cannot be taken over.
pub fn serve(service: Service) -> Result<ExitReason, Error> {
    let LogSetup {
        logger,
        guard,
        level,
    } = service.log;
    logging::log_panics(&logger);
    let (listener, signals) = signals::listen().map_err(|error| Error::Start {
        what: "the signals cannot be taken over",
        error,
    })?;
    log_start(&logger, &service.config);
    let reason = supervise(Plan {
        groups: service.groups,
        config: service.config,
        load: service.load,
        status: service.status,
        log: logger.clone(),
        level,
        signals,
        shutdown: service.shutdown,
        until_caught_up: service.until_caught_up,
        gone_within: GONE_WITHIN,
    });
    log_end(&logger, &reason);
    drop(listener);
    drop(guard);
    Ok(reason)
}

fn log_start(log: &Logger, config: &Config) {
    info!(log, "groundtrack starts"; "version" => env!("CARGO_PKG_VERSION"),
        "pid" => std::process::id(), "topic" => &config.kafka.topic,
        "consumer_group" => &config.kafka.group);
}

fn log_end(log: &Logger, reason: &ExitReason) {
    match reason {
        ExitReason::Drained | ExitReason::CaughtUp => info!(log, "groundtrack ends"),
        ExitReason::OnlyStoppedLeft(which) => {
            error!(log, "groundtrack ends, only stopped partitions are left"; "error" => which);
        }
        ExitReason::GaveUp(why) => error!(log, "groundtrack gives up"; "error" => why),
        ExitReason::Fenced(why) => error!(log, "groundtrack is fenced"; "error" => why),
        ExitReason::Interrupted => warn!(log, "groundtrack ends before its drain did"),
    }
}
