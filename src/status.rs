//! What page, metrics, systemd and tests read. The actors write it by atomics, never by messages:
//! a stage that works hears none.

pub mod remedy;
pub mod snapshot;
pub mod track;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;

use self::track::{Position, Track};

/// Files that a slow watcher of [`Status::watch_landed`] may lag behind: a few seconds of the
/// fastest landing.
const LANDED_CAPACITY: usize = 1024;

/// All of it; one for the life of the process, shared by every generation.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    groups: RwLock<BTreeMap<&'static str, Arc<GroupStatus>>>,
    partitions: RwLock<BTreeMap<(String, i32), Arc<PartitionStatus>>>,
    counters: RwLock<BTreeMap<CounterKey, Arc<AtomicU64>>>,
    /// Troubles that hold now, by where they are; removed when they end.
    troubles: Mutex<BTreeMap<String, Trouble>>,
    config_file: Mutex<Option<String>>,
    /// `files.max_age` of the configuration in force, in milliseconds.
    max_age_ms: AtomicU64,
    /// Keys of the configuration whose new value waits for a restart of the process.
    needs_restart: Mutex<Vec<String>>,
    /// Bytes held from the budget of the current generation.
    pub budget_held_bytes: AtomicU64,
    /// Key of the file that landed last.
    pub last_file: Mutex<Option<LandedFile>>,
    /// Where the rows read last were on the earth.
    track: Mutex<Track>,
    /// Where the page listens; `None`: it does not. With port 0, the port that it got.
    web_address: Mutex<Option<SocketAddr>>,
    landed: broadcast::Sender<LandedFile>,
    /// See [`Status::has_joined`].
    joined: AtomicBool,
}

/// Name of a counter and its labels, in the words of `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CounterKey {
    /// For example `groundtrack_records_landed_total`.
    pub name: &'static str,
    /// Label names and values.
    pub labels: Vec<(&'static str, String)>,
}

/// Something that is wrong now.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// In plain words, with how to mend it.
    pub text: String,
    /// Milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// Whether `/healthz` answers 503 because of it.
    pub unhealthy: bool,
}

/// A file that landed.
#[derive(Debug, Clone)]
pub struct LandedFile {
    /// Its full key.
    pub key: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// Milliseconds since 1970 UTC.
    pub landed_at_ms: i64,
}

/// One group of actors over all its generations.
#[derive(Debug)]
pub struct GroupStatus {
    /// Number of the current generation; 0: none was started.
    pub generation: AtomicU64,
    /// Generations that ended though they should run.
    pub restarts: AtomicU64,
    /// Whether a generation runs now.
    pub running: AtomicBool,
    /// Why the last generation ended; empty: none has.
    pub last_failure: Mutex<String>,
    /// The life sign of its thread, which never waits.
    pub thread: Pulse,
    actors: RwLock<BTreeMap<&'static str, Arc<Pulse>>>,
}

/// The life sign of one actor: when it last made progress, and what it waits for.
#[derive(Debug)]
pub struct Pulse {
    epoch: Instant,
    last_progress_ms: AtomicU64,
    /// Empty: it works. A hung actor is one that works and makes no progress.
    waits_for: Mutex<&'static str>,
    /// Progress made so far; rises with each.
    pub beats: AtomicU64,
    /// How many of the works that interleave in it wait for something.
    open_waits: AtomicUsize,
    /// Work that goes on side by side: one that hangs must not be hidden by the progress of
    /// another. Gone when it is done.
    pieces: Mutex<Vec<Weak<Pulse>>>,
}

/// A work that waits, as part of its actor's life sign.
#[derive(Debug)]
pub struct Waiting(Arc<Pulse>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.open_waits.fetch_sub(1, Ordering::Relaxed);
        self.0.works();
    }
}

/// One partition, as seen by this process.
#[derive(Debug, Default)]
pub struct PartitionStatus {
    /// Where it stands.
    pub state: Mutex<PartitionState>,
    /// The checkpoint's next offset; -1: not known.
    pub next_offset: AtomicI64,
    /// First offset of the log; -1: not known.
    pub log_start: AtomicI64,
    /// Behind the last offset of the log that a reader of committed records sees; -1: not known.
    pub log_end: AtomicI64,
    /// Behind the last offset of the log, that of open transactions included; -1: not known.
    pub log_high: AtomicI64,
    /// When Kafka may delete the next record to land, milliseconds since 1970 UTC; 0: not known,
    /// or never.
    pub kept_until_ms: AtomicI64,
    /// The position of reading; -1: not known.
    pub position: AtomicI64,
    /// Records landed by this process.
    pub records_landed: AtomicU64,
    /// Of them, dead letters.
    pub dead_letters: AtomicU64,
    /// Timestamp of the last record landed, milliseconds since 1970 UTC; 0: none.
    pub last_timestamp_ms: AtomicI64,
    /// When something last landed, milliseconds since 1970 UTC; 0: nothing has.
    pub landed_at_ms: AtomicI64,
    behind: Mutex<Behind>,
    open: Mutex<Option<Open>>,
    last_file: Mutex<Option<LandedFile>>,
}

