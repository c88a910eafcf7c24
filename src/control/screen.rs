//! What `groundtrack status` shows: a document and a size become text. Pure.
//!
//! What is wrong comes first. Where there is not room for all, the groups are folded into a line,
//! then partitions into a summary, the worst of them shown.

mod partitions;
#[cfg(test)]
mod tests;
mod words;

use std::cmp::Reverse;

use crate::status::snapshot::{GroupSnapshot, Health, PartitionSnapshot, Snapshot};
use words::{count, cut, cut_middle, period, plain, size, width, wrap};

/// Where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns of each line.
    pub columns: usize,
    /// Lines, that of the prompt included.
    pub lines: usize,
}

impl Default for Size {
    /// Of a terminal that does not tell, and of what is no terminal.
    fn default() -> Self {
        Self {
            columns: 80,
            lines: 24,
        }
    }
}

/// On less than this nothing can be read; what is longer than the screen is then cut by it.
const COLUMNS_MIN: usize = 40;
const LINES_MIN: usize = 16;

/// Lines that the partitions have at least, their title and summary included, before the groups
/// are folded, and before what is wrong is.
const PARTITION_LINES_MIN: usize = 7;

/// The text, one line for each line, each with its end.
pub fn render(snapshot: &Snapshot, size: Size) -> String {
    let columns = size.columns.max(COLUMNS_MIN);
    // The prompt comes behind it.
    let lines = size.lines.max(LINES_MIN) - 1;
    let head = head(snapshot, columns);
    let wrong = wrong(snapshot, columns);
    let all_wrong = wrong.iter().map(Vec::len).sum::<usize>();
    let wanted = partitions::wanted(&snapshot.partitions);
    let blanks = |wrong: usize, groups: usize, partitions: usize| {
        [wrong, groups, partitions]
            .into_iter()
            .filter(|count| *count > 0)
            .count()
    };
    let least = wanted.min(PARTITION_LINES_MIN);
    let needed = |groups: usize, partitions: usize| {
        head.len() + all_wrong + groups + partitions + blanks(all_wrong, groups, partitions)
    };
    let details = [Detail::Actors, Detail::Lines, Detail::Line];
    let mut details = details
        .map(|detail| groups(&snapshot.groups, columns, detail))
        .into_iter();
    let groups = details.find(|groups| needed(groups.len(), least) <= lines);
    let groups = groups.unwrap_or_else(|| self::groups(&snapshot.groups, columns, Detail::Line));
    let others = head.len() + groups.len() + blanks(all_wrong, groups.len(), wanted);
    let wrong = fold_wrong(wrong, lines.saturating_sub(others + least));
    let room = lines.saturating_sub(others + wrong.len());
    let partitions = partitions::table(&snapshot.partitions, snapshot.time_ms, columns, room);
    let sections = [head, wrong, groups, partitions];
    let sections = sections.into_iter().filter(|section| !section.is_empty());
    let sections: Vec<String> = sections
        .map(|section| {
            section
                .iter()
                .map(|line| cut(line.trim_end(), columns) + "\n")
                .collect()
        })
        .collect();
    sections.join("\n")
}

fn head(snapshot: &Snapshot, columns: usize) -> Vec<String> {
    let mut lines = vec![format!(
        "groundtrack {} is {}",
        plain(&snapshot.version),
        match snapshot.health {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded: it lands, but something is wrong",
            Health::Unhealthy => "unhealthy",
        }
    )];
    let process = format!("pid {}, up {}", snapshot.pid, period(snapshot.uptime_s));
    let page = snapshot.web.as_ref();
    let page = page.map_or_else(String::new, |web| format!(", page {}", plain(web)));
    let left = columns.saturating_sub(width(&process) + width(&page) + 2);
    let file = snapshot.config_file.as_ref();
    let file = file.map(|file| format!(", {}", cut_middle(&plain(file), left)));
    lines.push(process + &file.unwrap_or_default() + &page);
    lines.push(landed(snapshot));
    if let Some(file) = &snapshot.last_file {
        let about = format!(
            "last file {} ago, {} rows, {}: ",
            age(snapshot.time_ms, file.landed_at_ms),
            count(file.rows),
            size(file.bytes)
        );
        let left = columns.saturating_sub(width(&about));
        lines.push(about + &cut_middle(&plain(&file.key), left));
    }
    if !snapshot.needs_restart.is_empty() {
        let keys = snapshot.needs_restart.join(", ");
        let text = format!("changed in the file, needs a restart of the service: {keys}");
        lines.push(plain(&text));
    }
    lines
}

fn landed(snapshot: &Snapshot) -> String {
    let all = &snapshot.partitions;
    let ours: Vec<&PartitionSnapshot> = all.iter().filter(|one| one.state != "not_ours").collect();
    let landed = total(all.iter().map(|one| one.records_landed));
    let dead = total(all.iter().map(|one| one.dead_letters));
    let lag = total(ours.iter().filter_map(|one| records(one.lag_records)));
    let behind = ours.iter().filter_map(|one| one.lag_s).fold(0.0, f64::max);
    let mut text = format!("landed {} records", count(landed));
    if dead > 0 {
        text += &format!(" ({} dead letters)", count(dead));
    }
    text += &format!(
        "; lag {} records, {}; {} in flight",
        count(lag),
        period(behind as u64),
        size(snapshot.budget_held_bytes)
    );
    text
}

/// A sum of whatever another version has written.
fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn records(number: Option<i64>) -> Option<u64> {
    number.map(|number| u64::try_from(number).unwrap_or(0))
}

/// How long ago.
fn age(now_ms: i64, at_ms: i64) -> String {
    period(now_ms.saturating_sub(at_ms).max(0) as u64 / 1000)
}

