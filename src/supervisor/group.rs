//! The groups: how each is run, when it is wanted, and which sections of the configuration it
//! is made from.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::Config;
use crate::generation::{End, Failure, Generation, panic_message};
use crate::status::GroupStatus;

/// How a generation ended.
pub type Outcome = Result<End, Failure>;

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// Which group; in the order in which they are drained, from the source down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupName {
    /// From the source to the topic.
    Ingest,
    /// From the topic to the store.
    Landing,
    /// The page.
    Web,
}

impl GroupName {
    /// As in logs, status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupName::Ingest => "ingest",
            GroupName::Landing => "landing",
            GroupName::Web => "web",
        }
    }

    /// Whether its failures may end the process.
    pub fn is_vital(self) -> bool {
        self == GroupName::Landing
    }

    /// Whether this configuration has it.
    pub fn is_configured(self, config: &Config) -> bool {
        match self {
            GroupName::Ingest => config.source.is_some(),
            GroupName::Landing => true,
            GroupName::Web => config.web.is_some(),
        }
    }

    /// Whether a generation made from `old` is out of date under `new`.
    pub fn is_changed(self, old: &Config, new: &Config) -> bool {
        match self {
            GroupName::Ingest => {
                old.source != new.source
                    || old.kafka != new.kafka
                    // The publisher holds what is not yet delivered within the process's memory.
                    || old.limits.memory_bytes != new.limits.memory_bytes
            }
            GroupName::Landing => {
                old.kafka != new.kafka
                    || old.table != new.table
                    || old.files != new.files
                    || old.store != new.store
                    || old.limits != new.limits
                    || old.skip != new.skip
                    || old.supervision != new.supervision
            }
            GroupName::Web => {
                old.web != new.web
                    || old.status != new.status
                    // `/healthz` counts in it.
                    || old.files.max_age != new.files.max_age
            }
        }
    }
}

/// The groups that a change of the configuration restarts.
pub fn changed_groups(old: &Config, new: &Config) -> Vec<GroupName> {
    [GroupName::Ingest, GroupName::Landing, GroupName::Web]
        .into_iter()
        .filter(|group| group.is_changed(old, new))
        .collect()
}

/// A group and the function that runs one generation of it.
#[derive(Clone)]
pub struct Group {
    /// Which.
    pub name: GroupName,
    run: Arc<dyn Fn(Generation) -> Running + Send + Sync>,
}

impl fmt::Debug for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Group")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// A group whose generations are run by `run`.
    pub fn new<F, Fut>(name: GroupName, run: F) -> Self
    where
        F: Fn(Generation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + 'static,
    {
        Self {
            name,
            run: Arc::new(move |generation| Box::pin(run(generation))),
        }
    }

    /// Runs a generation on a thread and an actix system of its own. The answer comes when both
    /// are gone, blocking work included.
    pub(super) fn start(&self, generation: Generation) -> io::Result<oneshot::Receiver<Outcome>> {
        let (sender, receiver) = oneshot::channel();
        let run = self.run.clone();
        std::thread::Builder::new()
            .name(self.name.as_str().to_owned())
            .spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    let beats = beat(
                        generation.group.clone(),
                        generation.config.supervision.heartbeat,
                    );
                    actix::System::new().block_on(async {
                        tokio::select! {
                            outcome = run(generation) => outcome,
                            never = beats => match never {},
                        }
                    })
                }));
                let outcome = ended.unwrap_or_else(|payload| {
                    let message = panic_message(payload.as_ref());
                    Err(Failure::Group(format!("panicked: {message}")))
                });
                // Nobody listens once the process ends.
                let _ = sender.send(outcome);
            })?;
        Ok(receiver)
    }
}

/// The life sign of a group's thread: four times a heartbeat, and at least once a second where that
/// is short, it must come round. A thread that is stuck while its actors have named a wait shows
/// in nothing else.
async fn beat(group: Arc<GroupStatus>, heartbeat: Duration) -> Infallible {
    let every = (heartbeat / 4).max(Duration::from_secs(1));
    loop {
        group.thread.works();
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut Config)) -> Vec<&'static str> {
        let old = crate::testing::config();
        let mut new = old.clone();
        change(&mut new);
        let groups = changed_groups(&old, &new);
        groups.into_iter().map(GroupName::as_str).collect()
    }

    #[test]
    fn a_change_restarts_only_the_groups_made_from_it() {
        assert_eq!(changed(|_| ()), [""; 0]);
        assert_eq!(changed(|config| config.source = None), ["ingest"]);
        assert_eq!(
            changed(|config| config.kafka.topic.push('2')),
            ["ingest", "landing"]
        );
        assert_eq!(changed(|config| config.table.extra ^= true), ["landing"]);
        assert_eq!(changed(|config| config.files.max_rows += 1), ["landing"]);
        assert_eq!(changed(|config| config.store.data.push('2')), ["landing"]);
        assert_eq!(changed(|config| config.skip.clear()), [""; 0]);
        assert_eq!(
            changed(|config| config.supervision.restarts += 1),
            ["landing"]
        );
        assert_eq!(
            changed(|config| config.files.max_age += Duration::from_secs(1)),
            ["landing", "web"]
        );
        assert_eq!(changed(|config| config.web = None), ["web"]);
    }

    #[test]
    fn a_change_of_the_log_restarts_nothing() {
        let level = crate::config::LogLevel::Trace;
        assert_eq!(changed(|config| config.log.level = level), [""; 0]);
    }

    #[test]
    fn groups_are_drained_from_the_source_down() {
        assert!(GroupName::Ingest < GroupName::Landing && GroupName::Landing < GroupName::Web);
    }
}
