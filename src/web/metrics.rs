//! The text of `/metrics`, in Prometheus' format 0.0.4. Pure.

use std::fmt::{Display, Write};

use crate::status::CounterKey;
use crate::status::snapshot::{GroupSnapshot, Health, PartitionSnapshot, Snapshot};

const PARTITION_STATES: [&str; 5] = ["not_ours", "claiming", "replaying", "landing", "stopped"];

/// All metrics. A family that both the partitions and the counters have is the counters'.
pub(super) fn render(snapshot: &Snapshot, counters: &[(CounterKey, u64)]) -> String {
    let mut text = Text::default();
    process(&mut text, snapshot);
    groups(&mut text, &snapshot.groups);
    partitions(&mut text, &snapshot.partitions, counters);
    counted(&mut text, counters);
    text.0
}

fn process(text: &mut Text, snapshot: &Snapshot) {
    text.gauge("groundtrack_build_info", "The version that runs; always 1.");
    text.sample(&[("version", &*snapshot.version)], 1);
    text.gauge(
        "groundtrack_uptime_seconds",
        "How long the process has run.",
    );
    text.sample(&[], snapshot.uptime_s);
    text.gauge(
        "groundtrack_healthy",
        "0 while /healthz answers 503, else 1.",
    );
    text.sample(&[], u8::from(snapshot.health != Health::Unhealthy));
    text.gauge("groundtrack_troubles", "How many things are wrong now.");
    text.sample(&[], snapshot.troubles.len());
    text.gauge("groundtrack_held_bytes", "Memory of everything in flight.");
    text.sample(&[], snapshot.budget_held_bytes);
    if let Some(file) = &snapshot.last_file {
        let help = "When a file last landed, since 1970 UTC.";
        text.gauge("groundtrack_last_file_timestamp_seconds", help);
        text.sample(&[], file.landed_at_ms as f64 / 1000.0);
    }
}

fn groups(text: &mut Text, groups: &[GroupSnapshot]) {
    text.gauge(
        "groundtrack_group_running",
        "Whether a generation of the group runs.",
    );
    for group in groups {
        text.sample(&[("group", &*group.name)], u8::from(group.running));
    }
    text.gauge(
        "groundtrack_group_generation",
        "Number of the group's generation.",
    );
    for group in groups {
        text.sample(&[("group", &*group.name)], group.generation);
    }
    let help = "Generations of the group that ended though they should run.";
    text.counter("groundtrack_group_restarts_total", help);
    for group in groups {
        text.sample(&[("group", &*group.name)], group.restarts);
    }
    let actors = || {
        let of_group = |group: &'_ GroupSnapshot| group.actors.clone();
        groups.iter().flat_map(move |group| {
            let actors = of_group(group).into_iter();
            actors.map(|actor| (&*group.name, actor))
        })
    };
    let help = "Since the actor last made progress or began to wait.";
    text.gauge("groundtrack_actor_silent_seconds", help);
    for (group, actor) in actors() {
        let labels = [("group", group), ("actor", &*actor.name)];
        text.sample(&labels, actor.silent_ms as f64 / 1000.0);
    }
    let help = "1 while the actor waits for something, 0 while it works.";
    text.gauge("groundtrack_actor_waits", help);
    for (group, actor) in actors() {
        let labels = [("group", group), ("actor", &*actor.name)];
        text.sample(&labels, u8::from(actor.waits_for.is_some()));
    }
}