/// What is wrong, the gravest first: for each its text, and what to do about it.
fn wrong(snapshot: &Snapshot, columns: usize) -> Vec<Vec<String>> {
    let mut items: Vec<(bool, i64, String, &str)> = Vec::new();
    for partition in &snapshot.partitions {
        let Some(remedy) = &partition.remedy else {
            continue;
        };
        let name = format!(
            "partition {} of {}",
            partition.partition,
            plain(&partition.topic)
        );
        let since_ms = partition.behind_since_ms.unwrap_or(snapshot.time_ms);
        let text = match &partition.cause {
            Some(cause) => format!("{name} is stopped: {cause}"),
            None => format!(
                "{name} has {} records to land and landed none for {}",
                count(records(partition.lag_records).unwrap_or(0)),
                age(snapshot.time_ms, since_ms)
            ),
        };
        items.push((true, since_ms, text, remedy));
    }
    for trouble in &snapshot.troubles {
        let text = format!(
            "{} ({}): {}",
            plain(&trouble.place),
            age(snapshot.time_ms, trouble.since_ms),
            trouble.text
        );
        items.push((trouble.unhealthy, trouble.since_ms, text, &trouble.remedy));
    }
    items.sort_by_key(|(unhealthy, since_ms, ..)| (Reverse(*unhealthy), *since_ms));
    let item = |(unhealthy, _, text, remedy): (bool, i64, String, &str)| {
        let mark = if unhealthy { "!! " } else { "!  " };
        let mut lines = wrap(&format!("{mark}{text}"), columns, "   ");
        lines.extend(wrap(&format!("   -> {remedy}"), columns, "      "));
        lines
    };
    items.into_iter().map(item).collect()
}

/// As many as find room; of the first as much as does, its remedy always.
fn fold_wrong(items: Vec<Vec<String>>, room: usize) -> Vec<String> {
    let total: usize = items.iter().map(Vec::len).sum();
    if total <= room {
        return items.concat();
    }
    let count = items.len();
    // A line says how many more there are.
    let room = if count > 1 {
        room.saturating_sub(1)
    } else {
        room
    };
    let mut lines = Vec::new();
    let mut shown = 0;
    for item in items {
        if shown > 0 && lines.len() + item.len() > room {
            break;
        }
        lines.extend(fold_item(item, room));
        shown += 1;
    }
    if shown < count {
        lines.push(format!(
            "   and {} more: groundtrack status --json has all",
            count - shown
        ));
    }
    lines
}

fn fold_item(mut item: Vec<String>, room: usize) -> Vec<String> {
    let remedy = item.iter().position(|line| line.starts_with("   -> "));
    let remedy = remedy.map_or_else(Vec::new, |at| item.split_off(at));
    let left = room.saturating_sub(remedy.len()).max(1);
    if item.len() > left {
        item.truncate(left.saturating_sub(1).max(1));
        if left > 1 {
            item.push("   (cut: groundtrack status --json and the journal have all)".to_owned());
        }
    }
    item.extend(remedy);
    item
}

/// How much is said of the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// What each actor does.
    Actors,
    /// A line for each group.
    Lines,
    /// One line for all.
    Line,
}

fn groups(groups: &[GroupSnapshot], columns: usize, detail: Detail) -> Vec<String> {
    if groups.is_empty() {
        return Vec::new();
    }
    if detail == Detail::Line {
        return vec![folded(groups)];
    }
    let mut lines =
        vec!["GROUP    STATE     GEN  FAILED  ACTORS, and what each waits for".to_owned()];
    for group in groups {
        let head = format!(
            "{:<8} {:<8} {:>4} {:>7}  ",
            cut(&plain(&group.name), 8),
            state(group),
            count(group.generation),
            count(group.restarts)
        );
        let indent = " ".repeat(width(&head));
        let mut actors = wrap(&doing(group), columns - indent.len(), "").into_iter();
        let rest: Vec<String> = {
            let first = actors.next().unwrap_or_default();
            lines.push(head + &first);
            actors.collect()
        };
        match detail {
            Detail::Actors => lines.extend(rest.iter().map(|line| format!("{indent}{line}"))),
            Detail::Lines | Detail::Line => {
                if let (Some(line), false) = (lines.last_mut(), rest.is_empty()) {
                    *line = format!("{line} {}", rest.join(" "));
                }
            }
        }
    }
    lines
}

fn state(group: &GroupSnapshot) -> &'static str {
    match (group.running, group.generation) {
        (true, _) => "runs",
        (false, 0) => "off",
        (false, _) => "is down",
    }
}

/// Those that work without a sign of progress come first: one of them may hang.
fn doing(group: &GroupSnapshot) -> String {
    let mut actors: Vec<_> = group.actors.iter().collect();
    let key = |silent_ms: u64, waits: bool| (waits, Reverse(silent_ms / 1000));
    actors.sort_by_key(|actor| key(actor.silent_ms, actor.waits_for.is_some()));
    let words = actors.into_iter().map(|actor| match &actor.waits_for {
        Some(what) => format!("{}: {}", plain(&actor.name), plain(what)),
        None => format!(
            "{} works {}",
            plain(&actor.name),
            period(actor.silent_ms / 1000)
        ),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn folded(groups: &[GroupSnapshot]) -> String {
    let words = groups.iter().map(|group| match group.restarts {
        0 => format!("{} {}", plain(&group.name), state(group)),
        failed => format!(
            "{} {} (failed {})",
            plain(&group.name),
            state(group),
            count(failed)
        ),
    });
    let line = words.collect::<Vec<_>>().join(", ");
    format!("groups: {line}")
}