/// A batch that is being filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Records so far, dead letters included.
    pub rows: u64,
    /// Encoded so far.
    pub bytes: u64,
    /// When its first record was read, milliseconds since 1970 UTC.
    pub since_ms: i64,
}

/// Since when a partition has had something to land and landed none of it.
#[derive(Debug, Default)]
struct Behind {
    /// Milliseconds since 1970 UTC; 0: it is not behind.
    since_ms: i64,
    /// Where it stood when that was last looked at.
    next_offset: i64,
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PartitionState {
    /// Another member of the group has it.
    #[default]
    NotOurs,
    /// Its checkpoint is being claimed.
    Claiming,
    /// A batch that was begun before is being read again.
    Replaying,
    /// It is being landed.
    Landing,
    /// It stopped; why, and how to go on.
    Stopped(String),
}

impl Status {
    /// Nothing has happened yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            groups: RwLock::default(),
            partitions: RwLock::default(),
            counters: RwLock::default(),
            troubles: Mutex::default(),
            config_file: Mutex::default(),
            max_age_ms: AtomicU64::default(),
            needs_restart: Mutex::default(),
            budget_held_bytes: AtomicU64::new(0),
            last_file: Mutex::default(),
            track: Mutex::default(),
            web_address: Mutex::default(),
            landed: broadcast::channel(LANDED_CAPACITY).0,
            joined: AtomicBool::new(false),
        })
    }

    /// When the process started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The group of this name, made at its first mention.
    pub fn group(&self, name: &'static str) -> Arc<GroupStatus> {
        get_or_insert(&self.groups, name, || {
            Arc::new(GroupStatus {
                generation: AtomicU64::new(0),
                restarts: AtomicU64::new(0),
                running: AtomicBool::new(false),
                last_failure: Mutex::default(),
                thread: Pulse::new(""),
                actors: RwLock::default(),
            })
        })
    }

    /// All groups by name.
    pub fn groups(&self) -> Vec<(&'static str, Arc<GroupStatus>)> {
        read(&self.groups)
            .iter()
            .map(|(name, group)| (*name, group.clone()))
            .collect()
    }

    /// The partition, made at its first mention.
    pub fn partition(&self, topic: &str, partition: i32) -> Arc<PartitionStatus> {
        get_or_insert(&self.partitions, (topic.to_owned(), partition), || {
            Arc::new(PartitionStatus {
                next_offset: AtomicI64::new(-1),
                log_start: AtomicI64::new(-1),
                log_end: AtomicI64::new(-1),
                log_high: AtomicI64::new(-1),
                position: AtomicI64::new(-1),
                ..PartitionStatus::default()
            })
        })
    }

    /// All partitions by topic and number.
    pub fn partitions(&self) -> Vec<((String, i32), Arc<PartitionStatus>)> {
        read(&self.partitions)
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Adds to a counter, made at its first mention.
    pub fn count(&self, name: &'static str, labels: &[(&'static str, &str)], by: u64) {
        let labels = labels
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        get_or_insert(&self.counters, CounterKey { name, labels }, Arc::default)
            .fetch_add(by, Ordering::Relaxed);
    }

    /// All counters.
    pub fn counters(&self) -> Vec<(CounterKey, u64)> {
        read(&self.counters)
            .iter()
            .map(|(key, value)| (key.clone(), value.load(Ordering::Relaxed)))
            .collect()
    }

    /// Says that something is wrong now. Returns whether it was not already known.
    pub fn trouble(&self, place: &str, text: &str, unhealthy: bool) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let since_ms = troubles.get(place).map(|known| known.since_ms);
        troubles.insert(
            place.to_owned(),
            Trouble {
                text: text.to_owned(),
                since_ms: since_ms.unwrap_or_else(now_ms),
                unhealthy,
            },
        );
        since_ms.is_none()
    }

    /// Says that it is well again. Returns since when it was not, if it was not.
    pub fn mended(&self, place: &str) -> Option<Trouble> {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(place)
    }

    /// Whether something is wrong there.
    pub fn has_trouble(&self, place: &str) -> bool {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.contains_key(place)
    }

    /// All that is wrong now, by place.
    pub fn troubles(&self) -> Vec<(String, Trouble)> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles
            .iter()
            .map(|(place, trouble)| (place.clone(), trouble.clone()))
            .collect()
    }

    /// Says which file the configuration is read from.
    pub fn set_config_file(&self, path: String) {
        *lock(&self.config_file) = Some(path);
    }

    /// The configuration file; `None`: there is none.
    pub fn config_file(&self) -> Option<String> {
        lock(&self.config_file).clone()
    }

    /// Says at which age a file is closed.
    pub fn set_max_age(&self, max_age: Duration) {
        let ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        self.max_age_ms.store(ms, Ordering::Relaxed);
    }

    /// At which age a file is closed, by the configuration in force.
    pub fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age_ms.load(Ordering::Relaxed))
    }

    /// Says which keys of the configuration wait for a restart of the process.
    pub fn set_needs_restart(&self, keys: Vec<String>) {
        *lock(&self.needs_restart) = keys;
    }

    /// Keys of the configuration whose new value waits for a restart of the process.
    pub fn needs_restart(&self) -> Vec<String> {
        lock(&self.needs_restart).clone()
    }

    /// A file has landed.
    pub fn landed(&self, file: LandedFile) {
        *lock(&self.last_file) = Some(file.clone());
        // Nobody may be listening.
        let _ = self.landed.send(file);
    }

    /// Every file that lands from now on; who is too slow misses the oldest.
    pub fn watch_landed(&self) -> broadcast::Receiver<LandedFile> {
        self.landed.subscribe()
    }

    /// Whether the consumer group has said once which partitions are ours, none perhaps, and the
    /// store has answered for each of them.
    pub fn has_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }

    /// Says that the group was joined.
    pub fn set_joined(&self) {
        self.joined.store(true, Ordering::Relaxed);
    }

    /// A row that was read says where it was on the earth.
    pub fn note_position(&self, position: Position) {
        lock(&self.track).note(position);
    }

    /// Where the rows read last were, the oldest first.
    pub fn track(&self) -> Vec<Position> {
        lock(&self.track).points()
    }

    /// Where the page listens.
    pub fn web_address(&self) -> Option<SocketAddr> {
        *lock(&self.web_address)
    }

    /// Says where the page listens.
    pub fn set_web_address(&self, address: Option<SocketAddr>) {
        *lock(&self.web_address) = address;
    }

    /// Notes which partitions have something to land and since when none of it lands. Called
    /// every few seconds; `now_ms` is in milliseconds since 1970 UTC.
    pub fn note_lag(&self, now_ms: i64) {
        for (_, partition) in self.partitions() {
            partition.note_lag(now_ms);
        }
    }
}

