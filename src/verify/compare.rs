//! The bucket's offsets beside those of which Kafka still holds a record.

use std::collections::BTreeMap;

use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;

use crate::config::Kafka;
use crate::kafka::{LogContext, client_config, retention};
use crate::landing::broker::{Broker, TopicView};
use crate::landing::kafka_broker::KafkaBroker;
use crate::landing::offsets::OffsetSet;
use crate::landing::protocol::footer::differ;

use super::finding::{Finding, Kind};
use super::member::{intersection, limited};
use super::partition::Comparable;
use super::scope::Scope;
use super::topic::{Part, TopicReader};

/// A comparison with the topic.
#[derive(Debug)]
pub(super) struct Comparison {
    /// Or why there is none.
    reader: Result<TopicReader, String>,
    topic: Option<TopicView>,
    /// Whether Kafka keeps each record until retention removes it: then what is not there never
    /// was.
    keeps_all: bool,
    /// By partition: where Kafka's log begins; `None`: it is not compared, which was told.
    begins: BTreeMap<i32, Option<i64>>,
}

impl Comparison {
    /// Asks what the topic is.
    pub(super) async fn new(kafka: &Kafka) -> Self {
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let topic = match KafkaBroker::new(kafka, &log) {
            Ok(broker) => broker.topic().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let topic =
            topic.and_then(|topic| topic.ok_or_else(|| "the topic does not exist".to_owned()));
        let reader = match &topic {
            Ok(_) => TopicReader::new(kafka).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let is_compacted = match &reader {
            Ok(_) => is_compacted(kafka).await,
            Err(_) => None,
        };
        Self {
            reader,
            topic: topic.ok(),
            keeps_all: is_compacted == Some(false),
            begins: BTreeMap::new(),
        }
    }

    /// Compares a batch. Says how many records of Kafka's were compared, too.
    pub(super) async fn batch(&mut self, scope: &Scope, batch: &Comparable) -> (Vec<Finding>, u64) {
        let partition = scope.identity.partition;
        let begin = match self.begin(scope).await {
            Ok(Some(begin)) => begin,
            Ok(None) => return (Vec::new(), 0),
            Err(finding) => return (vec![finding], 0),
        };
        match self
            .read(partition, batch.start.max(begin), batch.end)
            .await
        {
            Ok(None) => (Vec::new(), 0),
            Ok(Some(part)) => {
                let findings = compare(partition, batch, &part, self.keeps_all);
                (findings, part.offsets.len())
            }
            Err(finding) => (vec![finding], 0),
        }
    }

    /// Compares the holes behind the last batch, of which the checkpoint alone knows.
    pub(super) async fn holes(&mut self, scope: &Scope) -> Vec<Finding> {
        let partition = scope.identity.partition;
        let begin = match self.begin(scope).await {
            Ok(Some(begin)) => begin,
            Ok(None) => return Vec::new(),
            Err(finding) => return vec![finding],
        };
        match self
            .read(partition, scope.next.max(begin), scope.holes_to)
            .await
        {
            Ok(None) => Vec::new(),
            Ok(Some(part)) => {
                let why = "the checkpoint says that there is nothing at these offsets, and Kafka holds records there";
                let missing =
                    |(from, to)| Finding::new(Kind::Missing, why).of(partition).at(from, to);
                limited(&part.offsets).map(missing).collect()
            }
            Err(finding) => vec![finding],
        }
    }

    /// Ends the reading.
    pub(super) async fn close(&self) {
        if let Ok(reader) = &self.reader {
            reader.close().await;
        }
    }

    /// Where Kafka's log of a partition begins; `None`: it is not compared, which was told.
    async fn begin(&mut self, scope: &Scope) -> Result<Option<i64>, Finding> {
        let partition = scope.identity.partition;
        if let Some(begin) = self.begins.get(&partition) {
            return Ok(*begin);
        }
        let begin = self.ask(scope).await;
        self.begins.insert(partition, begin.as_ref().ok().copied());
        begin.map(Some).map_err(|why| unread(partition, &why))
    }

    async fn ask(&self, scope: &Scope) -> Result<i64, String> {
        let reader = self.reader.as_ref().map_err(String::clone)?;
        for (what, kafka, ours) in self.topic.iter().flat_map(|topic| {
            [
                ("cluster", &topic.cluster_id, &scope.identity.cluster_id),
                ("topic", &topic.topic_id, &scope.identity.topic_id),
            ]
        }) {
            if differ(kafka, ours) {
                return Err(format!(
                    "Kafka holds another log: its {what} has the id {kafka}, the checkpoint's {ours}"
                ));
            }
        }
        let (low, high) = reader.watermarks(scope.identity.partition).await?;
        let landed_to = scope.next.max(scope.holes_to);
        if high < landed_to {
            return Err(format!(
                "Kafka holds another log: it ends at {high}, and {landed_to} was reached"
            ));
        }
        Ok(low)
    }

    async fn read(&mut self, partition: i32, from: i64, to: i64) -> Result<Option<Part>, Finding> {
        let Ok(reader) = self.reader.as_ref().map_err(drop) else {
            return Ok(None);
        };
        if from >= to {
            return Ok(None);
        }
        let part = reader.read(partition, from, to).await;
        if part.is_err() {
            self.begins.insert(partition, None);
        }
        part.map(Some).map_err(|why| unread(partition, &why))
    }
}

/// `None`: it is not known.
async fn is_compacted(kafka: &Kafka) -> Option<bool> {
    let mut client = client_config(kafka);
    // Errors come from the call.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    let log = slog::Logger::root(slog::Discard, slog::o!());
    let admin: AdminClient<LogContext> = client.create_with_context(LogContext::new(log)).ok()?;
    let retention = retention::ask(&admin, &kafka.topic).await.ok()?;
    Some(retention.is_compacted)
}

fn unread(partition: i32, why: &str) -> Finding {
    Finding::new(
        Kind::Unread,
        format!("it was not compared with the topic: {why}"),
    )
    .of(partition)
}

/// What differs between a batch and Kafka.
fn compare(partition: i32, batch: &Comparable, part: &Part, keeps_all: bool) -> Vec<Finding> {
    let found = |kind, why: &str, set: &OffsetSet| -> Vec<Finding> {
        let finding = |(from, to)| Finding::new(kind, why).of(partition).at(from, to);
        limited(set).map(finding).collect()
    };
    let missing = part.offsets.minus(&batch.held);
    let gap = batch.gap.map_or_else(OffsetSet::default, |(from, to)| {
        OffsetSet::from_range(from, to)
    });
    let mut findings = found(
        Kind::Missing,
        "the bucket records these offsets as lost, and Kafka still holds their records: a gap claimed that is none",
        &intersection(&missing, &gap),
    );
    findings.extend(found(
        Kind::Missing,
        "Kafka holds these records, and no object does",
        &missing.minus(&gap),
    ));
    if keeps_all {
        let kept = OffsetSet::from_range(part.from, batch.end);
        let never = intersection(&batch.held, &kept).minus(&part.offsets);
        findings.extend(found(
            Kind::Foreign,
            "an object holds these offsets, and Kafka, which removes records for their age alone, has no record there",
            &never,
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(
        held: &[i64],
        gap: Option<(i64, i64)>,
        kafka: &[i64],
        keeps_all: bool,
    ) -> Vec<(Kind, (i64, i64))> {
        let batch = Comparable {
            start: 0,
            end: 10,
            held: held.iter().copied().collect(),
            gap,
        };
        let part = Part {
            from: 2,
            offsets: kafka.iter().copied().collect(),
        };
        let found = compare(0, &batch, &part, keeps_all);
        found
            .into_iter()
            .map(|finding| (finding.kind, finding.offsets.unwrap()))
            .collect()
    }

    #[test]
    fn what_kafka_holds_and_no_object_does_is_missing() {
        assert_eq!(differences(&[0, 3, 4, 9], None, &[3, 4, 9], true), []);
        assert_eq!(
            differences(&[3, 9], None, &[3, 4, 5, 9], true),
            [(Kind::Missing, (4, 6))]
        );
    }

    #[test]
    fn a_gap_over_records_that_kafka_holds_is_none() {
        let found = differences(&[7], Some((3, 6)), &[4, 6, 7], true);
        assert_eq!(found, [(Kind::Missing, (4, 5)), (Kind::Missing, (6, 7))]);
    }

    #[test]
    fn what_compaction_may_have_removed_is_no_contradiction() {
        assert_eq!(differences(&[0, 3, 4], None, &[4], false), []);
        assert_eq!(
            differences(&[0, 3, 4], None, &[4], true),
            [(Kind::Foreign, (3, 4))]
        );
    }
}
