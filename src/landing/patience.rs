//! Asking again until there is an answer: back-off, one log line per change, a trouble in the
//! status while it lasts.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use slog::{Logger, info, warn};

use crate::landing::broker::{Broker, BrokerError, TopicView};
use crate::logging::{Repeated, Say};
use crate::status::{Pulse, Status, Waiting};
use crate::store::retry::Backoff;

/// The first wait: most failures of a store are over within a request's time.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest wait: a store that is back after an outage is noticed soon, and asked four times a
/// minute meanwhile by each partition.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Patience with one place ("the store", "Kafka"), shared by all who ask it.
#[derive(Debug, Clone)]
pub struct Patience {
    inner: Arc<Inner>,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Inner {
    place: &'static str,
    repeated: Mutex<Repeated>,
    status: Arc<Status>,
    log: Logger,
}

/// One question that is asked until it is answered.
#[derive(Debug)]
pub struct Asking {
    patience: Patience,
    backoff: Backoff,
    failed: bool,
    _waiting: Waiting,
}

impl Patience {
    /// Patience with this place, on behalf of the actor whose life sign this is.
    pub fn new(place: &'static str, status: Arc<Status>, pulse: Arc<Pulse>, log: Logger) -> Self {
        let repeated = Mutex::default();
        let inner = Arc::new(Inner {
            place,
            repeated,
            status,
            log,
        });
        Self { inner, pulse }
    }

    /// The same patience, on behalf of one piece of the actor's work.
    pub fn of_piece(&self, pulse: Arc<Pulse>) -> Self {
        Self {
            inner: self.inner.clone(),
            pulse,
        }
    }

    /// From now on, until the guard is dropped, the actor waits for this place: for who asks it
    /// already.
    pub fn waiting(&self) -> Waiting {
        self.pulse.waiting(self.inner.place)
    }

    /// A question about to be asked: from now on the actor waits for this place.
    pub fn ask(&self) -> Asking {
        let waiting = self.waiting();
        Asking {
            patience: self.clone(),
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX),
            failed: false,
            _waiting: waiting,
        }
    }
}

impl Patience {
    /// Asks until there is an answer.
    pub async fn until_answered<T, E: Display + Sync>(
        &self,
        what: &'static str,
        mut question: impl AsyncFnMut() -> Result<T, E>,
    ) -> T {
        let mut asking = self.ask();
        loop {
            match question().await {
                Ok(answer) => {
                    asking.answered();
                    return answer;
                }
                Err(error) => asking.failed(what, &error).await,
            }
        }
    }

    /// The topic, once it exists and a broker answers: it is waited for, never created by us.
    pub(crate) async fn topic(&self, broker: &dyn Broker) -> TopicView {
        self.until_answered("asking for the topic", async || {
            let topic = broker.topic().await?;
            topic.ok_or_else(|| BrokerError("it does not exist; create it".to_owned()))
        })
        .await
    }
}

impl Asking {
    /// It was not answered: says so, and waits before it may be asked again.
    pub async fn failed(&mut self, what: &'static str, error: &(dyn Display + Sync)) {
        self.failed = true;
        let inner = &self.patience.inner;
        inner.status.trouble(
            inner.place,
            &format!("{what}: {error}; asked again until it answers"),
            false,
        );
        let said = inner
            .repeated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .failed(Instant::now());
        let error = error.to_string();
        match said {
            Some(Say::Started) => {
                warn!(inner.log, "request failed, asking again"; "place" => inner.place, "request" => what, "error" => error);
            }
            Some(Say::Still { count, lasting }) => {
                warn!(inner.log, "requests still fail, asking again"; "place" => inner.place, "request" => what,
                    "error" => error, "failures" => count, "seconds" => lasting.as_secs());
            }
            Some(Say::Ended { .. }) | None => {}
        }
        tokio::time::sleep(self.backoff.next_delay(fastrand::f64())).await;
    }

    /// It was answered.
    pub fn answered(self) {
        let inner = &self.patience.inner;
        if !self.failed {
            return;
        }
        inner.status.mended(inner.place);
        let said = inner
            .repeated
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ended(Instant::now());
        if let Some(Say::Ended { count, lasting }) = said {
            info!(inner.log, "requests are answered again"; "place" => inner.place, "failures" => count, "seconds" => lasting.as_secs());
        }
    }
}
