//! How findings and their summary are told: lines for people, or one JSON document, both written
//! as they come; and a progress bar on a terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::finding::{Finding, Kind, Weight, one_line};
use super::{Output, PartitionSummary, Progress, Summary};

/// The bar is drawn as often: faster than that nobody reads.
const REDRAW: Duration = Duration::from_millis(100);
/// Of the bar, in characters.
const BAR_WIDTH: usize = 30;

/// A progress bar on stderr, where that is a terminal.
#[derive(Debug)]
pub struct Bar {
    is_terminal: bool,
    drawn: Option<Instant>,
}

impl Bar {
    /// On stderr.
    pub fn on_stderr() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
            drawn: None,
        }
    }

    fn draw(&mut self, progress: Progress) {
        let is_soon = self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW);
        if self.is_terminal && !is_soon {
            // Nobody is left to look at it where it cannot be written.
            let _ = write!(io::stderr(), "\r\x1b[K{}", bar_text(progress));
            self.drawn = Some(Instant::now());
        }
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn bar_text(progress: Progress) -> String {
    let Progress { done, listed } = progress;
    if done == 0 {
        return format!("{listed} objects listed");
    }
    let filled = (done.min(listed) as f64 / listed.max(1) as f64 * BAR_WIDTH as f64) as usize;
    format!(
        "[{}{}] {done} of {listed} objects",
        "#".repeat(filled),
        "-".repeat(BAR_WIDTH - filled)
    )
}

/// Lines for people.
#[derive(Debug)]
pub struct TextReport<W> {
    out: W,
    bar: Bar,
}

impl<W: Write> TextReport<W> {
    /// To `out`.
    pub fn new(out: W, bar: Bar) -> Self {
        Self { out, bar }
    }

    /// The last lines.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        self.bar.clear();
        write!(self.out, "{summary}")?;
        self.out.flush()
    }
}

impl<W: Write> Output for TextReport<W> {
    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.bar.clear();
        writeln!(self.out, "{finding}")?;
        self.out.flush()
    }

    fn progress(&mut self, progress: Progress) {
        self.bar.draw(progress);
    }
}

/// One document: `findings` first, as they come, then all of [`Summary`].
#[derive(Debug)]
pub struct JsonReport<W> {
    out: W,
    bar: Bar,
    is_begun: bool,
}

impl<W: Write> JsonReport<W> {
    /// To `out`.
    pub fn new(out: W, bar: Bar) -> Self {
        Self {
            out,
            bar,
            is_begun: false,
        }
    }

    /// The rest of the document.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        self.bar.clear();
        self.begin()?;
        let rest = serde_json::to_string_pretty(&summary.to_json())?;
        let rest = rest.trim_start_matches('{').trim_start();
        writeln!(self.out, "\n  ],\n  {rest}")?;
        self.out.flush()
    }

    /// Whether this began it.
    fn begin(&mut self) -> io::Result<bool> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Ok(false);
        }
        write!(self.out, "{{\n  \"findings\": [")?;
        Ok(true)
    }
}

impl<W: Write> Output for JsonReport<W> {
    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.bar.clear();
        let comma = if self.begin()? { "" } else { "," };
        write!(self.out, "{comma}\n    {}", finding.to_json())
    }

    fn progress(&mut self, progress: Progress) {
        self.bar.draw(progress);
    }
}

/// The word for a verdict.
fn verdict(weight: Weight) -> &'static str {
    match weight {
        Weight::Told => "proven",
        Weight::Unread => "not proven",
        Weight::Disproves => "disproved",
    }
}

impl Summary {
    /// `verdict` (`proven`, `not proven`, `disproved`), what was looked at, `found` by kind, and
    /// `partitions`.
    pub fn to_json(&self) -> Value {
        let found: serde_json::Map<String, Value> = Kind::ALL
            .iter()
            .map(|kind| {
                let count = self.found.get(kind).copied().unwrap_or(0);
                (kind.as_str().to_owned(), json!(count))
            })
            .collect();
        json!({
            "verdict": verdict(self.weight()),
            "location": self.location,
            "group": self.group,
            "topic": self.topic,
            "compared_with_topic": self.with_topic,
            "since": self.since_ms.map(time),
            "folders": self.folders,
            "objects": self.objects,
            "requests": self.requests,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "found": found,
            "partitions": self.partitions.iter().map(PartitionSummary::to_json).collect::<Vec<_>>(),
        })
    }
}

impl PartitionSummary {
    fn to_json(&self) -> Value {
        let totals = &self.totals;
        json!({
            "partition": self.partition,
            "verdict": verdict(totals.weight()),
            "first_offset": self.range.map(|range| range.0),
            "next_offset": self.range.map(|range| range.1),
            "in_flight_to": self.in_flight_to,
            "batches": totals.batches,
            "files": totals.files,
            "files_in_flight": totals.files_in_flight,
            "rows": totals.rows,
            "dead_letters": totals.dead_letters,
            "lost": totals.lost,
            "holes": totals.holes,
            "compared": totals.compared,
        })
    }
}

fn time(time_ms: i64) -> String {
    crate::landing::protocol::Now::at(time_ms).text
}

impl fmt::Display for PartitionSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = &self.totals;
        write!(
            formatter,
            "partition {}: {}",
            self.partition,
            verdict(totals.weight())
        )?;
        if let Some((from, to)) = self.range {
            write!(formatter, " [{from}, {to})")?;
        }
        write!(
            formatter,
            ": {} batches, {} files, {} rows, {} dead letters, {} lost, {} holes",
            totals.batches,
            totals.files,
            totals.rows,
            totals.dead_letters,
            totals.lost,
            totals.holes
        )?;
        if totals.compared > 0 {
            write!(
                formatter,
                "; {} records of the topic compared",
                totals.compared
            )?;
        }
        if let Some(to) = self.in_flight_to {
            write!(
                formatter,
                "; in flight up to {to}: {} files",
                totals.files_in_flight
            )?;
        }
        writeln!(formatter)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for partition in &self.partitions {
            write!(formatter, "{partition}")?;
        }
        let place = format!("{} by {} in {}", self.topic, self.group, self.location);
        let place = one_line(&place);
        let (objects, requests) = (self.objects, self.requests);
        let took = self.took.as_secs_f64();
        let looked = format!("{objects} objects, {requests} requests, {took:.1} s");
        let count = |weight: Weight| -> u64 {
            let of_weight = self
                .found
                .iter()
                .filter(|(kind, _)| kind.weight() == weight);
            of_weight.map(|(_, count)| count).sum()
        };
        match self.weight() {
            Weight::Disproves => writeln!(
                formatter,
                "DISPROVED: {place}: {} findings ({looked})",
                count(Weight::Disproves)
            ),
            Weight::Unread => writeln!(
                formatter,
                "NOT PROVEN: {place}: {} things could not be read; nothing else is wrong ({looked})",
                count(Weight::Unread)
            ),
            Weight::Told => {
                let unproven = self.found.get(&Kind::Unproven).copied().unwrap_or(0);
                let except = match (unproven, self.since_ms) {
                    (1.., Some(since_ms)) => format!(
                        " except what may have been removed before {}, as listed above ({unproven} times)",
                        time(since_ms)
                    ),
                    _ => String::new(),
                };
                writeln!(formatter, "proven{except}: {place} ({looked})")
            }
        }
    }
}
