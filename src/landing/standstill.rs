//! Partitions whose reading stands still though their log goes on.
//!
//! librdkafka takes a damaged batch for one that was cut off by the size of the fetch, and asks
//! for it again and again without a word (its checksums are not looked at on the way of the data:
//! that costs half as much CPU again). A reader of its own that does look tells damage from a
//! pipeline that is full.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use slog::{Logger, debug, warn};

use crate::fault::{Step, Stepped};
use crate::landing::broker::{Broker, Met};
use crate::messages::{Command, CommandWay, Damage};
use crate::status::{PartitionState, PartitionStatus, Status};

/// A look reads a few atomics.
const LOOK: Duration = Duration::from_millis(500);

/// The task's parts.
pub(crate) struct StandstillWatch {
    pub(crate) broker: Stepped<dyn Broker>,
    pub(crate) topic: String,
    /// What stands still for so long is asked for.
    pub(crate) patience: Duration,
    pub(crate) commands: CommandWay,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Logger,
}

/// Where partitions stand, and since when.
#[derive(Debug, Default)]
struct Standing(BTreeMap<i32, (i64, Instant)>);

impl Standing {
    /// Whether a partition has stood at `position` for so long; from then on it is counted anew.
    fn is_due(&mut self, partition: i32, position: i64, patience: Duration, now: Instant) -> bool {
        let since = self.0.entry(partition).or_insert((position, now));
        if since.0 != position {
            *since = (position, now);
        }
        let is_due = now.duration_since(since.1) >= patience;
        if is_due {
            since.1 = now;
        }
        is_due
    }

    /// It is not to be read, or there is nothing to read.
    fn forget(&mut self, partition: i32) {
        self.0.remove(&partition);
    }
}

/// The offset that a partition would have to read next, if it is read and its log goes on.
fn wanted(status: &PartitionStatus) -> Option<i64> {
    let is_read = matches!(
        status.state(),
        PartitionState::Landing | PartitionState::Replaying
    );
    let position = status.position.load(Ordering::Relaxed);
    let goes_on = position >= 0 && position < status.log_end.load(Ordering::Relaxed);
    (is_read && goes_on).then_some(position)
}

impl StandstillWatch {
    /// Looks again and again; never returns.
    pub(crate) async fn run(self) {
        let mut standing = Standing::default();
        loop {
            tokio::time::sleep(LOOK).await;
            for ((topic, partition), status) in self.status.partitions() {
                match wanted(&status).filter(|_| topic == self.topic) {
                    None => standing.forget(partition),
                    Some(offset) => {
                        let now = Instant::now();
                        if standing.is_due(partition, offset, self.patience, now) {
                            self.ask(partition, offset).await;
                        }
                    }
                }
            }
        }
    }

    async fn ask(&self, partition: i32, offset: i64) {
        match self
            .broker
            .at(Step::WatchStandstill)
            .first_at(partition, offset)
            .await
        {
            Ok(Met::Damage { error, readable }) => {
                warn!(self.log, "reading stands still at a damaged place of the log";
                    "partition" => partition, "offset" => offset, "error" => &error);
                let damage = Damage {
                    offset,
                    readable,
                    error,
                };
                // A thread that does not hear of it is told again; one that is gone ends the
                // generation by itself.
                let _ = self
                    .commands
                    .send(Command::Damaged { partition, damage })
                    .await;
            }
            Ok(Met::Record(_) | Met::End) => {}
            Err(error) => {
                debug!(self.log, "what reading stands at is not known"; "partition" => partition, "offset" => offset, "error" => %error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_for_the_whole_time_is_due_and_then_counted_anew() {
        let (mut standing, start) = (Standing::default(), Instant::now());
        let second = Duration::from_secs(1);
        let mut is_due =
            |position, seconds| standing.is_due(0, position, 10 * second, start + seconds * second);
        assert!(!is_due(5, 0));
        assert!(!is_due(5, 9));
        assert!(!is_due(6, 11), "it moved");
        assert!(is_due(6, 21));
        assert!(!is_due(6, 22));
        assert!(is_due(6, 31));
    }

    #[test]
    fn a_partition_is_wanted_only_while_it_is_read_and_its_log_goes_on() {
        let status = Status::new().partition("t", 0);
        assert_eq!(wanted(&status), None);
        status.position.store(5, Ordering::Relaxed);
        status.log_end.store(8, Ordering::Relaxed);
        assert_eq!(wanted(&status), None);
        for state in [PartitionState::Landing, PartitionState::Replaying] {
            status.set_state(state);
            assert_eq!(wanted(&status), Some(5));
        }
        status.position.store(8, Ordering::Relaxed);
        assert_eq!(wanted(&status), None);
        status.position.store(5, Ordering::Relaxed);
        status.set_state(PartitionState::Stopped("gap".into()));
        assert_eq!(wanted(&status), None);
    }
}
