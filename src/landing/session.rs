//! How long the group waits for a sign of a member before its partitions are another's.

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka_sys as sys;
use slog::{Logger, debug};
use sys::rd_kafka_resp_err_t as Code;

use crate::config::Kafka;
use crate::fault::Step;
use crate::kafka::{LogContext, client_config};
use crate::landing::cpu::on_cpu;
use crate::landing::topic_id::owned;

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
    let (of_group, of_log) = (kafka.clone(), log.clone());
    match on_cpu(Step::AskSession, move || ask(&of_group, &of_log)).await {
        Ok(session) => session,
        Err(error) => {
            debug!(log, "the group's session is not told, the longest is assumed"; "error" => error);
            BROKER_MANAGED_MAX
        }
    }
}

fn ask(kafka: &Kafka, log: &Logger) -> Result<Duration, String> {
    let client: BaseConsumer<LogContext> = client_config(kafka)
        .create_with_context(LogContext::new(log.clone()))
        .map_err(|error| error.to_string())?;
    let told = group_config(client.client(), &kafka.group, GROUP_CONFIG)?;
    let session_ms = told.parse().map_err(|_| format!("{told:?} is no number"))?;
    Ok(Duration::from_millis(session_ms))
}

/// A property of a group as its broker has it. rdkafka has a call for it, which fails as soon as
/// the group has one of its own: it does not know that such a thing exists.
#[allow(unsafe_code)]
fn group_config<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    property: &str,
) -> Result<String, String> {
    let name = CString::new(group).map_err(|error| error.to_string())?;
    let timeout_ms = i32::try_from(TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. Every pointer that is ours is checked
    // for null and owned by a guard; the event is declared after the queue it came from and is
    // destroyed before it. Resources, entries and their strings belong to the event and are copied
    // before it is destroyed; their arrays have the length that came with them.
    unsafe {
        let queue = owned(sys::rd_kafka_queue_new(handle), sys::rd_kafka_queue_destroy)?;
        let options = owned(
            sys::rd_kafka_AdminOptions_new(
                handle,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        let resource = owned(
            sys::rd_kafka_ConfigResource_new(
                sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP,
                name.as_ptr(),
            ),
            sys::rd_kafka_ConfigResource_destroy,
        )?;
        let mut resources = [resource.0.as_ptr()];
        sys::rd_kafka_DescribeConfigs(
            handle,
            resources.as_mut_ptr(),
            resources.len(),
            options.0.as_ptr(),
            queue.0.as_ptr(),
        );
        let event = owned(
            sys::rd_kafka_queue_poll(queue.0.as_ptr(), timeout_ms),
            sys::rd_kafka_event_destroy,
        )
        .map_err(|_| "no answer in time".to_owned())?;
        if sys::rd_kafka_event_error(event.0.as_ptr()) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            let words = CStr::from_ptr(sys::rd_kafka_event_error_string(event.0.as_ptr()));
            return Err(words.to_string_lossy().into_owned());
        }
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
        if result.is_null() {
            return Err("an answer to another question".to_owned());
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeConfigs_result_resources(result, &mut count);
        if described.is_null() || count == 0 {
            return Err("nothing is told of the group".to_owned());
        }
        let code = sys::rd_kafka_ConfigResource_error(*described);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(rdkafka::types::RDKafkaErrorCode::from(code).to_string());
        }
        let mut count = 0;
        let entries = sys::rd_kafka_ConfigResource_configs(*described, &mut count);
        for index in 0..if entries.is_null() { 0 } else { count } {
            let entry = *entries.add(index);
            let (name, value) = (
                sys::rd_kafka_ConfigEntry_name(entry),
                sys::rd_kafka_ConfigEntry_value(entry),
            );
            if !name.is_null()
                && !value.is_null()
                && CStr::from_ptr(name).to_bytes() == property.as_bytes()
            {
                return Ok(CStr::from_ptr(value).to_string_lossy().into_owned());
            }
        }
        Err(format!("the group has no {property}"))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};

    use super::*;

    fn log() -> Logger {
        Logger::root(slog::Discard, slog::o!())
    }

    fn kafka(options: &[(&str, &str)]) -> Kafka {
        let mut kafka = crate::testing::config().kafka;
        for (name, value) in options {
            kafka.options.insert((*name).to_owned(), (*value).into());
        }
        kafka
    }

    #[tokio::test]
    async fn under_the_classic_protocol_the_session_is_ours() {
        let told = kafka(&[("session.timeout.ms", "7000")]);
        assert_eq!(session_timeout(&told, &log()).await.as_secs(), 7);
        assert_eq!(session_timeout(&kafka(&[]), &log()).await.as_secs(), 45);
    }

    #[tokio::test]
    #[ignore = "needs real servers"]
    async fn under_kip_848_the_session_is_the_groups_else_the_brokers() {
        let mut kafka = kafka(&[("group.protocol", "consumer")]);
        kafka.brokers = vec![std::env::var("GROUNDTRACK_TEST_KAFKA").unwrap()];
        kafka.group = format!("session-{:x}", fastrand::u64(..));
        assert_eq!(session_timeout(&kafka, &log()).await.as_secs(), 10);
        let admin: AdminClient<LogContext> = client_config(&kafka)
            .create_with_context(LogContext::new(log()))
            .unwrap();
        let config =
            AlterConfig::new(ResourceSpecifier::Group(&kafka.group)).set(GROUP_CONFIG, "12000");
        let set = admin.alter_configs([&config], &AdminOptions::new()).await;
        set.unwrap().remove(0).unwrap();
        // The broker's own view of it follows.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while session_timeout(&kafka, &log()).await.as_secs() != 12 {
            assert!(std::time::Instant::now() < deadline, "not told");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn without_an_answer_the_longest_session_that_brokers_allow_is_assumed() {
        let mut kafka = kafka(&[("group.protocol", "consumer")]);
        kafka.brokers = vec!["127.0.0.1:1".to_owned()];
        assert_eq!(session_timeout(&kafka, &log()).await.as_secs(), 60);
    }
}