impl PartitionStatus {
    /// Says where it stands.
    pub fn set_state(&self, state: PartitionState) {
        *lock(&self.state) = state;
    }

    /// Where it stands.
    pub fn state(&self) -> PartitionState {
        lock(&self.state).clone()
    }

    /// Says what the batch holds that is being filled; `None`: there is none.
    pub fn set_open(&self, open: Option<Open>) {
        *lock(&self.open) = open;
    }

    /// The batch that is being filled.
    pub fn open(&self) -> Option<Open> {
        *lock(&self.open)
    }

    /// Says which of its files has landed.
    pub fn set_last_file(&self, file: LandedFile) {
        *lock(&self.last_file) = Some(file);
    }

    /// Its file that landed last.
    pub fn last_file(&self) -> Option<LandedFile> {
        lock(&self.last_file).clone()
    }

    /// Records of the log that have not landed; `None`: not known.
    pub fn lag_records(&self) -> Option<i64> {
        let log_end = self.log_end.load(Ordering::Relaxed);
        let next_offset = self.next_offset.load(Ordering::Relaxed);
        (log_end >= 0 && next_offset >= 0).then(|| (log_end - next_offset).max(0))
    }

    /// Offsets behind the log's end that an open transaction holds back; `None`: not known.
    pub fn held_back_records(&self) -> Option<i64> {
        let log_end = self.log_end.load(Ordering::Relaxed);
        let log_high = self.log_high.load(Ordering::Relaxed);
        (log_end >= 0 && log_high >= 0).then(|| (log_high - log_end).max(0))
    }

    /// Since when it has had something to land and landed none of it, in milliseconds since 1970
    /// UTC, as [`Status::note_lag`] saw it; `None`: it is not behind.
    pub fn behind_since_ms(&self) -> Option<i64> {
        Some(lock(&self.behind).since_ms).filter(|since_ms| *since_ms > 0)
    }