fn partitions(text: &mut Text, all: &[PartitionSnapshot], counters: &[(CounterKey, u64)]) {
    text.gauge(
        "groundtrack_partition_state",
        "1 for the state that the partition is in.",
    );
    for partition in all {
        let number = partition.partition.to_string();
        for state in PARTITION_STATES {
            let labels = [
                ("topic", partition.topic.as_str()),
                ("partition", number.as_str()),
                ("state", state),
            ];
            text.sample(&labels, u8::from(partition.state == state));
        }
    }
    let ours: Vec<&PartitionSnapshot> = all.iter().filter(|one| one.state != "not_ours").collect();
    text.gauge(
        "groundtrack_lag_records",
        "Records of the log that have not landed.",
    );
    text.each(&ours, |one| one.lag_records);
    let help = "Age of the last record that landed, while something is left to land.";
    text.gauge("groundtrack_lag_seconds", help);
    text.each(&ours, |one| one.lag_s);
    text.gauge(
        "groundtrack_next_offset",
        "Every record below it has landed.",
    );
    text.each(&ours, |one| one.next_offset);
    text.gauge(
        "groundtrack_log_end_offset",
        "Behind the last record of the log.",
    );
    text.each(&ours, |one| one.log_end);
    let help = "The first offset that the log still has.";
    text.gauge("groundtrack_log_start_offset", help);
    text.each(&ours, |one| one.log_start);
    let help = "Offsets behind the log's end that wait for the end of an open transaction.";
    text.gauge("groundtrack_held_back_records", help);
    text.each(&ours, |one| one.held_back_records);
    let help = "Until Kafka may delete the next record to land; no sample: nothing is left to land, or it is kept for ever.";
    text.gauge("groundtrack_retention_left_seconds", help);
    text.each(&ours, |one| one.retention_left_s);
    let all: Vec<&PartitionSnapshot> = all.iter().collect();
    let is_counted = |name: &str| counters.iter().any(|(key, _)| key.name == name);
    let name = "groundtrack_records_landed_total";
    if !is_counted(name) {
        text.counter(name, help_of(name));
        text.each(&all, |one| Some(one.records_landed));
    }
    let name = "groundtrack_dead_letters_total";
    if !is_counted(name) {
        text.counter(name, help_of(name));
        text.each(&all, |one| Some(one.dead_letters));
    }
}

/// The counters come sorted, so those of one name follow each other.
fn counted(text: &mut Text, counters: &[(CounterKey, u64)]) {
    let mut last = "";
    for (key, value) in counters {
        if key.name != last {
            text.counter(key.name, help_of(key.name));
            last = key.name;
        }
        let labels: Vec<(&str, &str)> = key
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        text.sample(&labels, value);
    }
}

fn help_of(counter: &str) -> &'static str {
    match counter {
        "groundtrack_polls_total" => "Polls of the source, by what became of them.",
        "groundtrack_samples_published_total" => "Answers of the source that Kafka has taken.",
        "groundtrack_samples_refused_total" => "Answers of the source that Kafka refused.",
        "groundtrack_samples_unpublished_total" => {
            "Answers of the source that were given up before Kafka had taken them."
        }
        "groundtrack_records_landed_total" => "Records landed by this process.",
        "groundtrack_dead_letters_total" => "Of the records landed, those that are dead letters.",
        "groundtrack_store_requests_total" => "Requests to the object store.",
        _ => "Counted since the process started.",
    }
}

