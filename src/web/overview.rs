//! The first page: the pipeline, what is wrong, the lag, the files, the map. Pure: what is known
//! comes in as an [`Overview`].

mod sections;

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::status::snapshot::{
    ActorSnapshot, FileSnapshot, GroupSnapshot, Health, PartitionSnapshot, Snapshot,
};
use crate::status::track::Position;

use super::history::Rates;
use super::live::Live;
use super::map;
use super::words::{self, UNKNOWN};

/// More partitions than this are folded: what is worst is shown, the rest is summed up.
const PARTITIONS_SHOWN: usize = 24;
/// A graph of this size, in units of its own.
const SPARK: (f64, f64) = (120.0, 24.0);

/// All that the page shows, as `/api/overview` answers it.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    /// As `/api/status`.
    pub(super) status: Snapshot,
    /// `kafka.topic`.
    pub(super) topic: String,
    /// `kafka.group`.
    pub(super) group: String,
    /// Where the files land.
    pub(super) store: String,
    /// `limits.memory`.
    pub(super) budget_bytes: u64,
    /// Of the last half minute.
    pub(super) rates: Rates,
    /// The newest first.
    pub(super) files: Vec<FileSnapshot>,
    /// Records left to land over the last quarter of an hour, each 5 s, the oldest first.
    pub(super) lag: Vec<f64>,
    /// The same of each partition shown that has it.
    #[serde(skip)]
    pub(super) lags: BTreeMap<i32, Vec<f64>>,
    /// Positions of the rows landed last, for a table with `latitude` and `longitude`.
    pub(super) track: Vec<Position>,
}

/// A stage of the pipeline as the picture has it.
struct Stage {
    actor: &'static str,
    group: &'static str,
    does: &'static str,
    /// What its figure counts.
    counts: &'static str,
}

/// In the order of the data.
const STAGES: [Stage; 7] = [
    Stage {
        actor: "poller",
        group: "ingest",
        does: "asks the source",
        counts: "answers",
    },
    Stage {
        actor: "publisher",
        group: "ingest",
        does: "writes to the topic",
        counts: "answers",
    },
    Stage {
        actor: "subscriber",
        group: "landing",
        does: "reads the topic back",
        counts: "records",
    },
    Stage {
        actor: "flattener",
        group: "landing",
        does: "makes rows of JSON",
        counts: "dead letters",
    },
    Stage {
        actor: "accumulator",
        group: "landing",
        does: "fills a batch",
        counts: "in memory",
    },
    Stage {
        actor: "uploader",
        group: "landing",
        does: "creates the objects",
        counts: "files",
    },
    Stage {
        actor: "checkpoint",
        group: "landing",
        does: "says what has landed",
        counts: "records landed",
    },
];

impl Overview {
    /// Worst first: stopped, then by lag; at most as many as are shown.
    pub(super) fn shown(partitions: &[PartitionSnapshot]) -> Vec<&PartitionSnapshot> {
        let mut shown: Vec<&PartitionSnapshot> = partitions.iter().collect();
        if shown.len() > PARTITIONS_SHOWN {
            shown.sort_by_key(|one| {
                let lag = std::cmp::Reverse(one.lag_records.unwrap_or(0));
                (one.state != "stopped", lag, one.partition)
            });
            shown.truncate(PARTITIONS_SHOWN);
        }
        shown
    }

    fn group(&self, name: &str) -> Option<&GroupSnapshot> {
        self.status.groups.iter().find(|group| group.name == name)
    }

    fn actor(&self, stage: &Stage) -> Option<&ActorSnapshot> {
        let group = self.group(stage.group).filter(|group| group.running)?;
        group.actors.iter().find(|actor| actor.name == stage.actor)
    }

    fn flow(&self, stage: &Stage) -> String {
        let rates = &self.rates;
        let shown = |rate: &String| match rate.as_str() {
            "" => UNKNOWN.to_owned(),
            rate => rate.to_owned(),
        };
        match stage.actor {
            "poller" => shown(&rates.polled),
            "publisher" => shown(&rates.published),
            "subscriber" => shown(&rates.read),
            "flattener" => shown(&rates.dead_letters),
            "accumulator" => words::bytes(self.status.budget_held_bytes),
            "uploader" => shown(&rates.bytes),
            _ => shown(&rates.landed),
        }
    }

    /// What changes, and the shape of each section.
    pub(super) fn live(&self) -> Live {
        let mut live = Live::default();
        let status = &self.status;
        let mut set = |name: String, text: String| {
            live.texts.insert(name, text);
        };
        set("time".into(), words::time(status.time_ms));
        set("time.machine".into(), words::machine_time(status.time_ms));
        set("health".into(), word(status.health).into());
        set("uptime".into(), words::duration(status.uptime_s as f64));
        for stage in &STAGES {
            let (state, text) = state_of(self.actor(stage));
            set(format!("{}.state", stage.actor), state.into());
            set(format!("{}.does", stage.actor), text);
            set(format!("{}.flow", stage.actor), self.flow(stage));
        }
        for group in &status.groups {
            let restarts = match group.restarts {
                0 => String::new(),
                1 => "restarted once".to_owned(),
                times => format!("restarted {} times", words::number(times)),
            };
            set(format!("{}.restarts", group.name), restarts);
        }
        set("budget.held".into(), status.budget_held_bytes.to_string());
        set("budget.text".into(), self.budget());
        self.live_partitions(&mut set);
        self.live_map(&mut set);
        live.shapes = self.shapes();
        live
    }

