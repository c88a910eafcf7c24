//! What was found and done, for people: a table of the partitions, and what else should be known.

use std::collections::BTreeMap;
use std::fmt;

use super::from_files::Rebuilt;
use super::spark::job::{Folders, Job};
use super::takeover::{Fate, Plan, Row};
use crate::landing::protocol::keys::Names;

/// A table, notes below it, and why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    heading: Vec<(&'static str, String)>,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    /// Why no checkpoint was made, or why what was made must not be used: each with how to go on.
    pub refusals: Vec<String>,
}

impl Report {
    /// Of a takeover.
    pub fn of_takeover(
        folders: &Folders,
        job: Job,
        plan: Plan,
        names: &Names,
        dry_run: bool,
        made: usize,
    ) -> Self {
        let heading = vec![
            ("job", format!("{} in {}", job.id, folders.checkpoint.0)),
            ("sink", folders.sink.0.to_string()),
            ("landed", last_batch(&job)),
            ("topic", names.topic.clone()),
            ("group", names.group.clone()),
        ];
        let rows = plan.rows.iter().map(|row| {
            let number =
                |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
            vec![
                row.partition.to_string(),
                number(row.offset),
                row.low.to_string(),
                row.high.to_string(),
                (row.high - row.offset.unwrap_or(row.low).max(row.low))
                    .max(0)
                    .to_string(),
                fate(row, dry_run || made == 0),
            ]
        });
        Self {
            heading,
            columns: vec![
                "partition",
                "offset",
                "log start",
                "log end",
                "to land",
                "checkpoint",
            ],
            rows: rows.collect(),
            notes: takeover_notes(&job, &plan, names, dry_run, made),
            refusals: plan.refusals,
        }
    }

    /// Of a rebuilding.
    pub fn of_rebuilding(
        rows: BTreeMap<i32, Rebuilt>,
        others: u64,
        names: &Names,
        dry_run: bool,
        refusals: Vec<String>,
    ) -> Self {
        let made = rows
            .values()
            .filter(|row| matches!(row, Rebuilt::Made(..)))
            .count();
        let mut notes = Vec::new();
        if others > 0 {
            notes.push(format!(
                "{others} other objects are in the folders, not named like those of topic {}: not looked at",
                names.topic
            ));
        }
        if made > 0 {
            notes.push(
                "a partition without files is not in the table: it starts as its first claim says, \
                 and where kafka.start is latest at its log's start, since the time of the group's \
                 beginning is lost. If the group took over from a Spark job, adopt that job again \
                 before the service starts: it makes the checkpoints that are missing."
                    .to_owned(),
            );
            notes.push(
                "the hash of the last record cannot be told from the files: it is compared again \
                 once the next batch has landed."
                    .to_owned(),
            );
        }
        if refusals.is_empty() {
            notes.push(ending(made, dry_run));
        }
        Self {
            heading: vec![
                ("topic", names.topic.clone()),
                ("group", names.group.clone()),
            ],
            columns: vec![
                "partition",
                "files",
                "first offset",
                "next offset",
                "pending to",
                "checkpoint",
            ],
            rows: rows
                .iter()
                .map(|(partition, row)| rebuilt(*partition, row, dry_run || !refusals.is_empty()))
                .collect(),
            notes,
            refusals,
        }
    }
}

fn last_batch(job: &Job) -> String {
    let unlanded = match job.unlanded {
        Some(batch) => format!("; batch {batch} was planned and did not land"),
        None => String::new(),
    };
    match (job.landed, job.is_committed) {
        (None, _) => format!("nothing{unlanded}"),
        (Some(batch), true) => format!("up to batch {batch}{unlanded}"),
        (Some(batch), false) => {
            format!("up to batch {batch}, which is in the sink's log but has no commit{unlanded}")
        }
    }
}

fn fate(row: &Row, only_planned: bool) -> String {
    match row.fate {
        Fate::Made if only_planned => "to be made".to_owned(),
        Fate::Made => "made".to_owned(),
        Fate::There => "there already".to_owned(),
        Fate::Unread => "at the log's start: the job did not read this partition".to_owned(),
        Fate::New => "none: unknown to the job, the first run starts at the log's start".to_owned(),
    }
}

