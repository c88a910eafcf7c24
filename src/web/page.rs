//! What the handlers read, and the task that keeps it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::status::Status;
use crate::status::snapshot::{FileSnapshot, Snapshot};

use super::browse::Browse;
use super::history::History;
use super::live::Live;
use super::overview::Overview;

/// As often as a person sees something change.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Pages that are open and kept up to date: a team's, and far fewer than the connections that a
/// scraper and a load balancer need too.
const READERS_MAX: usize = 32;

/// What the handlers read.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: Arc<Status>,
    pub(super) settings: config::Web,
    config: Arc<Config>,
    pub(super) browse: Browse,
    history: Mutex<History>,
    live: watch::Sender<Arc<Live>>,
    readers: Arc<Semaphore>,
    /// Cancelled: answers without end do end.
    pub(super) ends: CancellationToken,
}

impl Page {
    pub(super) fn new(
        config: Arc<Config>,
        settings: config::Web,
        status: Arc<Status>,
        ends: CancellationToken,
    ) -> Self {
        Self {
            history: Mutex::new(History::new(&status)),
            status,
            settings,
            browse: Browse::new(config.clone(), ends.clone()),
            config,
            live: watch::channel(Arc::default()).0,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            ends,
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.status.snapshot(self.config.files.max_age)
    }

    pub(super) fn overview(&self) -> Overview {
        let status = self.snapshot();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let lags: BTreeMap<i32, Vec<f64>> = Overview::shown(&status.partitions)
            .into_iter()
            .map(|one| (one.partition, history.lag_of(one.partition)))
            .collect();
        let store = &self.config.store;
        Overview {
            topic: self.config.kafka.topic.clone(),
            group: self.config.kafka.group.clone(),
            store: format!("{}/{}", store.location, store.data),
            budget_bytes: self.config.limits.memory_bytes,
            rates: history.rates(),
            files: history.files().map(FileSnapshot::of).collect(),
            lag: history.lag(),
            lags,
            track: self.status.track(),
            status,
        }
    }

    /// A reader of what changes; `None`: there are as many as there may be.
    pub(super) fn reader(&self) -> Option<(watch::Receiver<Arc<Live>>, OwnedSemaphorePermit)> {
        let permit = self.readers.clone().try_acquire_owned().ok()?;
        let mut live = self.live.subscribe();
        // What was told before may be old; the next telling is at most a second away.
        live.mark_unchanged();
        Some((live, permit))
    }

    /// Keeps the history, and tells the readers, for as long as it is polled.
    pub(super) async fn keep(&self) -> Infallible {
        loop {
            let is_read = self.live.receiver_count() > 0;
            self.look(is_read, Instant::now());
            if is_read {
                self.live.send_replace(Arc::new(self.overview().live()));
            }
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// For readers the history is looked at each time, else only where a sample is due.
    fn look(&self, is_read: bool, now: Instant) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if is_read || history.is_due(now) {
            history.look(&self.status, &self.snapshot(), now);
        }
    }
}
