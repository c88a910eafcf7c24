//! The table of the partitions: all of them, or the worst and a summary of the rest.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::words::{count, cut_middle, period, plain, size, width};
use super::{records, total};
use crate::status::snapshot::PartitionSnapshot;

/// From so many columns on a line has room for the key of the partition's last file.
const COLUMNS_WITH_KEY: usize = 120;

/// Columns of all but the name, their gaps included.
const FIXED: usize = 54;

/// Narrower than this no name can be told from another.
const NAME_MIN: usize = 8;

/// Lines that all of them take, the title included.
pub(super) fn wanted(partitions: &[PartitionSnapshot]) -> usize {
    match partitions.len() {
        0 => 0,
        count => count + 1,
    }
}

/// At most `room` lines.
pub(super) fn table(
    partitions: &[PartitionSnapshot],
    time_ms: i64,
    columns: usize,
    room: usize,
) -> Vec<String> {
    if partitions.is_empty() || room < 2 {
        return Vec::new();
    }
    let mut order: Vec<&PartitionSnapshot> = partitions.iter().collect();
    let mut rest: &[&PartitionSnapshot] = &[];
    let shown = if wanted(partitions) > room {
        order.sort_by(|one, other| {
            badness(other)
                .total_cmp(&badness(one))
                .then_with(|| by_name(one, other))
        });
        let (shown, folded) = order.split_at(room - 2);
        rest = folded;
        shown
    } else {
        order.sort_by(|one, other| by_name(one, other));
        &order[..]
    };
    let longest = shown.iter().map(|one| width(&name(one))).max().unwrap_or(0);
    let key_columns = if columns >= COLUMNS_WITH_KEY { 50 } else { 0 };
    let most = columns.saturating_sub(FIXED + key_columns).max(NAME_MIN);
    let name_columns = longest.clamp(NAME_MIN + 1, most.max(NAME_MIN + 1));
    let layout = Layout {
        name_columns,
        key_columns: columns.saturating_sub(FIXED + name_columns),
        has_key: key_columns > 0,
    };
    let mut lines = vec![layout.title()];
    lines.extend(shown.iter().map(|one| layout.line(one, time_ms)));
    if !rest.is_empty() {
        lines.push(summary(rest));
    }
    lines
}

struct Layout {
    name_columns: usize,
    key_columns: usize,
    has_key: bool,
}

impl Layout {
    fn title(&self) -> String {
        let wide = self.name_columns;
        let key = if self.has_key { "  LAST FILE" } else { "" };
        format!(
            "{:wide$}  STATE        LAG BEHIND   OPEN    SIZE    AGE LANDED{key}",
            "PARTITION"
        )
    }

    fn line(&self, one: &PartitionSnapshot, time_ms: i64) -> String {
        let wide = self.name_columns;
        let unknown = || "-".to_owned();
        let open = one.open.as_ref();
        let since = |at_ms: i64| period(time_ms.saturating_sub(at_ms).max(0) as u64 / 1000);
        let is_ours = one.state != "not_ours";
        let lag = records(one.lag_records).filter(|_| is_ours);
        let behind = one.lag_s.filter(|_| is_ours);
        let line = format!(
            "{:wide$}  {:<9} {:>6} {:>6} {:>6} {:>7} {:>6} {:>6}",
            cut_name(one, wide),
            plain(&one.state).replace('_', " "),
            lag.map_or_else(unknown, count),
            behind.map_or_else(unknown, |seconds| period(seconds.max(0.0) as u64)),
            open.map_or_else(unknown, |open| count(open.rows)),
            open.map_or_else(unknown, |open| size(open.bytes)),
            open.map_or_else(unknown, |open| since(open.since_ms)),
            one.landed_at_ms.map_or_else(unknown, since),
        );
        match &one.last_file {
            Some(file) if self.has_key => {
                line + "  " + &cut_middle(&plain(&file.key), self.key_columns.saturating_sub(2))
            }
            _ => line,
        }
    }
}

fn name(one: &PartitionSnapshot) -> String {
    format!("{} {}", plain(&one.topic), one.partition)
}

/// The number is never cut off.
fn cut_name(one: &PartitionSnapshot, most: usize) -> String {
    let number = format!(" {}", one.partition);
    let topic = cut_middle(&plain(&one.topic), most.saturating_sub(width(&number)));
    topic + &number
}

fn by_name(one: &PartitionSnapshot, other: &PartitionSnapshot) -> std::cmp::Ordering {
    (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
}

/// The higher, the earlier it is shown: stopped, not landing yet, far behind in time, in records;
/// what another member has comes last.
fn badness(one: &PartitionSnapshot) -> f64 {
    let rank = match &*one.state {
        "stopped" => 5e18,
        "replaying" | "claiming" => 2e18,
        "not_ours" => -1.0,
        _ if one.remedy.is_some() => 4e18,
        _ => 0.0,
    };
    let lag = one.lag_records.unwrap_or(0).max(0) as f64;
    // A second of lag weighs more than any number of records that land within it.
    rank + one.lag_s.unwrap_or(0.0).max(0.0) * 1e6 + lag.min(1e6)
}

fn summary(rest: &[&PartitionSnapshot]) -> String {
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    for one in rest {
        *states
            .entry(plain(&one.state).replace('_', " "))
            .or_default() += 1;
    }
    let mut states: Vec<(String, u64)> = states.into_iter().collect();
    states.sort_by_key(|(_, count)| Reverse(*count));
    let states = states
        .iter()
        .map(|(state, number)| format!("{number} {state}"));
    let ours = || rest.iter().filter(|one| one.state != "not_ours");
    let lag = total(ours().filter_map(|one| records(one.lag_records)));
    let behind = ours().filter_map(|one| one.lag_s).fold(0.0, f64::max);
    format!(
        "and {} more: {}; lag {} records, at most {} behind",
        rest.len(),
        states.collect::<Vec<_>>().join(", "),
        count(lag),
        period(behind as u64)
    )
}
