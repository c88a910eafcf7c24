//! What is written, as a tree in which every value knows where it stands: the file, and laid over
//! it the environment and `--set`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::{Mistake, Origin};
use super::{Inputs, overrides, secrets};

/// The table whose keys hold dots, because librdkafka's names do.
pub(super) const OPTIONS: [&str; 2] = ["kafka", "options"];

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
    /// As it was written.
    pub(super) shown: String,
    /// Of an override: the whole text, which is the value where its reading as TOML does not fit.
    pub(super) text: Option<String>,
}

/// A value, its parts with places of their own.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Neither table nor list. Times are texts.
    Scalar(toml::Value),
    /// A list.
    Array(Vec<Node>),
    /// A table.
    Table(Table),
}

/// Keys and their values.
pub(super) type Table = BTreeMap<String, Node>;

impl Node {
    /// The value without its places, as serde reads it.
    pub(super) fn plain(&self) -> toml::Value {
        match &self.value {
            Value::Scalar(value) => value.clone(),
            Value::Array(items) => toml::Value::Array(items.iter().map(Self::plain).collect()),
            Value::Table(table) => toml::Value::Table(
                table
                    .iter()
                    .map(|(key, node)| (key.clone(), node.plain()))
                    .collect(),
            ),
        }
    }
}

/// Lays all sources over each other, weakest first. What TOML's grammar refuses is among the
/// mistakes; the rest of the file is still read.
pub(super) fn build(inputs: &Inputs<'_>) -> (Table, Vec<Mistake>) {
    let file = File {
        name: inputs.file_name.into(),
        text: inputs.text,
    };
    let (mut root, mut mistakes) = file.read();
    flatten_options(&mut root, &mut mistakes);
    mistakes.extend(overrides::lay_over(
        &mut root,
        inputs.environment,
        inputs.sets,
    ));
    (root, mistakes)
}

struct File<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl File<'_> {
    fn read(&self) -> (Table, Vec<Mistake>) {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        let mut root = self.table(document.get_ref());
        let mut refused: BTreeMap<usize, Mistake> = BTreeMap::new();
        for error in errors {
            let start = error.span().map_or(self.text.len(), |span| span.start);
            let line = line_of(self.text.as_bytes(), start);
            refused
                .entry(line)
                .or_insert_with(|| self.grammar(line, error.message()));
        }
        // What was recovered from such a line is a guess: no second mistake is made of it.
        let homeless = self.homeless(&refused);
        forget_lines(&mut root, &|line| {
            refused.contains_key(&line) || homeless.contains(&line)
        });
        let mistakes = refused
            .into_iter()
            .filter(|(line, _)| !homeless.contains(line))
            .map(|(_, mistake)| mistake)
            .collect();
        (root, mistakes)
    }

    /// The lines between a table's header that could not be read and the next: they were put into
    /// the table before, where they may be unknown or there already.
    fn homeless(&self, refused: &BTreeMap<usize, Mistake>) -> BTreeSet<usize> {
        let mut lost = false;
        let mut homeless = BTreeSet::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            if line.trim_start().starts_with('[') {
                lost = refused.contains_key(&number);
            } else if lost {
                homeless.insert(number);
            }
        }
        homeless
    }

    /// A mistake against TOML's grammar, with the key of its line where that is plainly one.
    fn grammar(&self, line: usize, message: &str) -> Mistake {
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let plain = |key: &str| {
            !key.is_empty()
                && key
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.\"'".contains(c))
        };
        // The last line of a key in base64 may end in `=`: never show what is before that, unless
        // it is a word that no base64 is likely to be.
        let word = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let pair = text
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, value)| {
                plain(key) && !value.starts_with('=') && (!value.is_empty() || word(key))
            });
        Mistake {
            origin: self.origin(line),
            key: pair.map(|(key, _)| key.to_owned()).unwrap_or_default(),
            value: pair
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| secrets::presentable(key, value)),
            right: format!("must be TOML: {message}"),
        }
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File {
            name: self.name.clone(),
            line,
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                (
                    key.get_ref().to_string(),
                    self.node(value, key.span().start),
                )
            })
            .collect()
    }

    fn node(&self, value: &Spanned<DeValue<'_>>, start: usize) -> Node {
        Node {
            origin: self.origin(line_of(self.text.as_bytes(), start)),
            value: match value.get_ref() {
                DeValue::Array(items) => Value::Array(
                    items
                        .iter()
                        .map(|item| self.node(item, item.span().start))
                        .collect(),
                ),
                DeValue::Table(table) => Value::Table(self.table(table)),
                scalar => Value::Scalar(plain_scalar(scalar)),
            },
            shown: slice(self.text, value.span()),
            text: None,
        }
    }
}

/// A number too large for its type becomes one that no key takes.
pub(super) fn plain_scalar(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(toml::Value::Float(f64::NAN), toml::Value::Integer),
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(yes) => toml::Value::Boolean(*yes),
        DeValue::Datetime(time) => toml::Value::String(time.to_string()),
        // Both are taken apart by the caller.
        DeValue::Array(_) => toml::Value::Array(Vec::new()),
        DeValue::Table(_) => toml::Value::Table(toml::Table::new()),
    }
}

fn slice(text: &str, span: Range<usize>) -> String {
    text.get(span).unwrap_or_default().to_owned()
}

/// The number of the line, from 1, in which this byte is.
pub(super) fn line_of(text: &[u8], position: usize) -> usize {
    let before = &text[..position.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

fn forget_lines(table: &mut Table, forgotten: &impl Fn(usize) -> bool) {
    table.retain(|_, node| {
        if let Value::Table(inner) = &mut node.value {
            forget_lines(inner, forgotten);
            if !inner.is_empty() {
                return true;
            }
        }
        if let Value::Array(items) = &mut node.value {
            for item in items {
                if let Value::Table(inner) = &mut item.value {
                    forget_lines(inner, forgotten);
                }
            }
        }
        !matches!(&node.origin, Origin::File { line, .. } if forgotten(*line))
    });
}

/// `security.protocol = "ssl"` without quotes is a table in TOML; nobody means one.
fn flatten_options(root: &mut Table, mistakes: &mut Vec<Mistake>) {
    let Some(Value::Table(kafka)) = root.get_mut(OPTIONS[0]).map(|node| &mut node.value) else {
        return;
    };
    let Some(Value::Table(options)) = kafka.get_mut(OPTIONS[1]).map(|node| &mut node.value) else {
        return;
    };
    let mut flat = Table::new();
    let mut waiting: Vec<(String, Node)> = std::mem::take(options).into_iter().collect();
    while let Some((name, node)) = waiting.pop() {
        match node.value {
            Value::Table(inner) => waiting.extend(
                inner
                    .into_iter()
                    .map(|(key, node)| (format!("{name}.{key}"), node)),
            ),
            _ => {
                if let Some(twice) = flat.insert(name.clone(), node) {
                    mistakes.push(Mistake {
                        origin: twice.origin,
                        key: format!("{}.{name}", OPTIONS.join(".")),
                        value: Some(secrets::presentable(&name, &twice.shown)),
                        right: "must be given once: it stands here with and without quotes"
                            .to_owned(),
                    });
                }
            }
        }
    }
    *options = flat;
}
