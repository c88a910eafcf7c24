//! What a check found, as lines for people and as one JSON document.

use std::fmt;

use serde_json::{Value, json};

use super::{Cost, Item};

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the data.
    pub items: Vec<Item>,
    /// `None`: the configuration is not valid.
    pub cost: Option<Cost>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.items.iter().all(|item| item.finding.is_ok())
    }

    /// One document: `ok`, `items` (`item`, `ok`, `answer`, `mend` or null, `took_ms`) and `cost`
    /// (or null).
    pub fn to_json(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(item_json).collect();
        let cost = self.cost.as_ref().map(|cost| {
            json!({
                "partitions": cost.partitions,
                "files_per_day_max": cost.files_per_day,
                "requests_per_day_max": cost.requests_per_day,
                "assumes": cost.assumes,
            })
        });
        json!({ "ok": self.is_well(), "items": items, "cost": cost })
    }
}

fn item_json(item: &Item) -> Value {
    let (answer, mend) = match &item.finding {
        Ok(answer) => (answer, None),
        Err(problem) => (&problem.answer, Some(&problem.mend)),
    };
    json!({
        "item": item.name,
        "ok": item.finding.is_ok(),
        "answer": answer,
        "mend": mend,
        "took_ms": u64::try_from(item.took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// What was quoted cannot end its line, nor move the cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// One line an item; what it quotes cannot break out of its line.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Item {
            name,
            finding,
            took,
        } in &self.items
        {
            let took_ms = took.as_millis();
            match finding {
                Ok(answer) => {
                    writeln!(
                        formatter,
                        "ok    {name:13} {} ({took_ms} ms)",
                        one_line(answer)
                    )?;
                }
                Err(problem) => writeln!(
                    formatter,
                    "FAIL  {name:13} {} ({took_ms} ms); to mend: {}",
                    one_line(&problem.answer),
                    one_line(&problem.mend)
                )?,
            }
        }
        match &self.cost {
            Some(cost) => write!(formatter, "{cost}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.partitions {
            Some(1) => "1 partition".to_owned(),
            Some(partitions) => format!("{partitions} partitions"),
            None => "each partition (their number is not known)".to_owned(),
        };
        writeln!(
            formatter,
            "cost  {:13} at most {} files and {} requests to the store a day for {of}, if",
            "rotation", self.files_per_day, self.requests_per_day
        )?;
        for assumption in &self.assumes {
            writeln!(formatter, "{:20}- {assumption}", "")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Problem;
    use super::*;

    fn report() -> Report {
        let item = |name, finding| Item {
            name,
            finding,
            took: Duration::from_millis(7),
        };
        Report {
            items: vec![
                item("brokers", Ok("one\nanswers\u{1b}[31m".to_owned())),
                item("topic", Err(Problem::new("there is none", "create it"))),
            ],
            cost: Some(Cost::of(&crate::testing::config().files, Some(2))),
        }
    }

    #[test]
    fn each_item_is_one_line_whatever_it_quotes() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ok    brokers"), "{text}");
        assert!(!lines[0].contains('\u{1b}'), "{text}");
        assert_eq!(
            lines[1],
            "FAIL  topic         there is none (7 ms); to mend: create it"
        );
        assert!(
            lines[2].contains("at most 578 files and 1734 requests"),
            "{text}"
        );
    }

    #[test]
    fn the_document_says_the_same() {
        let document = report().to_json();
        assert_eq!(document["ok"], false);
        assert_eq!(document["items"][0]["mend"], Value::Null);
        assert_eq!(document["items"][1]["mend"], "create it");
        assert_eq!(document["items"][1]["took_ms"], 7);
        assert_eq!(document["cost"]["files_per_day_max"], 578);
    }
}
