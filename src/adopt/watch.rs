//! Whether anybody still writes: two looks at the same folders, with as long between them as it
//! takes for what writes seconds apart to be seen.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::store::Listed;

/// A writer whose last write is older than this is not waited for: a job without a trigger begins
/// its next batch at once, and an upload that is cut off is over within the time-outs.
pub const QUIET: Duration = Duration::from_secs(30);

/// At least so long lies between the looks, however old the last write is: a listing may have
/// been under way while the other end wrote.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What was seen: size and time of each object.
pub type Seen = BTreeMap<String, (u64, i64)>;

/// What is to be done about a last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Patience {
    /// Look again after so long.
    LookAgain(Duration),
    /// It writes so seldom that no look here can tell.
    TooSeldom {
        /// How old the last write is.
        age: Duration,
        /// How far its last batches lay apart.
        interval: Duration,
    },
}

/// What is to be done about a last write at this time, by somebody who writes at this interval.
pub fn patience(
    newest_ms: Option<i64>,
    now_ms: i64,
    interval: Option<Duration>,
    quiet: Duration,
) -> Patience {
    let least = LOOK_AGAIN.min(quiet);
    let Some(newest_ms) = newest_ms else {
        return Patience::LookAgain(least);
    };
    // Another machine's clock may be ahead of ours.
    let age = Duration::from_millis(u64::try_from(now_ms - newest_ms).unwrap_or(0));
    // One batch may be late, by as long as the records of two take.
    match interval.filter(|interval| 2 * *interval > quiet.max(age)) {
        Some(interval) => Patience::TooSeldom { age, interval },
        None => Patience::LookAgain(quiet.saturating_sub(age).max(least)),
    }
}

/// How far batches lie apart that were planned at these times: the median, which a pause without
/// records does not move.
pub fn interval(mut planned_ms: Vec<i64>) -> Option<Duration> {
    planned_ms.sort_unstable();
    let mut apart: Vec<i64> = planned_ms
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    apart.sort_unstable();
    let median = apart.get(apart.len() / 2)?;
    Some(Duration::from_millis(u64::try_from(*median).ok()?))
}

/// A listing of any size as seen: it tells that something changed, not what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many objects.
    pub count: u64,
    /// When the newest was written, milliseconds since 1970 UTC.
    pub newest_ms: Option<i64>,
    /// Wrapping sum over hashes of their keys, sizes and times: in whatever order they come.
    hashes: u64,
}

impl Sum {
    /// Adds an object.
    pub fn add(&mut self, object: &Listed) {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(object.key.as_bytes());
        hash.update(&object.size_bytes.to_le_bytes());
        hash.update(&object.modified_ms.to_le_bytes());
        self.count += 1;
        self.newest_ms = self.newest_ms.max(Some(object.modified_ms));
        self.hashes = self.hashes.wrapping_add(hash.digest());
    }
}

/// A listing as seen.
pub fn seen(objects: &[Listed]) -> Seen {
    objects
        .iter()
        .map(|object| (object.key.clone(), (object.size_bytes, object.modified_ms)))
        .collect()
}

/// The newest time in it, milliseconds since 1970 UTC.
pub fn newest_ms(seen: &Seen) -> Option<i64> {
    seen.values().map(|(_, modified_ms)| *modified_ms).max()
}

/// A name that came, went or changed from one look to the next.
pub fn changed<'a>(before: &'a Seen, after: &'a Seen) -> Option<&'a str> {
    let new = after
        .iter()
        .find(|(key, what)| before.get(*key) != Some(what));
    let gone = || before.iter().find(|(key, _)| !after.contains_key(*key));
    new.or_else(gone).map(|(key, _)| key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_write_is_waited_for_until_it_is_old() {
        let after = |age_s: i64| patience(Some(0), age_s * 1000, None, QUIET);
        assert_eq!(after(0), Patience::LookAgain(QUIET));
        assert_eq!(after(20), Patience::LookAgain(10 * SECOND));
        assert_eq!(after(29), Patience::LookAgain(LOOK_AGAIN));
        assert_eq!(after(86_400), Patience::LookAgain(LOOK_AGAIN));
        // A clock ahead of ours.
        assert_eq!(after(-100), Patience::LookAgain(QUIET));
        assert_eq!(
            patience(None, 0, None, QUIET),
            Patience::LookAgain(LOOK_AGAIN)
        );
        assert_eq!(
            patience(Some(0), 0, None, Duration::ZERO),
            Patience::LookAgain(Duration::ZERO)
        );
    }

    #[test]
    fn a_job_with_minutes_between_its_batches_is_not_judged_by_half_a_minute() {
        let after = |age_s: i64, interval_s: u32| {
            patience(Some(0), age_s * 1000, Some(interval_s * SECOND), QUIET)
        };
        assert_eq!(after(0, 15), Patience::LookAgain(QUIET));
        let seldom = Patience::TooSeldom {
            age: 100 * SECOND,
            interval: 60 * SECOND,
        };
        assert_eq!(after(100, 60), seldom);
        assert_eq!(after(120, 60), Patience::LookAgain(LOOK_AGAIN));
    }

    #[test]
    fn a_pause_does_not_move_the_interval() {
        assert_eq!(interval(vec![]), None);
        assert_eq!(interval(vec![5]), None);
        let planned = vec![0, 5_000, 10_000, 3_600_000, 3_605_000, 3_610_000];
        assert_eq!(interval(planned), Some(5 * SECOND));
    }

    #[test]
    fn a_sum_tells_of_any_change_and_of_no_order() {
        let listed = |key: &str, size_bytes, modified_ms| Listed {
            key: key.to_owned(),
            size_bytes,
            modified_ms,
        };
        let sum = |objects: &[Listed]| {
            let mut sum = Sum::default();
            objects.iter().for_each(|object| sum.add(object));
            sum
        };
        let (a, b) = (listed("a", 1, 5), listed("b", 2, 3));
        let both = sum(&[a.clone(), b.clone()]);
        assert_eq!(both.newest_ms, Some(5));
        assert_eq!(both, sum(&[b.clone(), a.clone()]));
        for other in [listed("c", 2, 3), listed("b", 3, 3), listed("b", 2, 4)] {
            assert_ne!(both, sum(&[a.clone(), other]));
        }
        assert_ne!(both, sum(&[a]));
    }

    #[test]
    fn what_came_went_or_changed_is_named() {
        let seen = |objects: &[(&str, u64)]| -> Seen {
            let objects = objects.iter();
            objects
                .map(|(key, size)| ((*key).to_owned(), (*size, 0)))
                .collect()
        };
        let before = seen(&[("a", 1), ("b", 1)]);
        assert_eq!(changed(&before, &before), None);
        assert_eq!(
            changed(&before, &seen(&[("a", 1), ("b", 1), ("c", 1)])),
            Some("c")
        );
        assert_eq!(changed(&before, &seen(&[("a", 1), ("b", 2)])), Some("b"));
        assert_eq!(changed(&before, &seen(&[("b", 1)])), Some("a"));
    }
}