/// The text so far, and the family that the next samples belong to.
#[derive(Debug, Default)]
struct Text(String, &'static str);

impl Text {
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn counter(&mut self, name: &'static str, help: &str) {
        self.family(name, "counter", help);
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        // Writing into a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample for each partition of which the value is known.
    fn each<T: Display>(
        &mut self,
        partitions: &[&PartitionSnapshot],
        value: impl Fn(&PartitionSnapshot) -> Option<T>,
    ) {
        for partition in partitions {
            if let Some(value) = value(partition) {
                let number = partition.partition.to_string();
                let labels = [
                    ("topic", partition.topic.as_str()),
                    ("partition", number.as_str()),
                ];
                self.sample(&labels, value);
            }
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(self.1);
        for (index, (name, label)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{name}=\"");
            self.escaped(label);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn escaped(&mut self, label: &str) {
        for character in label.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use crate::status::{PartitionState, Status};

    /// Reads the format as a scraper does: by family name, its type and its samples.
    fn parsed(text: &str) -> BTreeMap<String, (String, BTreeMap<String, f64>)> {
        let mut families = BTreeMap::new();
        let mut current = String::new();
        let mut helped = BTreeSet::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(matches!(kind, "gauge" | "counter"), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(helped.contains(name), "{line}");
                let family = (kind.to_owned(), BTreeMap::new());
                assert!(families.insert(name.to_owned(), family).is_none(), "{line}");
                name.clone_into(&mut current);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                assert_eq!(name, current, "{line}");
                let value = value.parse().unwrap();
                let samples = &mut families.get_mut(name).unwrap().1;
                assert!(samples.insert(series.to_owned(), value).is_none(), "{line}");
            }
        }
        families
    }

    fn rendered(status: &Status) -> String {
        render(
            &status.snapshot(Duration::from_secs(300)),
            &status.counters(),
        )
    }

    fn landing(status: &Status, topic: &str, number: i32) {
        let partition = status.partition(topic, number);
        *partition.state.lock().unwrap() = PartitionState::Landing;
        partition.next_offset.store(7, Ordering::Relaxed);
        partition.log_end.store(10, Ordering::Relaxed);
        partition.records_landed.store(5, Ordering::Relaxed);
    }

    #[test]
    fn what_is_known_can_be_scraped() {
        let status = Status::new();
        status.group("landing").begin(2);
        status.group("landing").pulse("flattener").works();
        landing(&status, "t", 0);
        landing(&status, "t", 1);
        let requests = |operation: &str, result: &str, by: u64| {
            let labels = [("operation", operation), ("result", result)];
            status.count("groundtrack_store_requests_total", &labels, by);
        };
        requests("put", "ok", 2);
        requests("get", "ok", 1);
        requests("put", "ok", 3);
        let families = parsed(&rendered(&status));
        let value = |name: &str, series: &str| families[name].1[&format!("{name}{series}")];
        let first = "{topic=\"t\",partition=\"0\"}";
        assert_eq!(value("groundtrack_lag_records", first), 3.0);
        assert_eq!(value("groundtrack_next_offset", first), 7.0);
        assert_eq!(value("groundtrack_records_landed_total", first), 5.0);
        let put = "{operation=\"put\",result=\"ok\"}";
        assert_eq!(value("groundtrack_store_requests_total", put), 5.0);
        let state = "{topic=\"t\",partition=\"1\",state=\"landing\"}";
        assert_eq!(value("groundtrack_partition_state", state), 1.0);
        assert_eq!(value("groundtrack_healthy", ""), 1.0);
        let group = "{group=\"landing\"}";
        assert_eq!(value("groundtrack_group_generation", group), 2.0);
        assert_eq!(families["groundtrack_actor_waits"].1.len(), 1);
    }

    #[test]
    fn the_time_until_retention_is_a_sample_only_where_it_ends() {
        let status = Status::new();
        landing(&status, "t", 0);
        landing(&status, "t", 1);
        landing(&status, "t", 2);
        let until = |number: i32, ms: i64| {
            let kept_until_ms = crate::status::now_ms() + ms;
            let partition = status.partition("t", number);
            partition
                .kept_until_ms
                .store(kept_until_ms, Ordering::Relaxed);
        };
        until(0, 90_000);
        until(1, -90_000);
        let samples = &parsed(&rendered(&status))["groundtrack_retention_left_seconds"].1;
        let values: Vec<f64> = samples.values().copied().collect();
        assert_eq!(values.len(), 2, "{samples:?}");
        assert!(
            values[0] > 80.0 && values[0] <= 90.0 && values[1] == 0.0,
            "{samples:?}"
        );
    }

    #[test]
    fn a_family_that_is_counted_is_not_given_twice() {
        let status = Status::new();
        landing(&status, "t", 0);
        let labels = [("topic", "t"), ("partition", "0")];
        status.count("groundtrack_records_landed_total", &labels, 9);
        let families = parsed(&rendered(&status));
        let landed = &families["groundtrack_records_landed_total"].1;
        assert_eq!(landed.values().copied().collect::<Vec<_>>(), [9.0]);
    }

    #[test]
    fn a_partition_of_another_member_has_no_lag_of_ours() {
        let status = Status::new();
        landing(&status, "t", 0);
        *status.partition("t", 0).state.lock().unwrap() = PartitionState::NotOurs;
        assert!(
            parsed(&rendered(&status))["groundtrack_lag_records"]
                .1
                .is_empty()
        );
    }

    #[test]
    fn hostile_labels_make_no_line_of_their_own() {
        let status = Status::new();
        let hostile = "a\"} 1\ngroundtrack_healthy 0\n\\";
        status.count("groundtrack_polls_total", &[("result", hostile)], 1);
        let families = parsed(&rendered(&status));
        let expected = r#"groundtrack_polls_total{result="a\"} 1\ngroundtrack_healthy 0\n\\"}"#;
        assert!(families["groundtrack_polls_total"].1.contains_key(expected));
    }
}
