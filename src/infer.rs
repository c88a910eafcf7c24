//! `groundtrack infer`: from a sample of JSON objects to the columns that hold them.
//!
//! One column for each leaf. Its type is what all samples hold: a whole number, a number, a
//! bool, a string, a time in RFC 3339, a list of one of these; `json` where they differ, where a
//! list holds objects, lists or a mixture, and where every sample was null (`json` takes whatever
//! comes later). Beyond that:
//! - a whole number whose key names a time (`time`, `date`, `ts`, `created`, `..._at`, ...) is a
//!   time where every sample lies between 2000 and 2100 in one and the same unit;
//! - strings are numbers where every sample has a fraction (`"-8.7063"`) and at least five of them
//!   differ. Strings of digits alone stay strings: they are most often names, whose leading zeros
//!   count;
//! - a whole number beyond 64 bits makes the column `json`, which keeps all digits.
//!
//! Memory is bounded by the number of paths, which is limited, and the longest line.

mod shape;
pub mod topic;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read};

use self::shape::{Json, Shape};
use crate::config::{Column, ColumnSource, ColumnType, ScalarType, TimeUnit};
use crate::landing::decoder::type_words;
use crate::landing::layout::{EXTRA_COLUMN, KAFKA_COLUMNS};

/// What is read at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Lines, counting those that are skipped.
    pub lines: u64,
    /// Bytes of one line; a longer one is skipped.
    pub line_bytes: usize,
    /// Keys of the outermost object; what else there is stays in `_extra`.
    pub keys: usize,
}

impl Default for Limits {
    /// A million lines, which take some seconds; 16 MiB a line, more than a broker takes by
    /// default; 1000 keys, more than a table is read with.
    fn default() -> Self {
        Self {
            lines: 1_000_000,
            line_bytes: 16 << 20,
            keys: 1000,
        }
    }
}

/// So many paths are told apart for each key of the outermost object that may be, all in all.
const PATHS_PER_KEY: usize = 50;

/// Why there is no proposal.
#[derive(Debug, thiserror::Error)]
pub enum InferError {
    /// The sample could not be read.
    #[error("the sample cannot be read: {0}")]
    Io(#[from] io::Error),
    /// There was no object in it.
    #[error("the sample holds no JSON object, one on each line: {0}")]
    NoObject(String),
}

/// The columns that a sample asks for; printed as TOML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// In the order of their first appearance.
    pub columns: Vec<Proposal>,
    /// Objects that were read.
    pub samples: u64,
    /// Columns whose names would be the same, whatever their case: each has got a name of its own,
    /// and somebody should choose better ones.
    pub collisions: Vec<String>,
    /// Lines that were skipped, and where the first was and why; what else was left out.
    pub warnings: Vec<String>,
}

/// One column, and what should be known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The column.
    pub column: Column,
    /// Printed as a comment above it.
    pub note: Option<String>,
}

/// Proposes columns for a sample with one JSON object on each line. Lines that are none are
/// skipped and told in [`Inference::warnings`].
///
/// # Errors
/// When the sample cannot be read, or holds no object.
pub fn infer(mut lines: impl BufRead, limits: Limits) -> Result<Inference, InferError> {
    let mut root = Shape::default();
    let mut skipped = Skipped::default();
    let mut line = Vec::new();
    let mut room = limits.keys * PATHS_PER_KEY;
    for number in 1..=limits.lines {
        if !read_line(&mut lines, &mut line, limits.line_bytes)? {
            break;
        }
        match object(&line, limits.line_bytes) {
            Ok(Some(members)) => root.add_object(members, limits.keys, &mut room),
            Ok(None) => {}
            Err(reason) => skipped.add(number, reason),
        }
    }
    if root.objects == 0 {
        let reason = skipped.first.unwrap_or_else(|| "it is empty".to_owned());
        return Err(InferError::NoObject(reason));
    }
    let mut warnings = skipped.warnings();
    if root.overflown {
        let keys = limits.keys;
        warnings.push(format!(
            "the objects have more keys than are told apart ({keys}): others stay in {EXTRA_COLUMN}"
        ));
    }
    let mut naming = Naming::default();
    let mut columns = Vec::new();
    propose(&root, &mut Vec::new(), &mut |path, shape| {
        columns.push(naming.proposal(path, shape, root.objects));
    });
    Ok(Inference {
        columns,
        samples: root.objects,
        collisions: naming.collisions,
        warnings,
    })
}

