//! How long a topic keeps its records, as the brokers say.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::ClientContext;

/// Of the question; a broker that answers does so in milliseconds, TLS and SASL take a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What bounds a topic's records. Compaction alone deletes none that is the newest of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// `retention.ms`; `None`: no bound in time.
    pub ms: Option<i64>,
    /// `retention.bytes`, of each partition; `None`: no bound in size.
    pub bytes: Option<i64>,
    /// Whether records are removed that have a newer one of their key.
    pub is_compacted: bool,
}

/// Asks the brokers for a topic's retention.
///
/// # Errors
/// Why it is not known: no answer, no right to ask (`DescribeConfigs`), or a broker that cannot
/// tell.
pub async fn ask<C: ClientContext>(
    admin: &AdminClient<C>,
    topic: &str,
) -> Result<Retention, String> {
    let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
    let resource = ResourceSpecifier::Topic(topic);
    let asked = admin.describe_configs([&resource], &options);
    let answered = tokio::time::timeout(ANSWER_TIMEOUT * 2, asked)
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let resource = answered.into_iter().next().ok_or("an empty answer")?;
    let resource = resource.map_err(|code| code.to_string())?;
    read(|name| resource.get(name)?.value.clone())
}

fn read(value: impl Fn(&str) -> Option<String>) -> Result<Retention, String> {
    let policy = value("cleanup.policy").ok_or("no cleanup.policy in the answer")?;
    let has = |wanted: &str| policy.split(',').any(|word| word.trim() == wanted);
    let is_compacted = has("compact");
    if !has("delete") {
        return Ok(Retention {
            is_compacted,
            ..Retention::default()
        });
    }
    let number = |name: &str| -> Result<Option<i64>, String> {
        let text = value(name).ok_or_else(|| format!("no {name} in the answer"))?;
        let number: i64 = text.parse().map_err(|_| format!("{name} is {text:?}"))?;
        Ok(Some(number).filter(|number| *number >= 0))
    };
    Ok(Retention {
        ms: number("retention.ms")?,
        bytes: number("retention.bytes")?,
        is_compacted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: &str, ms: &str, bytes: &str) -> Result<Retention, String> {
        read(|name| match name {
            "cleanup.policy" => Some(policy.to_owned()),
            "retention.ms" => Some(ms.to_owned()),
            "retention.bytes" => Some(bytes.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn only_a_topic_that_deletes_is_bounded() {
        let both = Retention {
            ms: Some(60_000),
            bytes: Some(1_000),
            is_compacted: false,
        };
        assert_eq!(of("delete", "60000", "1000"), Ok(both));
        let compacted = |bounds| Retention {
            is_compacted: true,
            ..bounds
        };
        assert_eq!(of("compact, delete", "60000", "1000"), Ok(compacted(both)));
        let unbounded = Retention::default();
        assert_eq!(of("compact", "60000", "1000"), Ok(compacted(unbounded)));
        assert_eq!(of("", "60000", "1000"), Ok(unbounded));
    }

    #[test]
    fn a_negative_bound_is_none_and_another_word_an_error() {
        assert_eq!(of("delete", "-1", "-1"), Ok(Retention::default()));
        let in_size = Retention {
            ms: None,
            bytes: Some(5),
            is_compacted: false,
        };
        assert_eq!(of("delete", "-1", "5"), Ok(in_size));
        assert!(of("delete", "week", "-1").unwrap_err().contains("week"));
        assert!(read(|_| None).is_err());
    }
}