    fn budget(&self) -> String {
        format!(
            "{} of {} in flight",
            words::bytes(self.status.budget_held_bytes),
            words::bytes(self.budget_bytes)
        )
    }

    fn live_partitions(&self, set: &mut impl FnMut(String, String)) {
        let all = &self.status.partitions;
        let lag: i64 = all.iter().filter_map(|one| one.lag_records).sum();
        let oldest = all.iter().filter_map(|one| one.lag_s).fold(0.0, f64::max);
        let landed: u64 = all.iter().map(|one| one.records_landed).sum();
        let dead: u64 = all.iter().map(|one| one.dead_letters).sum();
        set("lag".into(), words::number(lag));
        set("lag.age".into(), words::duration(oldest));
        set(
            "lag.trend".into(),
            map::sparkline(&self.lag, SPARK.0, SPARK.1),
        );
        set("landed".into(), words::number(landed));
        set("dead".into(), words::number(dead));
        for one in Self::shown(all) {
            let name = |part: &str| format!("p{}.{part}", one.partition);
            let known =
                |number: Option<i64>| number.map_or_else(|| UNKNOWN.to_owned(), words::number);
            set(name("state"), one.state.to_string());
            set(name("next"), known(one.next_offset));
            // The log's end is asked for less often than the checkpoint moves.
            set(name("end"), known(one.log_end.max(one.next_offset)));
            set(name("lag"), known(one.lag_records));
            let age = one
                .lag_s
                .map_or_else(|| UNKNOWN.to_owned(), words::duration);
            set(name("age"), age);
            let kept = one
                .retention_left_s
                .map_or_else(|| UNKNOWN.to_owned(), words::duration);
            set(name("kept"), kept);
            set(name("landed"), words::number(one.records_landed));
            let trend = self.lags.get(&one.partition).map_or(&[][..], Vec::as_slice);
            set(name("trend"), map::sparkline(trend, SPARK.0, SPARK.1));
        }
    }

    fn live_map(&self, set: &mut impl FnMut(String, String)) {
        let Some(last) = self.track.last() else {
            return;
        };
        let (x, y) = map::point(last.latitude, last.longitude);
        set("map.at".into(), format!("translate({x:.1} {y:.1})"));
        set("map.track".into(), map::track(&self.track));
        // The night moves a quarter of a degree a minute: what is drawn is no finer.
        let minute = self.status.time_ms - self.status.time_ms.rem_euclid(60_000);
        set("map.night".into(), map::night(minute));
        set(
            "map.latitude".into(),
            words::degrees(last.latitude, 'N', 'S'),
        );
        set(
            "map.longitude".into(),
            words::degrees(last.longitude, 'E', 'W'),
        );
        set("map.time".into(), words::time(last.time_ms));
        set("map.time.machine".into(), words::machine_time(last.time_ms));
    }

    /// What each section is made of: with another, it has other elements.
    fn shapes(&self) -> BTreeMap<&'static str, String> {
        let hashed = |parts: &mut dyn Iterator<Item = String>| {
            let mut all = String::new();
            for part in parts {
                // A part may hold anything, so each is told with its length.
                let _ = write!(all, "{}:{part}", part.len());
            }
            format!("{:016x}", xxhash_rust::xxh3::xxh3_64(all.as_bytes()))
        };
        let status = &self.status;
        let troubles = status.troubles.iter();
        let mut wrong = troubles
            .map(|trouble| format!("{}\n{}", trouble.place, trouble.text))
            .chain(status.unhealthy.iter().cloned());
        let mut groups = status.groups.iter().map(|group| group.name.to_string());
        let mut shown = Self::shown(&status.partitions)
            .into_iter()
            .map(|one| format!("{} {:?}", one.partition, one.cause))
            .chain([status.partitions.len().to_string()]);
        let mut files = self.files.iter().map(|file| file.key.clone());
        let mut map = self.track.first().map(|_| String::new()).into_iter();
        BTreeMap::from([
            ("wrong", hashed(&mut wrong)),
            ("pipeline", hashed(&mut groups)),
            ("lags", hashed(&mut shown)),
            ("files", hashed(&mut files)),
            ("map", hashed(&mut map)),
        ])
    }
}

fn word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    }
}

