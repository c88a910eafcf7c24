//! What the supervisor is given, and what it answers in the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use slog::Logger;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::group::Group;
use super::reload::Reloads;
use crate::config::Config;
use crate::logging::LevelSwitch;
use crate::notify::Notifier;
use crate::signals::Signal;
use crate::status::Status;

/// A generation that was told to stop is gone within this, or its thread is stuck: leaving the
/// consumer group and closing connections take seconds.
pub const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Loads and validates the configuration; all mistakes where it is not valid.
pub type Load = Box<dyn FnMut() -> Result<Config, Vec<String>> + Send>;

/// What the supervisor is given.
pub struct Plan {
    /// At most one of each name.
    pub groups: Vec<Group>,
    /// What it starts with.
    pub config: Config,
    /// What a reload calls.
    pub load: Load,
    /// Where it writes what it does.
    pub status: Arc<Status>,
    /// The root logger.
    pub log: Logger,
    /// Follows `log.level` at once.
    pub level: LevelSwitch,
    /// Tells systemd.
    pub notifier: Notifier,
    /// What signals ask for.
    pub signals: mpsc::Receiver<Signal>,
    /// Who waits for a reload.
    pub reloads: Reloads,
    /// Cancelled: drain and end, as at SIGTERM.
    pub shutdown: CancellationToken,
    /// Only `landing` runs, and the process ends when it has landed what the topic held.
    pub until_caught_up: bool,
    /// [`GONE_WITHIN`], but for tests.
    pub gone_within: Duration,
}

impl fmt::Debug for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Plan")
            .field("groups", &self.groups)
            .field("config", &self.config)
            .field("until_caught_up", &self.until_caught_up)
            .finish_non_exhaustive()
    }
}

/// Why the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// It was asked to, and drained; what the deadline cut off is left to the next start.
    Drained,
    /// Everything that the topic held at the start has landed.
    CaughtUp,
    /// Only partitions are left that cannot go on: which, and why.
    OnlyStoppedLeft(String),
    /// It gave up: why.
    GaveUp(String),
    /// Another process has this `instance_id`.
    Fenced(String),
    /// A second signal cut the drain short.
    Interrupted,
}
