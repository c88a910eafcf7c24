//! What a check found, as lines for people and as one JSON document.

use std::io::IsTerminal;

use serde_json::{Value, json};

use super::{Cost, Finding, Item};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the data.
    pub items: Vec<Item>,
    /// `None`: the configuration is not valid.
    pub cost: Option<Cost>,
}

/// How the lines for people are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// Columns of the terminal; `None`: no terminal, one line an item.
    pub width: Option<usize>,
    /// Whether marks have colours.
    pub has_colour: bool,
}

impl Layout {
    /// For what standard output is. `NO_COLOR` turns colours off.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self::default();
        }
        let columns = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_col);
        Self {
            // A terminal that does not know its size is taken for an old one.
            width: Some(if columns == 0 { 80 } else { columns.into() }),
            has_colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// Where the text begins, behind mark and name.
const INDENT: usize = 20;

/// Where it begins in a terminal that is too narrow for that.
const INDENT_NARROW: usize = 6;

/// Below this many columns the text would be squeezed.
const WIDTH_MIN: usize = 64;

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.items.iter().all(|item| item.finding.is_well())
    }

    /// One document: `ok`, `items` (`item`, `ok`, `level`: `ok`, `note` or `fail`, `answer`, `mend`
    /// and `command` or null, `took_ms`) and `cost` (or null).
    pub fn to_json(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(item_json).collect();
        let cost = self.cost.as_ref().map(Cost::to_json);
        json!({ "ok": self.is_well(), "items": items, "cost": cost })
    }

    /// The lines for people.
    pub fn laid_out(&self, layout: Layout) -> String {
        let mut text = String::new();
        for item in &self.items {
            lay_out(&mut text, item, layout);
        }
        if let Some(cost) = &self.cost {
            cost.lay_out(&mut text, layout);
        }
        text.push_str(&self.summary());
        text
    }

    fn summary(&self) -> String {
        let count = |wanted: fn(&Finding) -> bool| {
            let found = self.items.iter().filter(|item| wanted(&item.finding));
            found.count()
        };
        let wrong = count(|finding| matches!(finding, Finding::Wrong(_)));
        let noted = count(|finding| matches!(finding, Finding::Noted(_)));
        let noted = match noted {
            0 => String::new(),
            1 => "; 1 is worth knowing".to_owned(),
            count => format!("; {count} are worth knowing"),
        };
        match wrong {
            0 => format!("all well: groundtrack can run{noted}\n"),
            1 => format!("1 of {} is not well{noted}\n", self.items.len()),
            wrong => format!("{wrong} of {} are not well{noted}\n", self.items.len()),
        }
    }
}

/// The word of a finding in the document.
fn level(finding: &Finding) -> &'static str {
    match finding {
        Finding::Well(_) => "ok",
        Finding::Noted(_) => "note",
        Finding::Wrong(_) => "fail",
    }
}

