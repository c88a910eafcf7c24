//! What a person does about what is wrong: one sentence for each kind of it. Pure.

/// For a partition that has had something to land for long and has landed none of it.
pub const OF_IDLE: &str = "see what its group's actors wait for; if none of them names a wait, \
    restart the service: nothing is lost by it";

/// For a trouble at this place, as `Status::trouble` was told.
pub fn of_trouble(place: &str) -> &'static str {
    let known = BY_PLACE.iter().find(|(known, _)| *known == place);
    let of_partition = place.strip_prefix("partition ").and_then(|rest| {
        let (_, what) = rest.split_once("'s ")?;
        BY_PARTITION.iter().find(|(known, _)| *known == what)
    });
    match known.or(of_partition) {
        Some((_, remedy)) => remedy,
        None if place.starts_with("group ") => {
            "mend what the failure names; it is tried again by itself. The journal has the rest"
        }
        None => "see the journal for what came before it",
    }
}

/// For a partition that stopped for this cause.
pub fn of_stopped(cause: &str) -> &'static str {
    let known = BY_CAUSE.iter().find(|(start, _)| cause.starts_with(start));
    known.map_or(
        "do what the cause says; the partition looks again by itself",
        |(_, remedy)| remedy,
    )
}

const BY_PLACE: [(&str, &str); 10] = [
    (
        "configuration",
        "correct the file (`groundtrack check` names each mistake), then `groundtrack reload`",
    ),
    (
        "kafka",
        "run `groundtrack check`: it tells apart network, TLS, login, rights and a topic that is \
         not there; it is asked again by itself",
    ),
    (
        "kafka's consumer",
        "are the brokers up and reachable from here? `groundtrack check` tells; it connects again \
         by itself",
    ),
    (
        "kafka's topic",
        "create the topic with as many partitions as you want: kafka-topics.sh --create",
    ),
    (
        "the store",
        "run `groundtrack check`: it tells apart network, TLS, credentials, rights and the bucket; \
         nothing is lost meanwhile, it is asked again by itself",
    ),
    (
        "credentials",
        "give the service credentials that the store accepts ([store.s3] or the environment), then \
         `groundtrack reload`",
    ),
    (
        "flattener",
        "look at cause and value in dead_letters/ and correct [[table.columns]] (`groundtrack \
         infer --topic` proposes some), then `groundtrack reload`",
    ),
    (
        "source",
        "does the API answer? curl its source.url from this machine; it is polled again by itself",
    ),
    (
        "source frozen",
        "ask the owner of the API why its time stands still; there is nothing to do here",
    ),
    (
        "publisher",
        "does the topic exist, and may this user write to it? `groundtrack check` tells; what was \
         polled is held meanwhile",
    ),
];

const BY_PARTITION: [(&str, &str); 2] = [
    (
        "retention",
        "mend what holds up the landing, or let Kafka keep records longer, by the command above",
    ),
    (
        "replay",
        "end the producer's open transaction (kafka-transactions.sh list finds it), or wait for \
         its time-out",
    ),
];

const BY_CAUSE: [(&str, &str); 6] = [
    (
        "gap:",
        "the lost records are gone from Kafka: add the [[skip]] above to the configuration, then \
         `groundtrack reload`",
    ),
    (
        "unreadable:",
        "delete the unreadable records by the command above, add the [[skip]], then `groundtrack \
         reload`",
    ),
    (
        "kafka holds another log",
        "the topic was made anew: name a new kafka.group, store.data and store.dead_letters, then \
         `groundtrack reload`",
    ),
    (
        "foreign:",
        "put the lost checkpoint back, or rebuild it (`groundtrack adopt --from-files`), or name \
         other folders",
    ),
    (
        "the checkpoint was deleted",
        "stop the service, `groundtrack adopt --from-files`, start it again",
    ),
    (
        "the takeover from a Spark job",
        "stop the service and run `groundtrack adopt` again, as it was run before",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place and every cause of stopping that the code can say.
    #[test]
    fn each_trouble_has_a_remedy_of_its_own() {
        let places = [
            "configuration",
            "kafka",
            "the store",
            "kafka's consumer",
            "kafka's topic",
            "flattener",
            "source",
            "source frozen",
            "publisher",
            "partition 7's retention",
            "partition 7's replay",
            "group web",
        ];
        let mut remedies: Vec<&str> = places.into_iter().map(of_trouble).collect();
        remedies.push(of_trouble("elsewhere"));
        let count = remedies.len();
        remedies.sort_unstable();
        remedies.dedup();
        assert_eq!(remedies.len(), count);
    }

    #[test]
    fn each_cause_of_stopping_has_a_remedy_of_its_own() {
        use crate::landing::protocol::{claim::VANISHED, words::gap};
        let gap = gap("t", 0, 1, [1, 2]);
        let general = of_stopped("something new");
        for cause in [
            &gap,
            VANISHED,
            "unreadable: offset 1 of kafka's log cannot be read",
            "kafka holds another log: it ends at offset 1, the checkpoint has reached 2",
            "foreign: there is no checkpoint, but",
            "the takeover from a Spark job was interrupted before this partition",
        ] {
            assert_ne!(of_stopped(cause), general, "{cause}");
        }
    }
}
