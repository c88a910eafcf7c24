//! The environment and `--set`, laid over what the file holds.

use toml::Spanned;
use toml::de::DeValue;

use super::mistakes::{Mistake, Origin};
use super::secrets;
use super::tree::{Node, OPTIONS, Table, Value, plain_scalar};

/// What the environment variables that count begin with.
pub(super) const ENVIRONMENT_PREFIX: &str = "GROUNDTRACK_";

/// Lays them over the file, in this order.
pub(super) fn lay_over(
    root: &mut Table,
    environment: &[(String, String)],
    sets: &[String],
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut environment: Vec<_> = environment.iter().collect();
    environment.sort();
    for (name, text) in environment {
        if let Some(keys) = variable_keys(name) {
            let origin = Origin::Environment(name.clone());
            mistakes.extend(overlay(root, &keys, override_node(origin, text)));
        }
    }
    for (position, set) in sets.iter().enumerate() {
        let origin = Origin::Set(position);
        match split_key(set) {
            Some((keys, rest)) if rest.starts_with('=') => {
                let node = override_node(origin, rest[1..].trim());
                mistakes.extend(overlay(root, &joined_option(keys), node));
            }
            // The text may hold a password behind whatever stands for the key.
            _ => mistakes.push(Mistake {
                origin,
                key: String::new(),
                value: None,
                right: "must be written section.key=value".to_owned(),
            }),
        }
    }
    mistakes
}

/// The keys that a variable's name stands for; `None`: not one of ours.
fn variable_keys(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    let parts: Vec<&str> = rest.split("__").collect();
    if parts.len() < 2 {
        return None;
    }
    let mut keys: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
    if keys.len() > 2 && keys[..2] == OPTIONS {
        let option = parts[2..].join("__");
        keys.truncate(2);
        keys.push(option_of_variable(&option));
    }
    Some(keys)
}

/// Shells and systemd allow no dots in a variable's name, and most properties have some: without
/// one, `SECURITY_PROTOCOL` is `security.protocol`.
fn option_of_variable(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if name.contains('.') {
        name.to_owned()
    } else if lower == "log_level" {
        lower
    } else {
        lower.replace('_', ".")
    }
}

/// `kafka.options.security.protocol` names one property.
fn joined_option(mut keys: Vec<String>) -> Vec<String> {
    if keys.len() > 3 && keys[..2] == OPTIONS {
        let name = keys[2..].join(".");
        keys.truncate(2);
        keys.push(name);
    }
    keys
}

/// The value is read as TOML, and as plain text where it is not.
fn override_node(origin: Origin, text: &str) -> Node {
    let parsed = DeValue::parse(text).ok();
    let value = match &parsed {
        Some(value) => with_origin(value, &origin),
        None => Value::Scalar(toml::Value::String(text.to_owned())),
    };
    Node {
        origin,
        value,
        shown: text.to_owned(),
        text: Some(text.to_owned()),
    }
}

fn with_origin(value: &Spanned<DeValue<'_>>, origin: &Origin) -> Value {
    let node = |value: &Spanned<DeValue<'_>>| {
        let inner = with_origin(value, origin);
        let mut node = Node {
            origin: origin.clone(),
            value: inner,
            shown: String::new(),
            text: None,
        };
        node.shown = node.plain().to_string();
        node
    };
    match value.get_ref() {
        DeValue::Array(items) => Value::Array(items.iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), node(value)))
                .collect(),
        ),
        scalar => Value::Scalar(plain_scalar(scalar)),
    }
}

/// Puts an override in its place. A table laid over one adds to it; all else replaces.
fn overlay(table: &mut Table, keys: &[String], node: Node) -> Option<Mistake> {
    let (key, rest) = keys.split_first()?;
    if rest.is_empty() {
        match (table.get_mut(key).map(|old| &mut old.value), node.value) {
            (Some(Value::Table(old)), Value::Table(new)) => {
                return new
                    .into_iter()
                    .find_map(|(key, node)| overlay(old, &[key], node));
            }
            (_, value) => table.insert(key.clone(), Node { value, ..node }),
        };
        return None;
    }
    let origin = node.origin.clone();
    let inner = table.entry(key.clone()).or_insert_with(|| Node {
        origin: origin.clone(),
        value: Value::Table(Table::new()),
        shown: String::new(),
        text: None,
    });
    match &mut inner.value {
        Value::Table(inner) => overlay(inner, rest, node),
        _ => Some(Mistake {
            origin,
            key: keys.join("."),
            value: Some(secrets::presentable(&keys.join("."), &node.shown)),
            right: format!("must name a key of a table: {key} is none, so set it as a whole"),
        }),
    }
}

/// Takes the dotted key off the front of a text: its parts, and what follows (empty, or from `=`
/// on). Parts may be quoted as in TOML; bare ones may hold anything but dots, quotes and `=`.
/// `None`: no such key.
pub(super) fn split_key(text: &str) -> Option<(Vec<String>, &str)> {
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let end = match rest.chars().next()? {
            quote @ ('"' | '\'') => quoted_end(rest, quote)?,
            _ => rest.find(['.', '=', '"', '\'']).unwrap_or(rest.len()),
        };
        let (part, after) = rest.split_at(end);
        keys.push(key_part(part)?);
        rest = after.trim_start();
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None if rest.is_empty() || rest.starts_with('=') => return Some((keys, rest)),
            None => return None,
        }
    }
}

fn key_part(part: &str) -> Option<String> {
    if part.starts_with(['"', '\'']) {
        return match DeValue::parse(part).ok()?.get_ref() {
            DeValue::String(key) => Some(key.to_string()),
            _ => None,
        };
    }
    let part = part.trim();
    (!part.is_empty()).then(|| part.to_owned())
}

/// Where a quoted text at the front ends, its quotes included.
fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (position, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if character == quote => return Some(position + 1),
            _ => {}
        }
    }
    None
}
