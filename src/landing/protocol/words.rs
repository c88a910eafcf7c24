//! What is said of a partition that stops over records that are lost or cannot be read: what
//! happened, with numbers, and how to go on, to be pasted as it is.

use crate::config::Kafka;
use crate::logging::events::{self, Event};
use crate::messages::Damage;

/// What each kind of cause begins with.
const GAP: &str = "gap: ";
const UNREADABLE: &str = "unreadable: ";
/// Objects that are not ours are where ours belong.
pub(super) const FOREIGN: &str = "foreign: ";
/// Kafka's log is not the one that was landed.
pub(super) const OTHER_LOG: &str = "kafka holds another log: ";

/// The event of the log that a partition's stop for this cause is.
pub fn event(cause: &str) -> Event {
    let kinds = [
        (GAP, events::PARTITION_GAP),
        (UNREADABLE, events::UNREADABLE),
        (FOREIGN, events::FOREIGN),
        (OTHER_LOG, events::OTHER_LOG),
    ];
    let kind = kinds.iter().find(|(begin, _)| cause.starts_with(begin));
    kind.map_or(events::PARTITION_STOPPED, |(_, event)| *event)
}

/// Offsets [from, to) are gone from Kafka, whose log begins at `to`.
pub fn gap(topic: &str, partition: i32, next_offset: i64, [from, to]: [i64; 2]) -> String {
    format!(
        "{GAP}kafka's log now starts at offset {to}, offsets {from} to {} are lost (retention); to \
         pass them, {}",
        to - 1,
        word_to_give(topic, partition, next_offset)
    )
}

/// The offsets up to the next one that can be read are given up by deleting them, which makes a
/// gap. `next_offset` is the checkpoint's, with all that was read before it landed; `log_end` is
/// behind the last offset of the log, -1 where it is not known.
pub fn unreadable(
    kafka: &Kafka,
    partition: i32,
    next_offset: i64,
    damage: &Damage,
    log_end: i64,
) -> String {
    let Damage {
        offset,
        readable,
        error,
    } = damage;
    let (behind, to) = match readable {
        Some(readable) => (
            format!("offset {readable} is the next that can be"),
            *readable,
        ),
        None => (
            "nothing behind it could be".to_owned(),
            log_end.max(offset + 1),
        ),
    };
    let topic = &kafka.topic;
    format!(
        "{UNREADABLE}offset {offset} of kafka's log cannot be read ({error}), {behind}; to give up \
         offsets {offset} to {}, delete the log up to there:\n\
         kafka-delete-records.sh --bootstrap-server {} --offset-json-file /dev/stdin <<< \
         '{{\"version\":1,\"partitions\":[{{\"topic\":\"{topic}\",\"partition\":{partition},\
         \"offset\":{to}}}]}}'\nand to pass the gap, {}",
        to - 1,
        kafka.brokers.join(","),
        word_to_give(topic, partition, next_offset)
    )
}

/// How the operator gives his word for a gap.
fn word_to_give(topic: &str, partition: i32, next_offset: i64) -> String {
    format!(
        "add this to the end of the configuration and reload:\n[[skip]]\ntopic = \"{topic}\"\n\
         partition = {partition}\nfirst_offset = {next_offset}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = "\n[[skip]]\ntopic = \"project_topic\"\npartition = 3\nfirst_offset = 90\n";

    #[test]
    fn a_gap_is_told_with_its_numbers_and_the_word_to_give() {
        let text = gap("project_topic", 3, 90, [100, 120]);
        assert!(
            text.contains("starts at offset 120, offsets 100 to 119 are lost"),
            "{text}"
        );
        assert!(text.ends_with(WORD), "{text}");
    }

    #[test]
    fn an_unreadable_offset_is_told_with_what_to_delete_and_the_word_to_give() {
        let kafka = crate::testing::config().kafka;
        let mut damage = Damage {
            offset: 100,
            readable: Some(120),
            error: "bad crc".to_owned(),
        };
        let text = unreadable(&kafka, 3, 90, &damage, 500);
        assert!(
            text.starts_with("unreadable: offset 100") && text.contains("bad crc"),
            "{text}"
        );
        assert!(text.contains("give up offsets 100 to 119"), "{text}");
        let partition = "{\"topic\":\"project_topic\",\"partition\":3,\"offset\":120}";
        assert!(text.contains(partition), "{text}");
        assert!(text.ends_with(WORD), "{text}");
        damage.readable = None;
        for (log_end, to) in [(500, 500), (-1, 101)] {
            let text = unreadable(&kafka, 3, 90, &damage, log_end);
            assert!(text.contains(&format!("\"offset\":{to}}}")), "{text}");
        }
    }
}
