//! How long the group waits for a sign of a member before its partitions are another's.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::KafkaError;
use slog::{Logger, debug};

use crate::config::Kafka;
use crate::kafka::{LogContext, client_config};

/// A broker that is there answers within milliseconds, and without an answer the assumption below
/// is safe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where the broker does not tell (an ACL, an older version): the longest session that it allows
/// by default (`group.consumer.max.session.timeout.ms`).
const BROKER_MANAGED_MAX: Duration = Duration::from_secs(60);
/// Of the group's configuration, which holds the broker's default where the group has none.
const GROUP_CONFIG: &str = "consumer.session.timeout.ms";

/// Ours under the classic protocol; under KIP-848 the broker decides it, and is asked.
pub(crate) async fn session_timeout(kafka: &Kafka, log: &Logger) -> Duration {
    if !kafka.is_broker_managed() {
        return kafka.session_timeout();
    }
    match ask(kafka, log).await {
        Ok(Some(session)) => session,
        Ok(None) => BROKER_MANAGED_MAX,
        Err(error) => {
            debug!(log, "the group's session is not told, the longest is assumed"; "error" => %error);
            BROKER_MANAGED_MAX
        }
    }
}

async fn ask(kafka: &Kafka, log: &Logger) -> Result<Option<Duration>, KafkaError> {
    let admin: AdminClient<LogContext> =
        client_config(kafka).create_with_context(LogContext::new(log.clone()))?;
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    let group = ResourceSpecifier::Group(&kafka.group);
    let described = admin.describe_configs([&group], &options).await?;
    let Some(Ok(group)) = described.into_iter().next() else {
        return Ok(None);
    };
    let session = group
        .get(GROUP_CONFIG)
        .and_then(|entry| entry.value.as_deref());
    Ok(session
        .and_then(|text| text.parse().ok())
        .map(Duration::from_millis))
}
