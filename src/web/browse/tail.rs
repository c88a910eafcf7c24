//! The records of the topic as they come, for those who follow it. One reader for all of them,
//! which is there only while somebody follows; who does not keep up is told how many he missed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Bytes;
use futures_util::Stream;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::generation::panic_message;
use crate::web::words;

use super::log::{BrowseError, Log, Message, Step};
use super::text;

/// A team, and what their browsers have left open.
const FOLLOWERS_MAX: usize = 64;
/// What a follower may be behind: a burst of two seconds. Each is a few kilobytes at most.
const RING: usize = 512;
/// Nobody reads faster: what comes beyond this in a second is passed over, and said.
const RECORDS_A_TICK: usize = 250;
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody still follows.
const LOOK: Duration = Duration::from_millis(200);
/// Characters of a key and of a value.
const KEY_CHARACTERS: usize = 64;
const VALUE_CHARACTERS: usize = 400;

/// What is told to all followers: an event as it goes over the wire.
type Event = Arc<str>;

/// See the module's description.
#[derive(Debug)]
pub(in crate::web) struct Tail {
    config: Arc<Config>,
    followers: Arc<Semaphore>,
    events: broadcast::Sender<Event>,
    /// Whether the reader's thread runs.
    is_read: Arc<Mutex<bool>>,
    ends: CancellationToken,
}

impl Tail {
    pub(super) fn new(config: Arc<Config>, ends: CancellationToken) -> Self {
        Self {
            config,
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            events: broadcast::channel(RING).0,
            is_read: Arc::default(),
            ends,
        }
    }

    /// The events of one follower; `None`: there are as many as there may be.
    pub(super) fn follow(&self) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + use<>> {
        let permit = self.followers.clone().try_acquire_owned().ok()?;
        let events = self.events.subscribe();
        self.read();
        Some(stream(events, permit))
    }

    /// Starts the reader, unless it runs.
    fn read(&self) {
        let mut is_read = self.is_read.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_read {
            return;
        }
        let reader = Reader {
            has_said: Cell::new(false),
            config: self.config.clone(),
            events: self.events.clone(),
            is_read: self.is_read.clone(),
            ends: self.ends.clone(),
        };
        let thread = std::thread::Builder::new().name("page-tail".to_owned());
        match thread.spawn(move || reader.run()) {
            Ok(_) => *is_read = true,
            Err(error) => {
                let _ = self.events.send(failure(&error.to_string()));
            }
        }
    }
}

fn stream(
    events: broadcast::Receiver<Event>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold((events, permit), async |(mut events, permit)| {
        let event = match events.recv().await {
            Ok(event) => Bytes::copy_from_slice(event.as_bytes()),
            Err(RecvError::Lagged(missed)) => Bytes::copy_from_slice(dropped(missed).as_bytes()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), (events, permit)))
    })
}

struct Reader {
    /// It has said that it ends; the next one may be there already.
    has_said: Cell<bool>,
    config: Arc<Config>,
    events: broadcast::Sender<Event>,
    is_read: Arc<Mutex<bool>>,
    ends: CancellationToken,
}

impl Reader {
    fn run(self) {
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.read()));
        let words = match read {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(panic_message(panic.as_ref()).to_owned()),
        };
        if let Some(words) = words {
            // Who follows tries again, which starts the next reader.
            let _ = self.events.send(failure(&words));
        }
    }

    /// Whether it goes on. Says that it ends under the same lock that a new follower looks under.
    fn is_wanted(&self) -> bool {
        let mut is_read = self.is_read.lock().unwrap_or_else(PoisonError::into_inner);
        *is_read = self.events.receiver_count() > 0 && !self.ends.is_cancelled();
        self.has_said.set(!*is_read);
        *is_read
    }

    fn read(&self) -> Result<(), BrowseError> {
        let log = Log::open(&self.config.kafka)?;
        let mut positions = log.ends()?;
        log.follow(&positions)?;
        let mut tick = Instant::now();
        let mut taken = 0;
        while self.is_wanted() {
            if tick.elapsed() >= TICK {
                (tick, taken) = (Instant::now(), 0);
                self.catch_up(&log, &mut positions)?;
            }
            if taken >= RECORDS_A_TICK {
                std::thread::sleep(LOOK.min(TICK.saturating_sub(tick.elapsed())));
                continue;
            }
            if let Step::Record(message) = log.step(LOOK)? {
                taken += 1;
                positions.insert(message.partition, message.offset + 1);
                let _ = self.events.send(event(&message));
            }
        }
        log.leave()
    }

    /// Passes over what came while nobody could have read it.
    fn catch_up(
        &self,
        log: &Log<'_>,
        positions: &mut BTreeMap<i32, i64>,
    ) -> Result<(), BrowseError> {
        let ends = log.ends()?;
        let behind = |(partition, end): (&i32, &i64)| {
            end - positions.get(partition).copied().unwrap_or(*end)
        };
        let missed: i64 = ends.iter().map(behind).sum();
        if missed <= RECORDS_A_TICK as i64 {
            return Ok(());
        }
        log.follow(&ends)?;
        *positions = ends;
        let _ = self.events.send(dropped(missed.unsigned_abs()));
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.has_said.get() {
            *self.is_read.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }
}