/// Reads a line without its end into `line`, at most one byte more than `bytes_max` of it, and
/// passes the rest. Returns whether there was one.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<bool> {
    line.clear();
    let limit = bytes_max as u64 + 1;
    let read = lines.by_ref().take(limit).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == limit {
        lines.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

/// The members of the object on a line; `None`: the line is empty.
fn object(line: &[u8], bytes_max: usize) -> Result<Option<Vec<(String, Json)>>, String> {
    if line.len() > bytes_max {
        return Err(format!("it has more than {bytes_max} bytes"));
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(line) {
        Ok(Json::Object(members)) => Ok(Some(members)),
        Ok(Json::Array(_)) => {
            Err("it is an array: write each of its objects on a line of its own".to_owned())
        }
        Ok(_) => Err("it is no object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, Default)]
struct Skipped {
    lines: u64,
    first: Option<String>,
}

impl Skipped {
    fn add(&mut self, line: u64, reason: String) {
        self.lines += 1;
        self.first
            .get_or_insert_with(|| format!("line {line}: {reason}"));
    }

    fn warnings(self) -> Vec<String> {
        let lines = self.lines;
        self.first
            .map(|first| format!("{lines} lines skipped, the first is {first}"))
            .into_iter()
            .collect()
    }
}

/// Visits every leaf: what one column holds.
fn propose<'a>(
    shape: &'a Shape,
    path: &mut Vec<&'a str>,
    visit: &mut impl FnMut(&[&'a str], &'a Shape),
) {
    for (key, member) in &shape.members {
        path.push(key);
        if member.objects > 0 && member.objects == member.values && !member.members.is_empty() {
            propose(member, path, visit);
        } else {
            visit(path, member);
        }
        path.pop();
    }
}

/// The type that holds every sample, and a remark.
fn kind_of(shape: &Shape, key: &str) -> (ColumnType, Option<&'static str>) {
    let Some(items) = shape
        .items
        .as_ref()
        .filter(|_| shape.arrays == shape.values)
    else {
        return match scalar_of(shape, key) {
            Some(scalar) => (column_type(scalar), None),
            None => (ColumnType::Json, remark(shape)),
        };
    };
    // Elements are named by their array: a key such as `times` says too little of each.
    match scalar_of(items, "") {
        Some(scalar) => (ColumnType::List(scalar), None),
        None if items.values == 0 => (ColumnType::Json, Some("empty in every sample")),
        None => (ColumnType::Json, None),
    }
}

fn remark(shape: &Shape) -> Option<&'static str> {
    if shape.values == 0 {
        Some("null in every sample")
    } else if shape.overflown {
        Some("too many keys for columns")
    } else if shape.beyond > 0 {
        Some("holds whole numbers beyond 64 bits")
    } else if shape.objects == shape.values {
        Some("empty in every sample")
    } else {
        Some("its type varies")
    }
}

/// The scalar type of all values; `None`: there is none.
fn scalar_of(shape: &Shape, key: &str) -> Option<ScalarType> {
    let all = |count: u64| shape.values > 0 && count == shape.values;
    let texts = &shape.texts;
    if all(shape.bools) {
        Some(ScalarType::Bool)
    } else if all(shape.ints) {
        let unit = shape.int_range.and_then(|range| time_unit(key, range));
        Some(unit.map_or(ScalarType::Int64, ScalarType::Timestamp))
    } else if all(shape.ints + shape.floats) {
        Some(ScalarType::Float64)
    } else if all(texts.times) {
        Some(ScalarType::Timestamp(TimeUnit::Rfc3339))
    } else if all(texts.decimals) && texts.vary() {
        Some(ScalarType::Float64)
    } else if all(texts.count) {
        Some(ScalarType::String)
    } else {
        None
    }
}

fn column_type(scalar: ScalarType) -> ColumnType {
    match scalar {
        ScalarType::String => ColumnType::String,
        ScalarType::Bool => ColumnType::Bool,
        ScalarType::Int64 => ColumnType::Int64,
        ScalarType::Float64 => ColumnType::Float64,
        ScalarType::Timestamp(unit) => ColumnType::Timestamp(unit),
        ScalarType::Json => ColumnType::Json,
    }
}

/// The unit in which all of these are times between 2000 and 2100, if the key names a time.
fn time_unit(key: &str, (low, high): (i64, i64)) -> Option<TimeUnit> {
    const NAMES: [&str; 8] = [
        "time",
        "timestamp",
        "ts",
        "date",
        "datetime",
        "created",
        "updated",
        "modified",
    ];
    const ENDINGS: [&str; 7] = [
        "_time",
        "_timestamp",
        "_ts",
        "_at",
        "_date",
        "time",
        "timestamp",
    ];
    /// 2000-01-01 and 2100-01-01.
    const SECONDS: (i64, i64) = (946_684_800, 4_102_444_800);
    let name = key.to_lowercase();
    // `runtime` and `lifetime` end so as well; their values are no times of this century.
    let named = NAMES.contains(&name.as_str())
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || key.ends_with("At");
    let units = [
        (TimeUnit::S, 1),
        (TimeUnit::Ms, 1000),
        (TimeUnit::Us, 1_000_000),
    ];
    let fits = |scale: i64| low >= SECONDS.0 * scale && high < SECONDS.1 * scale;
    units
        .into_iter()
        .find(|(_, scale)| named && fits(*scale))
        .map(|(unit, _)| unit)
}

/// Gives each column a name of its own.
#[derive(Debug, Default)]
struct Naming {
    /// By name in lower case: the path that has it.
    taken: HashMap<String, String>,
    collisions: Vec<String>,
}

impl Naming {
    fn proposal(&mut self, path: &[&str], shape: &Shape, samples: u64) -> Proposal {
        let (kind, note) = kind_of(shape, path.last().unwrap_or(&""));
        Proposal {
            column: Column {
                name: self.name(path),
                source: ColumnSource::Path(path.iter().map(|key| (*key).to_owned()).collect()),
                kind,
                nullable: shape.values < samples,
            },
            note: note.map(str::to_owned),
        }
    }

    fn name(&mut self, path: &[&str]) -> String {
        /// Names of the columns that every file ends with, and of the folders.
        const FOLDERS: [&str; 2] = ["date", "hour"];
        let mut name = column_name(path);
        let mut reserved = KAFKA_COLUMNS.iter().chain([&EXTRA_COLUMN]).chain(&FOLDERS);
        if reserved.any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            name = format!("value_{}", name.trim_start_matches('_'));
        }
        let written = path_words(path);
        if let Some(other) = self.taken.get(&name.to_lowercase()) {
            let base = name.clone();
            let free = |name: &String| !self.taken.contains_key(&name.to_lowercase());
            let numbered = (2u64..).map(|number| format!("{base}_{number}"));
            name = numbered.into_iter().find(free).unwrap_or_default();
            self.collisions.push(format!(
                "{other} and {written} would both be named {base}: the second is named {name}"
            ));
        }
        self.taken.insert(name.to_lowercase(), written);
        name
    }
}

/// The keys joined by `_`, of letters, digits and `_` alone, which need no quotes in any SQL.
fn column_name(path: &[&str]) -> String {
    let joined = path.join("_");
    let clean = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name: String = joined.chars().map(clean).collect();
    match name.chars().find(|c| *c != '_') {
        None => format!("column{name}"),
        Some(_) if name.starts_with(|c: char| c.is_numeric()) => format!("_{name}"),
        Some(_) => name,
    }
}

/// A path as the configuration writes it: dotted, with quotes where a key needs them.
fn path_words(path: &[&str]) -> String {
    let keys = path.iter().map(|key| {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '@' | '$' | ':');
        if !key.is_empty() && key.chars().all(plain) {
            (*key).to_owned()
        } else if !key.contains(['\'']) && !key.chars().any(char::is_control) {
            format!("'{key}'")
        } else {
            quoted(key)
        }
    });
    keys.collect::<Vec<_>>().join(".")
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

impl fmt::Display for Inference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "# Proposed from {} samples.", self.samples)?;
        for collision in &self.collisions {
            writeln!(formatter, "# {}", collision.replace(char::is_control, " "))?;
        }
        for Proposal { column, note } in &self.columns {
            writeln!(formatter)?;
            if let Some(note) = note {
                writeln!(formatter, "# {note}")?;
            }
            writeln!(formatter, "[[table.columns]]")?;
            writeln!(formatter, "name = {}", quoted(&column.name))?;
            if let ColumnSource::Path(path) = &column.source {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                writeln!(formatter, "path = {}", quoted(&path_words(&path)))?;
            }
            writeln!(formatter, "type = {}", quoted(type_words(column.kind)))?;
            writeln!(formatter, "nullable = {}", column.nullable)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
