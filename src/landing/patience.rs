//! Asking again until there is an answer: back-off, one log line per change, a trouble in the
//! status while it lasts.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slog::{KV, Logger, Record, Serializer, info, warn};

use crate::landing::broker::{Broker, BrokerError, TopicView};
use crate::logging::events::{self, Event};
use crate::logging::{Repeated, Say};
use crate::status::{Pulse, Status, Waiting, now_ms};
use crate::store::retry::Backoff;

/// The first wait: most failures of a store are over within a request's time.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// The longest wait: a store that is back after an outage is noticed soon, and asked four times a
/// minute meanwhile by each partition.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// For objects.
    Store,
    /// For checkpoints, which may be denied where objects are not.
    Checkpoints,
    /// The brokers.
    Kafka,
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Place::Store => "the store",
            Place::Checkpoints => "the store's checkpoints",
            Place::Kafka => "kafka",
        }
    }

    /// What its failure and its return are in the log.
    fn events(self) -> (Event, Event) {
        match self {
            Place::Store | Place::Checkpoints => (events::STORE_UNREACHABLE, events::STORE_BACK),
            Place::Kafka => (events::BROKER_UNREACHABLE, events::BROKER_BACK),
        }
    }
}

/// What is asked for, and of what.
#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    /// About the object or the prefix of this key.
    Key(&'static str, &'a str),
    /// About this partition.
    Partition(&'static str, i32),
    /// About the topic.
    Topic(&'static str),
}

impl Display for Question<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Key(what, key) => write!(formatter, "{what} {key}"),
            Question::Partition(what, partition) => {
                write!(formatter, "{what} of partition {partition}")
            }
            Question::Topic(what) => formatter.write_str(what),
        }
    }
}

impl KV for Question<'_> {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        // The last written comes out first.
        match self {
            Question::Key(what, key) => {
                serializer.emit_str("key", key)?;
                serializer.emit_str("request", what)
            }
            Question::Partition(what, partition) => {
                serializer.emit_i32("partition", *partition)?;
                serializer.emit_str("request", what)
            }
            Question::Topic(what) => serializer.emit_str("request", what),
        }
    }
}

/// Patience with one place, shared by all who ask it.
#[derive(Debug, Clone)]
pub struct Patience {
    inner: Arc<Inner>,
    pulse: Arc<Pulse>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    failing: Mutex<FailingPlace>,
    status: Arc<Status>,
    log: Logger,
}

#[derive(Debug, Default)]
struct FailingPlace {
    repeated: Repeated,
    /// Questions that failed and are not answered yet.
    open: usize,
    /// Whether the status tells of a trouble.
    is_troubled: bool,
    /// A generation before told of it, and nobody yet that it is over.
    is_inherited: bool,
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
    pub fn new(place: Place, status: Arc<Status>, pulse: Arc<Pulse>, log: Logger) -> Self {
        let is_troubled = status.has_trouble(place.as_str());
        let inner = Arc::new(Inner {
            place,
            failing: Mutex::new(FailingPlace {
                is_troubled,
                is_inherited: is_troubled,
                ..FailingPlace::default()
            }),
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
        self.pulse.waiting(self.inner.place.as_str())
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

    /// Asks until there is an answer.
    pub async fn until_answered<T, E: Display + Sync>(
        &self,
        question: Question<'_>,
        mut ask: impl AsyncFnMut() -> Result<T, E>,
    ) -> T {
        let mut asking = self.ask();
        loop {
            match ask().await {
                Ok(answer) => {
                    asking.answered();
                    return answer;
                }
                Err(error) => asking.failed(question, &error).await,
            }
        }
    }

    /// The topic, once it exists and a broker answers: it is waited for, never created by us.
    pub(crate) async fn topic(&self, broker: &dyn Broker) -> TopicView {
        self.until_answered(Question::Topic("asking for the topic"), async || {
            let topic = broker.topic().await?;
            topic.ok_or_else(|| BrokerError("it does not exist; create it".to_owned()))
        })
        .await
    }
}

impl Inner {
    fn failing(&self) -> MutexGuard<'_, FailingPlace> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_failing(&self, question: Question<'_>, error: &str) {
        let said = {
            let mut failing = self.failing();
            failing.is_troubled = true;
            failing.is_inherited = false;
            failing.repeated.failed(Instant::now())
        };
        let (event, _) = self.place.events();
        let place = self.place.as_str();
        match said {
            Some(Say::Started) => warn!(self.log, "request failed, asking again"; event,
                question, "error" => error, "place" => place),
            Some(Say::Still { count, lasting }) => {
                warn!(self.log, "requests still fail, asking again"; event, question,
                    "error" => error, "place" => place, "failures" => count,
                    "seconds" => lasting.as_secs());
            }
            Some(Say::Ended { .. }) | None => {}
        }
    }

    /// A question was answered, and none that failed is open.
    fn say_well(&self, failing: &mut FailingPlace) {
        failing.is_troubled = false;
        let is_inherited = std::mem::take(&mut failing.is_inherited);
        let trouble = self.status.mended(self.place.as_str());
        let (_, event) = self.place.events();
        let place = self.place.as_str();
        if let Some(Say::Ended { count, lasting }) = failing.repeated.ended(Instant::now()) {
            info!(self.log, "requests are answered again"; event, "place" => place,
                "failures" => count, "seconds" => lasting.as_secs());
        } else if let Some(trouble) = trouble.filter(|_| is_inherited) {
            let lasting_ms = now_ms().saturating_sub(trouble.since_ms).max(0);
            info!(self.log, "requests are answered again"; event, "place" => place,
                "seconds" => lasting_ms / 1000);
        }
    }
}

impl Asking {
    /// It was not answered: says so, and waits before it may be asked again.
    pub async fn failed(&mut self, question: Question<'_>, error: &(dyn Display + Sync)) {
        let inner = &self.patience.inner;
        if !std::mem::replace(&mut self.failed, true) {
            inner.failing().open += 1;
        }
        let error = error.to_string();
        inner.status.trouble(
            inner.place.as_str(),
            &format!("{question}: {error}; asked again until it answers"),
            false,
        );
        inner.say_failing(question, &error);
        tokio::time::sleep(self.backoff.next_delay(fastrand::f64())).await;
    }

    /// It was answered.
    pub fn answered(mut self) {
        self.close();
        let inner = &self.patience.inner;
        let mut failing = inner.failing();
        if failing.is_troubled && failing.open == 0 {
            inner.say_well(&mut failing);
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.failed) {
            self.patience.inner.failing().open -= 1;
        }
    }
}

/// A question that is given up is not open any more, but tells nothing of the place.
impl Drop for Asking {
    fn drop(&mut self) {
        self.close();
    }
}