fn event(message: &Message) -> Event {
    format!("data: {}\n\n", record(message)).into()
}

/// A record as a follower's and a searcher's table shows it.
pub(super) fn record(message: &Message) -> serde_json::Value {
    let line =
        |bytes: &Option<Vec<u8>>, length| bytes.as_ref().map(|bytes| text::line(bytes, length));
    json!({
        "partition": message.partition,
        "offset": message.offset,
        "time": words::time(message.timestamp_ms),
        "key": line(&message.key, KEY_CHARACTERS),
        "value": line(&message.value, VALUE_CHARACTERS),
        "size": words::bytes(message.size_bytes() as u64),
    })
}

fn dropped(records: u64) -> Event {
    format!("event: dropped\ndata: {records}\n\n").into()
}

fn failure(words: &str) -> Event {
    // As JSON, so that no line break in it begins a field of its own.
    format!("event: failed\ndata: {}\n\n", json!(words)).into()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt;
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{FutureProducer, FutureRecord};

    use super::*;
    use crate::demo::broker::Broker;

    /// No event takes so long unless it never comes.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn broker() -> (Broker, Config) {
        let broker = Broker::start(&slog::Logger::root(slog::Discard, slog::o!())).unwrap();
        let mut config = crate::testing::config();
        broker.create_topic(&config.kafka.topic, 1).unwrap();
        config.kafka.brokers = vec![broker.bootstrap_servers().unwrap()];
        (broker, config)
    }

    async fn next(events: &mut (impl Stream<Item = Result<Bytes, Infallible>> + Unpin)) -> String {
        let event = tokio::time::timeout(PATIENCE, events.next()).await;
        String::from_utf8(event.unwrap().unwrap().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn who_follows_sees_what_comes_and_the_reader_ends_with_the_last() {
        let (_broker, config) = broker();
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", config.kafka.brokers.join(","))
            .create()
            .unwrap();
        let topic = config.kafka.topic.clone();
        let config = Arc::new(config);
        let tail = Tail::new(config, CancellationToken::new());
        let mut first = pin!(tail.follow().unwrap());
        let mut second = pin!(tail.follow().unwrap());
        // The reader begins where the log ends once it is there: what is published is seen from
        // some record on, by both the same.
        let publish = async {
            for number in 0.. {
                let value = format!("<b>{number}</b>\n");
                let record = FutureRecord::<str, str>::to(&topic).payload(&value);
                producer.send(record, PATIENCE).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::select! {
            () = publish => unreachable!("it publishes for ever"),
            heard = async { [next(&mut first).await, next(&mut second).await] } => heard,
        };
        assert_eq!(heard[0], heard[1]);
        let data = heard[0].strip_prefix("data: ").unwrap();
        let record: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
        assert!(
            record["value"].as_str().unwrap().starts_with("<b>"),
            "{record}"
        );
    }

    #[test]
    fn the_reader_ends_with_the_last_who_follows_and_the_next_starts_one() {
        let (_broker, config) = broker();
        let tail = Tail::new(Arc::new(config), CancellationToken::new());
        let is_read = || *tail.is_read.lock().unwrap();
        for _ in 0..2 {
            let follower = tail.follow().unwrap();
            assert!(is_read());
            drop(follower);
            let deadline = Instant::now() + PATIENCE;
            while is_read() {
                assert!(Instant::now() < deadline, "it reads for nobody");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_keep_up_is_told_how_many_he_missed() {
        let (events, receiver) = broadcast::channel::<Event>(4);
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.clone().try_acquire_owned().unwrap();
        let mut follower = pin!(stream(receiver, permit));
        for number in 0..10 {
            events.send(format!("data: {number}\n\n").into()).unwrap();
        }
        assert_eq!(next(&mut follower).await, "event: dropped\ndata: 6\n\n");
        assert_eq!(next(&mut follower).await, "data: 6\n\n");
    }

    #[test]
    fn there_are_only_so_many_followers() {
        let config = Arc::new(crate::testing::config());
        let ends = CancellationToken::new();
        let tail = Tail::new(config, ends.clone());
        let held: Vec<_> = (0..FOLLOWERS_MAX).map(|_| tail.follow().unwrap()).collect();
        assert!(tail.follow().is_none());
        ends.cancel();
        drop(held);
        assert!(tail.follow().is_some());
    }
}
