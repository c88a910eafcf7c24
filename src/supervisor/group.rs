//! The groups: how each is run, and when it is wanted.

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
    /// The local socket that `groundtrack status` and `reload` ask; last, so that a drain can be
    /// watched.
    Control,
}

impl GroupName {
    /// As in logs, status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupName::Ingest => "ingest",
            GroupName::Landing => "landing",
            GroupName::Web => "web",
            GroupName::Control => "control",
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
            GroupName::Landing | GroupName::Control => true,
            GroupName::Web => config.web.is_some(),
        }
    }
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

    #[test]
    fn groups_are_drained_from_the_source_down() {
        assert!(GroupName::Ingest < GroupName::Landing && GroupName::Landing < GroupName::Web);
        assert!(GroupName::Web < GroupName::Control);
    }
}
