//! Asking again until there is an answer: back-off, one log line per change, a trouble in the
//! status while it lasts.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slog::{KV, Logger, Record, Serializer, info, warn};

use crate::landing::broker::{Broker, TopicView};
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

    /// What its failure and its return are in the log. `is_absent`: Kafka answers that there is no
    /// topic.
    fn events(self, is_absent: bool) -> (Event, Event) {
        match self {
            Place::Kafka if is_absent => (events::TOPIC_MISSING, events::TOPIC_BACK),
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
    /// The same, and the answer is that there is none.
    AbsentTopic(&'static str),
}

impl Display for Question<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Key(what, key) => write!(formatter, "{what} {key}"),
            Question::Partition(what, partition) => {
                write!(formatter, "{what} of partition {partition}")
            }
            Question::Topic(what) | Question::AbsentTopic(what) => formatter.write_str(what),
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
            Question::Topic(what) | Question::AbsentTopic(what) => {
                serializer.emit_str("request", what)
            }
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
    /// What a line said of that last was that there is no topic.
    is_absent: bool,
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
        let what = "asking for the topic";
        let mut asking = self.ask();
        loop {
            match broker.topic().await {
                Ok(Some(topic)) => {
                    asking.answered();
                    return topic;
                }
                Ok(None) => {
                    let absent = "it does not exist; create it";
                    asking.failed(Question::AbsentTopic(what), &absent).await;
                }
                Err(error) => asking.failed(Question::Topic(what), &error).await,
            }
        }
    }
}

impl Inner {
    fn failing(&self) -> MutexGuard<'_, FailingPlace> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_failing(&self, question: Question<'_>, error: &str) {
        let is_absent = matches!(question, Question::AbsentTopic(_));
        let said = {
            let mut failing = self.failing();
            failing.is_troubled = true;
            failing.is_inherited = false;
            let said = failing.repeated.failed(now());
            if said.is_some() {
                failing.is_absent = is_absent;
            }
            said
        };
        let (event, _) = self.place.events(is_absent);
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
        let (_, event) = self.place.events(failing.is_absent);
        let place = self.place.as_str();
        if let Some(Say::Ended { count, lasting }) = failing.repeated.ended(now()) {
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

/// By the clock that the waits between two attempts go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use slog::{Drain, Level, Never, OwnedKVList, o};

    use super::*;

    /// The messages of what is written at info or above.
    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Drain for Lines {
        type Ok = ();
        type Err = Never;

        fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
            if record.level().is_at_least(Level::Info) {
                self.0.lock().unwrap().push(record.msg().to_string());
            }
            Ok(())
        }
    }

    struct Rig {
        lines: Lines,
        status: Arc<Status>,
        patience: Patience,
    }

    impl Rig {
        fn new() -> Self {
            Self::after(Status::new())
        }

        fn after(status: Arc<Status>) -> Self {
            let lines = Lines::default();
            let pulse = status.group("landing").pulse("uploader");
            let log = Logger::root(lines.clone(), o!());
            Self {
                patience: Patience::new(Place::Store, status.clone(), pulse, log),
                lines,
                status,
            }
        }

        fn said(&self) -> Vec<String> {
            self.lines.0.lock().unwrap().clone()
        }
    }

    const QUESTION: Question<'static> = Question::Key("creating", "a/b");
    const FAILED: &str = "request failed, asking again";
    const STILL: &str = "requests still fail, asking again";
    const BACK: &str = "requests are answered again";

    #[tokio::test(start_paused = true)]
    async fn a_night_of_failures_is_a_few_lines_and_its_end_one() {
        let rig = Rig::new();
        let start = now();
        let night = Duration::from_secs(8 * 3600);
        let mut asked = 0;
        let answer = async || {
            asked += 1;
            if now() - start < night {
                Err("503")
            } else {
                Ok(())
            }
        };
        rig.patience.until_answered(QUESTION, answer).await;
        assert!(asked > 1_000, "{asked}");
        let said = rig.said();
        assert_eq!(said[0], FAILED);
        assert_eq!(said.iter().filter(|line| *line == STILL).count(), 12);
        assert_eq!(said.last().unwrap(), BACK);
        assert_eq!(said.len(), 14);
        assert!(!rig.status.has_trouble("the store"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_every_other_request_makes_no_storm() {
        let rig = Rig::new();
        for _ in 0..5_000 {
            let mut is_first = true;
            let answer = async || match std::mem::replace(&mut is_first, false) {
                true => Err("503"),
                false => Ok(()),
            };
            rig.patience.until_answered(QUESTION, answer).await;
            assert!(!rig.status.has_trouble("the store"));
        }
        let said = rig.said().len();
        assert!((6..20).contains(&said), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_answered_question_does_not_tell_that_another_is() {
        let rig = Rig::new();
        let mut denied = rig.patience.ask();
        denied.failed(QUESTION, &"403").await;
        let mut other = rig.patience.ask();
        other.failed(QUESTION, &"503").await;
        other.answered();
        assert_eq!(rig.said(), [FAILED]);
        assert!(rig.status.has_trouble("the store"));
        denied.answered();
        assert_eq!(rig.said(), [FAILED, BACK]);
        assert!(!rig.status.has_trouble("the store"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_of_a_generation_that_ended_is_mended_by_the_first_answer() {
        let before = Rig::new();
        let mut asking = before.patience.ask();
        asking.failed(QUESTION, &"503").await;
        drop(asking);
        let rig = Rig::after(before.status);
        rig.patience.ask().answered();
        assert!(!rig.status.has_trouble("the store"));
        assert_eq!(rig.said(), [BACK]);
        rig.patience.ask().answered();
        assert_eq!(rig.said(), [BACK]);
    }
}
