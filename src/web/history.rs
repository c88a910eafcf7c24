//! What the page knows of the last minutes: the files that landed, how fast it went, how the lag
//! went. Kept by one task of the page's group, from the same atomics as everything else.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;

use crate::status::snapshot::Snapshot;
use crate::status::{LandedFile, Status};

use super::words;

/// A screen of them; what is older lies in the store.
const FILES_MAX: usize = 20;
/// How often a sample is taken: a lag that lasts shorter needs no graph.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A quarter of an hour: what led to an alarm is still there when its page is opened.
const SAMPLES_MAX: usize = 180;
/// Rates are of so many samples: half a minute, so that a poll each 5 s is a steady figure.
const RATE_SAMPLES: usize = 6;
/// Each of these costs 3 KiB; with more partitions only the sum has a graph.
const TRENDS_MAX: usize = 64;

/// Counted since the process started, or since the page did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    polled: u64,
    published: u64,
    read: u64,
    landed: u64,
    dead_letters: u64,
    files: u64,
    bytes: u64,
}

/// How fast it goes, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Rates {
    /// Answers of the source.
    pub(super) polled: String,
    /// Answers that Kafka has taken.
    pub(super) published: String,
    /// Records read from Kafka.
    pub(super) read: String,
    /// Records landed, dead letters included.
    pub(super) landed: String,
    /// Of them, dead letters.
    pub(super) dead_letters: String,
    /// Files landed.
    pub(super) files: String,
    /// Their bytes a second.
    pub(super) bytes: String,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    totals: Totals,
    lag: f64,
    /// Of the first partitions, by number.
    lags: Vec<(i32, f64)>,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct History {
    landed: broadcast::Receiver<LandedFile>,
    files: VecDeque<LandedFile>,
    samples: VecDeque<Sample>,
    files_total: u64,
    bytes_total: u64,
}

impl History {
    /// From now on.
    pub(super) fn new(status: &Status) -> Self {
        Self {
            landed: status.watch_landed(),
            files: VecDeque::new(),
            samples: VecDeque::new(),
            files_total: 0,
            bytes_total: 0,
        }
    }