fn item_json(item: &Item) -> Value {
    let problem = item.finding.problem();
    let answer = match &item.finding {
        Finding::Well(answer) => answer,
        Finding::Noted(problem) | Finding::Wrong(problem) => &problem.answer,
    };
    json!({
        "item": item.name,
        "ok": item.finding.is_well(),
        "level": level(&item.finding),
        "answer": answer,
        "mend": problem.map(|problem| &problem.mend),
        "command": problem.and_then(|problem| problem.command.as_ref()),
        "took_ms": u64::try_from(item.took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// What was quoted cannot end its line, nor move the cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn lay_out(out: &mut String, item: &Item, layout: Layout) {
    let took_ms = item.took.as_millis();
    let (answer, problem) = match &item.finding {
        Finding::Well(answer) => (answer, None),
        Finding::Noted(problem) | Finding::Wrong(problem) => (&problem.answer, Some(problem)),
    };
    let answer = format!("{} ({took_ms} ms)", one_line(answer));
    let mark = mark(&item.finding, layout);
    let Some(width) = layout.width else {
        let mend = problem.map_or_else(String::new, |problem| {
            format!("; to mend: {}", one_line(&problem.mend_in_full()))
        });
        out.push_str(&format!("{mark} {:13} {answer}{mend}\n", item.name));
        return;
    };
    begin(out, &mark, item.name, &answer, width);
    if let Some(problem) = problem {
        begin(out, "     ", "to mend:", &one_line(&problem.mend), width);
        if let Some(command) = &problem.command {
            // Not wrapped by us: so it can be copied.
            let indent = indent(width);
            out.push_str(&format!("{:indent$}{}\n", "", one_line(command)));
        }
    }
}

/// A mark and a name, and behind or below them the text, wrapped.
fn begin(out: &mut String, mark: &str, name: &str, text: &str, width: usize) {
    let indent = indent(width);
    out.push_str(&match indent {
        INDENT => format!("{mark} {name:13} "),
        _ => format!("{mark} {name}\n{:indent$}", ""),
    });
    wrap(out, text, indent, width);
}

fn indent(width: usize) -> usize {
    if width < WIDTH_MIN {
        INDENT_NARROW
    } else {
        INDENT
    }
}

/// The text from a column on; a word longer than a line has a line of its own.
fn wrap(out: &mut String, text: &str, indent: usize, width: usize) {
    let mut column = indent;
    for (at, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if at > 0 && column + 1 + length > width {
            out.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else if at > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
}

/// Five columns.
fn mark(finding: &Finding, layout: Layout) -> String {
    let (word, colour) = match finding {
        Finding::Well(_) => ("ok   ", 32),
        Finding::Noted(_) => ("note ", 33),
        Finding::Wrong(_) => ("FAIL ", 31),
    };
    match layout.has_colour {
        true => format!("\u{1b}[{colour}m{word}\u{1b}[0m"),
        false => word.to_owned(),
    }
}

impl Cost {
    fn lay_out(&self, out: &mut String, layout: Layout) {
        let (first, assumes) = (self.in_words(), &self.assumes);
        match layout.width {
            None => {
                out.push_str(&format!("cost  {:13} {first}\n", "rotation"));
                for assumption in assumes {
                    out.push_str(&format!("{:INDENT$}- {assumption}\n", ""));
                }
            }
            Some(width) => {
                begin(out, "cost ", "rotation", &first, width);
                let indent = indent(width);
                for assumption in assumes {
                    out.push_str(&format!("{:indent$}- ", ""));
                    wrap(out, assumption, indent + 2, width);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Problem;
    use super::*;

    fn report() -> Report {
        let item = |name, finding: Finding| Item {
            name,
            finding,
            took: Duration::from_millis(7),
        };
        let absent = Problem::new("there is none", "create it").by("kafka-topics.sh --create x");
        Report {
            items: vec![
                item(
                    "brokers",
                    Finding::Well("one\nanswers\u{1b}[31m".to_owned()),
                ),
                item("topic", Finding::Wrong(absent)),
                item(
                    "versions",
                    Finding::Noted(Problem::new("kept", "add a rule")),
                ),
            ],
            cost: Some(Cost::of(&crate::testing::config(), Some(2))),
        }
    }

    #[test]
    fn without_a_terminal_each_item_is_one_line_whatever_it_quotes() {
        let text = report().laid_out(Layout::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ok    brokers"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert_eq!(
            lines[1],
            "FAIL  topic         there is none (7 ms); to mend: create it: kafka-topics.sh --create x"
        );
        assert!(lines[2].starts_with("note  versions      kept"), "{text}");
        assert!(
            lines[3].contains("at most 578 files and 1734 requests"),
            "{text}"
        );
        assert!(
            text.ends_with("1 of 3 is not well; 1 is worth knowing\n"),
            "{text}"
        );
    }

    #[test]
    fn in_a_terminal_no_line_is_wider_but_what_is_to_be_copied() {
        for width in [40, 64, 80, 200] {
            let layout = Layout {
                width: Some(width),
                has_colour: false,
            };
            let text = report().laid_out(layout);
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
                assert_eq!(line, line.trim_end(), "{width}");
            }
            assert!(text.contains("kafka-topics.sh --create x\n"), "{text}");
        }
    }

    #[test]
    fn a_command_is_not_broken_in_a_narrow_terminal() {
        let mut report = report();
        let command = "kafka-topics.sh ".repeat(20);
        report.items = vec![Item {
            name: "topic",
            finding: Problem::new("a", "b").by(command.trim()).into(),
            took: Duration::ZERO,
        }];
        let layout = Layout {
            width: Some(40),
            has_colour: true,
        };
        let text = report.laid_out(layout);
        assert!(
            text.contains(&format!("\n      {}\n", command.trim())),
            "{text}"
        );
        assert!(text.starts_with("\u{1b}[31mFAIL "), "{text}");
    }

    #[test]
    fn the_document_says_the_same() {
        let document = report().to_json();
        assert_eq!(document["ok"], false);
        assert_eq!(document["items"][0]["mend"], Value::Null);
        assert_eq!(document["items"][1]["mend"], "create it");
        assert_eq!(
            document["items"][1]["command"],
            "kafka-topics.sh --create x"
        );
        assert_eq!(document["items"][1]["level"], "fail");
        assert_eq!(document["items"][2]["ok"], true);
        assert_eq!(document["items"][2]["level"], "note");
        assert_eq!(document["items"][1]["took_ms"], 7);
        assert_eq!(document["cost"]["files_per_day_max"], 578);
    }
}