/// State and words of an actor; `None`: its group does not run.
fn state_of(actor: Option<&ActorSnapshot>) -> (&'static str, String) {
    match actor {
        None => ("off", "does not run".to_owned()),
        Some(actor) => match &actor.waits_for {
            Some(what) => ("waits", format!("waits for {what}")),
            None => ("works", "works".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use super::*;
    use crate::status::{PartitionState, Status};

    fn overview(status: &Arc<Status>) -> Overview {
        Overview {
            status: status.snapshot(Duration::from_secs(300)),
            topic: "iss".into(),
            group: "g".into(),
            store: "file:///x".into(),
            budget_bytes: 1 << 20,
            rates: Rates::default(),
            files: Vec::new(),
            lag: Vec::new(),
            lags: BTreeMap::new(),
            track: Vec::new(),
        }
    }

    fn html(overview: &Overview) -> String {
        overview.render().into_string()
    }

    #[test]
    fn the_picture_has_the_seven_actors_and_what_each_does() {
        let status = Status::new();
        status.group("landing").begin(3);
        status.group("landing").pulse("uploader").waits("the store");
        let html = html(&overview(&status));
        for stage in &STAGES {
            assert!(html.contains(&format!("<b>{}</b>", stage.actor)), "{html}");
        }
        assert!(html.contains(r#"data-live="uploader.does">waits for the store</span>"#));
        assert!(html.contains(r#"data-live="poller.does">does not run</span>"#));
    }

    #[test]
    fn all_that_changes_has_an_element_and_all_elements_have_a_text() {
        let status = Status::new();
        status
            .partition("iss", 3)
            .set_state(PartitionState::Landing);
        status.group("landing").begin(1);
        let mut overview = overview(&status);
        let place = Position {
            time_ms: 0,
            latitude: 0.0,
            longitude: 0.0,
        };
        overview.track = vec![place];
        let (html, live) = (html(&overview), overview.live());
        let mut named: Vec<&str> = Vec::new();
        for attribute in html.split("data-live").skip(1) {
            let (_, value) = attribute.split_once("=\"").unwrap();
            named.push(value.split_once('"').unwrap().0);
        }
        for name in &named {
            assert!(live.texts.contains_key(*name), "{name} is never told");
        }
        for name in live.texts.keys() {
            assert!(named.contains(&name.as_str()), "{name} is nowhere shown");
        }
        for section in live.shapes.keys() {
            assert!(html.contains(&format!("<section id=\"{section}\" data-shape=")));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let status = Status::new();
        let cause = PartitionState::Stopped("gap: 3 to 7 is gone, add [[skip]]".to_owned());
        status.partition("iss", 0).set_state(cause);
        status.trouble("source", "it is frozen", false);
        let html = html(&overview(&status));
        assert!(html.contains("gap: 3 to 7 is gone, add [[skip]]"));
        assert!(html.contains("it is frozen"));
        assert!(html.contains(r#"data-state="unhealthy">unhealthy</strong>"#));
    }

    #[test]
    fn a_section_is_fetched_anew_only_when_it_is_made_of_something_else() {
        let status = Status::new();
        let before = overview(&status).live().shapes;
        status.trouble("source", "it is frozen", false);
        let after = overview(&status).live().shapes;
        assert_ne!(before["wrong"], after["wrong"]);
        assert_eq!(before["files"], after["files"]);
        status.partition("iss", 0).log_end.store(5, Relaxed);
        let claimed = overview(&status).live().shapes;
        status.partition("iss", 0).log_end.store(6, Relaxed);
        assert_eq!(claimed, overview(&status).live().shapes);
    }

    #[test]
    fn five_thousand_partitions_are_folded_and_the_worst_are_shown() {
        let status = Status::new();
        for number in 0..5000 {
            let partition = status.partition("iss", number);
            partition.set_state(PartitionState::Landing);
            partition.next_offset.store(0, Relaxed);
            partition.log_end.store(i64::from(number), Relaxed);
        }
        status
            .partition("iss", 7)
            .set_state(PartitionState::Stopped("gone".into()));
        let html = html(&overview(&status));
        assert_eq!(html.matches("<th scope=\"row\">").count(), PARTITIONS_SHOWN);
        for number in [7, 4999, 4998] {
            assert!(html.contains(&format!("<th scope=\"row\">{number}</th>")));
        }
        assert!(html.contains("4\u{202f}976 more"));
        assert!(html.len() < 64 * 1024, "{}", html.len());
    }

    #[test]
    fn hostile_text_is_text() {
        let status = Status::new();
        let hostile = "<script>alert(1)</script>\"><img src=x>";
        status.trouble(hostile, hostile, true);
        let mut overview = overview(&status);
        overview.topic = hostile.into();
        overview.files.push(FileSnapshot {
            key: hostile.into(),
            rows: 1,
            bytes: 1,
            landed_at_ms: 0,
        });
        let html = html(&overview);
        assert!(
            !html.contains("<script") && !html.contains("<img"),
            "{html}"
        );
    }
}
