//! The samples that Kafka does not have yet: in the order in which they were fetched, within a
//! limit. A full queue takes nothing more, so what it keeps is the oldest.

use std::collections::VecDeque;

use crate::messages::{Held, Sample};

/// What a sample takes beside its body: itself, its headers, and its copy in librdkafka's queue
/// has as much again.
const OVERHEAD_BYTES: u64 = 512;

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    samples: VecDeque<Sample>,
    held_bytes: u64,
    limit_samples: usize,
    limit_bytes: u64,
}

/// What became of a sample that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Kafka has it.
    Published,
    /// Kafka will never take it.
    Refused,
    /// It is to be sent again.
    Again,
}

impl Queue {
    /// An empty queue. One sample is held even if it alone exceeds `limit_bytes`.
    pub(crate) fn new(limit_samples: usize, limit_bytes: u64) -> Self {
        Self {
            samples: VecDeque::new(),
            held_bytes: 0,
            limit_samples,
            limit_bytes,
        }
    }

    /// Holds a sample if there is room.
    pub(crate) fn offer(&mut self, sample: Sample) -> Held {
        let bytes = size(&sample);
        let fits =
            self.samples.len() < self.limit_samples && self.held_bytes + bytes <= self.limit_bytes;
        if !fits && !self.samples.is_empty() {
            return Held::Full;
        }
        self.held_bytes += bytes;
        self.samples.push_back(sample);
        Held::Yes
    }

    /// The oldest samples: at most so many, and of at most so many bytes beside the first.
    pub(crate) fn oldest(&self, samples: usize, bytes: u64) -> Vec<Sample> {
        let mut taken = 0;
        self.samples
            .iter()
            .take(samples)
            .take_while(|sample| {
                let first = taken == 0;
                taken += size(sample);
                first || taken <= bytes
            })
            .cloned()
            .collect()
    }

    /// The fates of the oldest samples, in their order: what is to be sent again stays, in its
    /// order.
    pub(crate) fn settle(&mut self, fates: &[Fate]) {
        let mut again = Vec::new();
        for fate in fates {
            let Some(sample) = self.samples.pop_front() else {
                break;
            };
            if *fate == Fate::Again {
                again.push(sample);
            } else {
                self.held_bytes -= size(&sample);
            }
        }
        for sample in again.into_iter().rev() {
            self.samples.push_front(sample);
        }
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether none is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

fn size(sample: &Sample) -> u64 {
    let headers = sample.http_date.as_ref().map_or(0, String::len)
        + sample.content_type.as_ref().map_or(0, String::len);
    sample.body.len() as u64 + headers as u64 + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: i64, bytes: usize) -> Sample {
        Sample {
            body: vec![b'x'; bytes].into(),
            fetched_at_ms: number,
            source: "s".into(),
            http_date: None,
            content_type: None,
        }
    }

    fn numbers(queue: &Queue) -> Vec<i64> {
        queue
            .samples
            .iter()
            .map(|sample| sample.fetched_at_ms)
            .collect()
    }

    #[test]
    fn at_either_limit_the_oldest_are_kept_and_the_newest_refused() {
        let mut queue = Queue::new(2, 10_000);
        assert_eq!(queue.offer(sample(1, 10)), Held::Yes);
        assert_eq!(queue.offer(sample(2, 10)), Held::Yes);
        assert_eq!(queue.offer(sample(3, 10)), Held::Full);
        assert_eq!(numbers(&queue), [1, 2]);
        queue.settle(&[Fate::Published, Fate::Published]);
        assert_eq!(queue.offer(sample(4, 20_000)), Held::Yes);
        assert_eq!(queue.offer(sample(5, 10)), Held::Full);
        queue.settle(&[Fate::Refused]);
        assert_eq!((queue.held_bytes, queue.is_empty()), (0, true));
    }

    #[test]
    fn what_is_sent_again_keeps_its_order_before_what_came_later() {
        let mut queue = Queue::new(10, 100_000);
        for number in 1..=6 {
            queue.offer(sample(number, 10));
        }
        assert_eq!(queue.oldest(4, 100_000).len(), 4);
        queue.settle(&[Fate::Again, Fate::Published, Fate::Again, Fate::Refused]);
        assert_eq!(numbers(&queue), [1, 3, 5, 6]);
        queue.settle(&[Fate::Published; 4]);
        assert_eq!(queue.held_bytes, 0);
    }

    #[test]
    fn a_batch_has_at_least_one_sample_whatever_its_size() {
        let mut queue = Queue::new(10, 100_000);
        for number in 1..=3 {
            queue.offer(sample(number, 20_000));
        }
        assert_eq!(queue.oldest(10, 100).len(), 1);
        assert_eq!(queue.oldest(10, 50_000).len(), 2);
    }
}