fn takeover_notes(
    job: &Job,
    plan: &Plan,
    names: &Names,
    dry_run: bool,
    made: usize,
) -> Vec<String> {
    let mut notes = Vec::new();
    if !job.other_topics.is_empty() {
        notes.push(format!(
            "the job reads {} too, which this configuration does not: adopt each with a \
             configuration of its own",
            job.other_topics.join(", ")
        ));
    }
    if !job.log_gaps.is_empty() {
        notes.push(format!(
            "the sink's log lacks {} of its batches, from {} on: Spark's readers fail on it; files \
             of those batches are among the ones below",
            job.log_gaps.len(),
            job.log_gaps[0]
        ));
    }
    if job.missing > 0 {
        notes.push(format!(
            "{} files that the sink's log lists are not in the sink",
            job.missing
        ));
    }
    if !job.unlisted.is_empty() {
        notes.push(format!(
            "{} files in the sink are not in its log: what the job wrote and did not commit. \
             groundtrack lands their records again; readers that heed the log pass them over, \
             others have to. They are left where they are:",
            job.unlisted_count
        ));
        let named = job.unlisted.iter();
        notes.extend(named.map(|(key, bytes)| format!("  {key} ({bytes} bytes)")));
        let more = job.unlisted_count - job.unlisted.len();
        if more > 0 {
            notes.push(format!("  and {more} more"));
        }
    }
    for row in plan.rows.iter().filter(|row| row.fate == Fate::Made) {
        if row.offset.is_some_and(|offset| offset < row.low) && plan.refusals.is_empty() {
            notes.push(format!(
                "partition {}: what kafka has lost is passed by [[skip]] and recorded by the first run",
                row.partition
            ));
        }
    }
    if plan.refusals.is_empty() {
        notes.push(ending(
            if dry_run { plan.make.len() } else { made },
            dry_run,
        ));
        notes.push(format!(
            "do not start the job again: its records land as group {} from here on.",
            names.group
        ));
    }
    notes
}

fn ending(count: usize, dry_run: bool) -> String {
    match (count, dry_run) {
        (0, _) => "no checkpoint is missing.".to_owned(),
        (count, true) => format!("{count} checkpoints would be made; nothing was written."),
        (count, false) => format!("{count} checkpoints were made."),
    }
}

fn rebuilt(partition: i32, row: &Rebuilt, only_planned: bool) -> Vec<String> {
    let none = || "-".to_owned();
    let (files, checkpoint, fate) = match row {
        Rebuilt::There(found) => (
            none(),
            found.as_ref(),
            match found {
                Some(_) => "there, left alone",
                None => "there, but cannot be read: left alone",
            },
        ),
        Rebuilt::Made(made, files) => (
            files.to_string(),
            Some(made),
            if only_planned { "to be made" } else { "made" },
        ),
        Rebuilt::Refused => (none(), None, "refused"),
    };
    let number = |value: Option<i64>| value.map_or_else(none, |value| value.to_string());
    vec![
        partition.to_string(),
        files,
        number(checkpoint.map(|checkpoint| checkpoint.first_offset)),
        number(checkpoint.map(|checkpoint| checkpoint.next_offset)),
        number(checkpoint.and_then(|checkpoint| Some(checkpoint.pending.as_ref()?.end))),
        fate.to_owned(),
    ]
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.heading {
            writeln!(out, "{name:<8}{value}")?;
        }
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].len());
            cells.chain([self.columns[column].len()]).max().unwrap_or(0)
        };
        let header = self.columns.iter().map(ToString::to_string).collect();
        writeln!(out)?;
        for row in [header].iter().chain(&self.rows) {
            let last = row.len() - 1;
            for (column, cell) in row.iter().enumerate() {
                // Numbers to the right, words as they come.
                match column == last {
                    false => write!(out, "{cell:>width$}  ", width = width(column))?,
                    true => writeln!(out, "{cell}")?,
                }
            }
        }
        if !self.notes.is_empty() {
            writeln!(out)?;
        }
        for note in &self.notes {
            writeln!(out, "{}", note.replace(char::is_control, " "))?;
        }
        Ok(())
    }
}