    fn note_lag(&self, now_ms: i64) {
        let next_offset = self.next_offset.load(Ordering::Relaxed);
        let is_behind = self.lag_records().unwrap_or(0) > 0;
        let mut behind = lock(&self.behind);
        if !is_behind || self.state() == PartitionState::NotOurs {
            behind.since_ms = 0;
        } else if behind.since_ms == 0 || behind.next_offset != next_offset {
            behind.since_ms = now_ms;
        }
        behind.next_offset = next_offset;
    }
}

impl GroupStatus {
    /// A generation begins: what the actors of the last one said is forgotten.
    pub fn begin(&self, generation: u64) {
        self.actors
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.thread.works();
        self.generation.store(generation, Ordering::Relaxed);
        self.running.store(true, Ordering::Relaxed);
    }

    /// A generation ended though it should run.
    pub fn note_failure(&self, reason: &str) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        reason.clone_into(&mut lock(&self.last_failure));
    }

    /// A fresh life sign for an actor of a new generation.
    pub fn pulse(&self, actor: &'static str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new("its start"));
        self.actors
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(actor, pulse.clone());
        pulse
    }

    /// The actors of the current generation.
    pub fn actors(&self) -> Vec<(&'static str, Arc<Pulse>)> {
        read(&self.actors)
            .iter()
            .map(|(name, pulse)| (*name, pulse.clone()))
            .collect()
    }
}

impl Pulse {
    fn new(waits_for: &'static str) -> Self {
        Self {
            epoch: Instant::now(),
            last_progress_ms: AtomicU64::new(0),
            waits_for: Mutex::new(waits_for),
            beats: AtomicU64::new(0),
            open_waits: AtomicUsize::new(0),
            pieces: Mutex::default(),
        }
    }

    /// The life sign of one of several pieces of work that go on side by side, which works from
    /// now on until it is dropped.
    pub fn piece(&self) -> Arc<Self> {
        let piece = Arc::new(Self::new(""));
        let mut pieces = lock(&self.pieces);
        pieces.retain(|piece| piece.strong_count() > 0);
        pieces.push(Arc::downgrade(&piece));
        piece
    }

    /// It works from now on: it must make progress. While some of its work still waits (see
    /// [`Pulse::waiting`]) it goes on waiting for that.
    pub fn works(&self) {
        if self.open_waits.load(Ordering::Relaxed) == 0 {
            self.waits("");
        }
    }

    /// One of several works that interleave waits for this, until the guard is dropped.
    pub fn waiting(self: &Arc<Self>, reason: &'static str) -> Waiting {
        self.open_waits.fetch_add(1, Ordering::Relaxed);
        self.waits(reason);
        Waiting(self.clone())
    }

    /// It waits for this, which may take any time: "records", "the store", "Kafka".
    pub fn waits(&self, reason: &'static str) {
        *self
            .waits_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = reason;
        let now_ms = self.epoch.elapsed().as_millis() as u64;
        self.last_progress_ms.store(now_ms, Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// What it waits for; empty: it works. Where pieces of its work are under way, what one of them
    /// waits for, if all of them wait.
    pub fn waits_for(&self) -> &'static str {
        let pieces = self.pieces();
        let working = pieces.iter().find(|piece| piece.waits_for().is_empty());
        let shown = working.or(pieces.first());
        shown.map_or_else(|| self.own_wait(), |piece| piece.waits_for())
    }

    fn own_wait(&self) -> &'static str {
        *lock(&self.waits_for)
    }

    /// Milliseconds since it last made progress or began to wait; where pieces of its work are
    /// under way, since the slowest of them did.
    pub fn silent_ms(&self) -> u64 {
        let working = |piece: &Arc<Self>| piece.waits_for().is_empty();
        let pieces = self.pieces().into_iter().filter(working);
        pieces
            .map(|piece| piece.silent_ms())
            .max()
            .unwrap_or_else(|| self.own_silent_ms())
    }

    fn pieces(&self) -> Vec<Arc<Self>> {
        lock(&self.pieces)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn own_silent_ms(&self) -> u64 {
        let now_ms = self.epoch.elapsed().as_millis() as u64;
        now_ms.saturating_sub(self.last_progress_ms.load(Ordering::Relaxed))
    }

    /// Whether it works without progress for longer than this.
    pub fn is_hung(&self, heartbeat: Duration) -> bool {
        let is_silent =
            self.own_wait().is_empty() && u128::from(self.own_silent_ms()) > heartbeat.as_millis();
        is_silent || self.pieces().iter().any(|piece| piece.is_hung(heartbeat))
    }
}

/// Milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn get_or_insert<K: Ord, V: Clone>(
    map: &RwLock<BTreeMap<K, V>>,
    key: K,
    make: impl FnOnce() -> V,
) -> V {
    if let Some(value) = read(map).get(&key) {
        return value.clone();
    }
    map.write()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(key)
        .or_insert_with(make)
        .clone()
}