    /// Takes the files that landed since the last time, and a sample where one is due.
    pub(super) fn look(&mut self, status: &Status, snapshot: &Snapshot, now: Instant) {
        loop {
            match self.landed.try_recv() {
                Ok(file) => self.take(file),
                Err(TryRecvError::Lagged(missed)) => self.files_total += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if self.is_due(now) {
            self.sample(status, snapshot, now);
        }
    }

    /// Whether it is time for a sample.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let last = self.samples.back();
        last.is_none_or(|last| now.duration_since(last.at) >= SAMPLE_EVERY)
    }

    fn take(&mut self, file: LandedFile) {
        self.files_total += 1;
        self.bytes_total += file.bytes;
        self.files.push_front(file);
        self.files.truncate(FILES_MAX);
    }

    fn sample(&mut self, status: &Status, snapshot: &Snapshot, now: Instant) {
        let lags = snapshot.partitions.iter();
        let lags = lags.filter_map(|one| Some((one.partition, one.lag_records? as f64)));
        self.samples.push_back(Sample {
            at: now,
            totals: self.totals(status),
            lag: lags.clone().map(|(_, lag)| lag).sum(),
            lags: lags.take(TRENDS_MAX).collect(),
        });
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    fn totals(&self, status: &Status) -> Totals {
        let mut totals = Totals {
            files: self.files_total,
            bytes: self.bytes_total,
            ..Totals::default()
        };
        for (key, value) in status.counters() {
            match key.name {
                "groundtrack_polls_total" => totals.polled += value,
                "groundtrack_samples_published_total" => totals.published += value,
                _ => {}
            }
        }
        for (_, partition) in status.partitions() {
            totals.read += u64::try_from(partition.position.load(Relaxed)).unwrap_or(0);
            totals.landed += partition.records_landed.load(Relaxed);
            totals.dead_letters += partition.dead_letters.load(Relaxed);
        }
        totals
    }

    /// The newest first.
    pub(super) fn files(&self) -> impl Iterator<Item = &LandedFile> {
        self.files.iter()
    }

    /// Of the last half minute.
    pub(super) fn rates(&self) -> Rates {
        let since = self.samples.len().saturating_sub(RATE_SAMPLES + 1);
        let (Some(from), Some(to)) = (self.samples.get(since), self.samples.back()) else {
            return Rates::default();
        };
        let window = to.at.duration_since(from.at);
        // A partition that was given away takes its position with it.
        let rate = |of: fn(&Totals) -> u64| {
            words::rate(of(&to.totals).saturating_sub(of(&from.totals)), window)
        };
        let bytes = to.totals.bytes.saturating_sub(from.totals.bytes) as f64;
        let bytes_per_second = bytes / window.as_secs_f64().max(f64::MIN_POSITIVE);
        Rates {
            polled: rate(|totals| totals.polled),
            published: rate(|totals| totals.published),
            read: rate(|totals| totals.read),
            landed: rate(|totals| totals.landed),
            dead_letters: rate(|totals| totals.dead_letters),
            files: rate(|totals| totals.files),
            bytes: format!("{}/s", words::bytes(bytes_per_second as u64)),
        }
    }

    /// The records that were left to land, the oldest first.
    pub(super) fn lag(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.lag).collect()
    }

    /// The same of one partition; empty: it has no graph.
    pub(super) fn lag_of(&self, partition: i32) -> Vec<f64> {
        let of = |sample: &Sample| {
            let found = sample.lags.iter().find(|(number, _)| *number == partition);
            found.map(|(_, lag)| *lag)
        };
        self.samples.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(300);

    fn file(number: u64) -> LandedFile {
        LandedFile {
            key: format!("f{number}"),
            rows: 1,
            bytes: 1024,
            landed_at_ms: 0,
        }
    }

    fn look(history: &mut History, status: &Arc<Status>, now: Instant) {
        history.look(status, &status.snapshot(MAX_AGE), now);
    }

    #[test]
    fn the_last_files_are_kept_the_newest_first() {
        let status = Status::new();
        let mut history = History::new(&status);
        for number in 0..FILES_MAX as u64 + 5 {
            status.landed(file(number));
        }
        look(&mut history, &status, Instant::now());
        let keys: Vec<&str> = history.files().map(|file| file.key.as_str()).collect();
        assert_eq!(keys.len(), FILES_MAX);
        assert_eq!(keys[0], format!("f{}", FILES_MAX + 4));
    }

    #[test]
    fn rates_are_of_the_last_half_minute() {
        let status = Status::new();
        let start = Instant::now();
        let mut history = History::new(&status);
        for step in 0..20 {
            look(&mut history, &status, start + SAMPLE_EVERY * step);
            status
                .partition("t", 0)
                .records_landed
                .fetch_add(50, Relaxed);
            status.count("groundtrack_polls_total", &[("result", "success")], 1);
            status.landed(file(0));
        }
        let rates = history.rates();
        assert_eq!(rates.landed, "10/s");
        assert_eq!(rates.polled, "12/min");
        assert_eq!(rates.files, "12/min");
        assert_eq!(rates.bytes, "204 B/s");
        assert_eq!(rates.dead_letters, "0/s");
    }

    #[test]
    fn before_two_samples_there_is_no_rate() {
        let status = Status::new();
        let mut history = History::new(&status);
        assert_eq!(history.rates(), Rates::default());
        look(&mut history, &status, Instant::now());
        assert_eq!(history.rates().landed, words::UNKNOWN);
    }

    #[test]
    fn the_lag_has_a_trend_in_all_and_by_partition() {
        let status = Status::new();
        let start = Instant::now();
        let mut history = History::new(&status);
        for (partition, log_end) in [(0, 7), (1, 9)] {
            let partition = status.partition("t", partition);
            partition.set_state(crate::status::PartitionState::Landing);
            partition.next_offset.store(4, Relaxed);
            partition.log_end.store(log_end, Relaxed);
        }
        for step in 0..3 {
            look(&mut history, &status, start + SAMPLE_EVERY * step);
        }
        assert_eq!(history.lag(), [8.0, 8.0, 8.0]);
        assert_eq!(history.lag_of(1), [5.0, 5.0, 5.0]);
        assert!(history.lag_of(2).is_empty());
    }
}
