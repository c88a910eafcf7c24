//! The brokers' clock. No answer of a broker's tells it; but the topic's records have times, and
//! one that lies in the future tells that the clock here, there, or of whoever wrote it is wrong.

use std::time::Duration;

use rdkafka::Offset;

use super::super::{Finding, Problem};
use super::client::{Asking, Partition};
use crate::status::now_ms;

/// Clocks that are kept agree to a second; a time zone mistaken is half an hour at least.
const AHEAD_TOLD: Duration = Duration::from_secs(60);

pub(super) fn ask(asking: &Asking, partitions: &[Partition]) -> Finding {
    let from = now_ms().saturating_add(i64::try_from(AHEAD_TOLD.as_millis()).unwrap_or(i64::MAX));
    let ids = partitions.iter().map(|partition| partition.id);
    match asking.offsets(ids, Offset::Offset(from)) {
        Ok(ahead) => judge(
            ahead
                .iter()
                .next()
                .map(|(partition, offset)| (*partition, *offset)),
        ),
        Err(problem) => Finding::Noted(problem),
    }
}

fn judge(ahead: Option<(i32, i64)>) -> Finding {
    let Some((partition, offset)) = ahead else {
        return Finding::Well(
            "no record is dated ahead of this machine's clock; no broker tells its own".to_owned(),
        );
    };
    Finding::Noted(Problem::new(
        format!(
            "the record at offset {offset} of partition {partition} is dated more than {} ahead of \
             this machine's clock",
            humantime::format_duration(AHEAD_TOLD)
        ),
        "set the clock here, and of the broker (LogAppendTime) or producer that dates the records: \
         timedatectl set-ntp true; folders by date follow these times",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_of_the_future_tells_of_a_wrong_clock() {
        assert!(matches!(judge(None), Finding::Well(_)));
        let Finding::Noted(problem) = judge(Some((3, 7))) else {
            panic!("a record of the future");
        };
        assert!(
            problem.answer.contains("offset 7 of partition 3"),
            "{problem:?}"
        );
    }
}
