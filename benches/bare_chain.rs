//! The bare chain: what `landing.py` beside this file measures groundtrack against.
//!
//! A topic read record by record, decoded into a typed struct, written as Parquet and put to S3,
//! with the same crates in one loop, as one would write it in an afternoon: the system's
//! allocator, no actors, no protocol. It ends when it has read what the topic held at its start,
//! and forgets everything if it dies before.
//!
//! With `--produce N` it fills the topic instead.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{
    ArrayRef, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use clap::Parser;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rusoto_core::{HttpClient, Region};
use rusoto_credential::EnvironmentProvider;
use rusoto_s3::{PutObjectRequest, S3, S3Client};
use serde::{Deserialize, Deserializer};

/// Of a file; groundtrack's default.
const FILE_ROWS: usize = 1_000_000;

/// Of the batches handed to the Parquet writer: arrow's customary size.
const BATCH_ROWS: usize = 8192;

/// Lands a topic of ISS positions as Parquet on S3, in one loop.
#[derive(Debug, Parser)]
struct Arguments {
    /// host:port of a broker
    #[arg(long)]
    brokers: String,
    /// The topic, which exists
    #[arg(long)]
    topic: String,
    /// Fill the topic with so many messages, and end
    #[arg(long, value_name = "N")]
    produce: Option<u64>,
    /// Produce the lines of this file, over and over, instead of positions by formula
    #[arg(long, value_name = "FILE", requires = "produce")]
    bodies: Option<PathBuf>,
    /// http://host:port of the S3 server; the credentials are in the environment
    #[arg(long, required_unless_present = "produce")]
    endpoint: Option<String>,
    /// The bucket, which exists
    #[arg(long, required_unless_present = "produce")]
    bucket: Option<String>,
    /// Folder in the bucket
    #[arg(long, default_value = "bare")]
    prefix: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    match arguments.produce {
        Some(records) => produce(&arguments, records),
        None => land(&arguments),
    }
}

#[derive(Deserialize)]
struct Answer<'a> {
    message: &'a str,
    timestamp: i64,
    iss_position: Position,
}

#[derive(Deserialize)]
struct Position {
    #[serde(deserialize_with = "float_in_text")]
    latitude: f64,
    #[serde(deserialize_with = "float_in_text")]
    longitude: f64,
}

fn float_in_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("timestamp", time.clone(), false),
        Field::new("message", DataType::Utf8, false),
        Field::new("latitude", DataType::Float64, false),
        Field::new("longitude", DataType::Float64, false),
        Field::new("kafka_partition", DataType::Int32, false),
        Field::new("kafka_offset", DataType::Int64, false),
        Field::new("kafka_timestamp", time, false),
    ]))
}

/// The open file of a partition.
struct File {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    rows: usize,
    batch_rows: usize,
    first: i64,
    timestamp: TimestampMicrosecondBuilder,
    message: StringBuilder,
    latitude: Float64Builder,
    longitude: Float64Builder,
    kafka_partition: Int32Builder,
    kafka_offset: Int64Builder,
    kafka_timestamp: TimestampMicrosecondBuilder,
}

impl File {
    fn new(schema: SchemaRef, first: i64) -> Result<Self, Box<dyn Error>> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .build();
        let time = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Ok(Self {
            writer: ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?,
            schema,
            rows: 0,
            batch_rows: 0,
            first,
            timestamp: time(),
            message: StringBuilder::new(),
            latitude: Float64Builder::new(),
            longitude: Float64Builder::new(),
            kafka_partition: Int32Builder::new(),
            kafka_offset: Int64Builder::new(),
            kafka_timestamp: time(),
        })
    }

    fn add(&mut self, record: &BorrowedMessage<'_>) -> Result<(), Box<dyn Error>> {
        let answer: Answer<'_> = serde_json::from_slice(record.payload().unwrap_or_default())?;
        self.timestamp.append_value(answer.timestamp * 1_000_000);
        self.message.append_value(answer.message);
        self.latitude.append_value(answer.iss_position.latitude);
        self.longitude.append_value(answer.iss_position.longitude);
        self.kafka_partition.append_value(record.partition());
        self.kafka_offset.append_value(record.offset());
        let at_ms = record.timestamp().to_millis().unwrap_or(-1);
        self.kafka_timestamp.append_value(at_ms * 1000);
        self.rows += 1;
        self.batch_rows += 1;
        if self.batch_rows == BATCH_ROWS {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Box<dyn Error>> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.timestamp.finish()),
            Arc::new(self.message.finish()),
            Arc::new(self.latitude.finish()),
            Arc::new(self.longitude.finish()),
            Arc::new(self.kafka_partition.finish()),
            Arc::new(self.kafka_offset.finish()),
            Arc::new(self.kafka_timestamp.finish()),
        ];
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.writer.write(&batch)?;
        self.batch_rows = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        self.write()?;
        Ok(self.writer.into_inner()?)
    }
}

struct Bucket {
    runtime: tokio::runtime::Runtime,
    client: S3Client,
    bucket: String,
    prefix: String,
    files: u64,
    bytes: u64,
}

impl Bucket {
    fn new(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let region = Region::Custom {
            name: "us-east-1".to_owned(),
            endpoint: arguments.endpoint.clone().unwrap_or_default(),
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            client: S3Client::new_with(HttpClient::new()?, EnvironmentProvider::default(), region),
            bucket: arguments.bucket.clone().unwrap_or_default(),
            prefix: arguments.prefix.clone(),
            files: 0,
            bytes: 0,
        })
    }

    fn put(&mut self, partition: i32, file: File) -> Result<(), Box<dyn Error>> {
        let key = format!("{}/{partition:05}-{:020}.parquet", self.prefix, file.first);
        let body = file.finish()?;
        self.files += 1;
        self.bytes += body.len() as u64;
        let request = PutObjectRequest {
            bucket: self.bucket.clone(),
            key,
            body: Some(body.into()),
            ..PutObjectRequest::default()
        };
        self.runtime.block_on(self.client.put_object(request))?;
        Ok(())
    }
}

fn land(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut bucket = Bucket::new(arguments)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        // Assigned by hand; librdkafka wants a name all the same.
        .set("group.id", "bare_chain")
        .set("enable.auto.commit", "false")
        // The default of a second costs ten times the wall time, and no CPU.
        .set("fetch.queue.backoff.ms", "10")
        .create()?;
    let (assignment, mut ends) = what_is_there(&consumer, &arguments.topic)?;
    consumer.assign(&assignment)?;

    let schema = schema();
    let mut files: HashMap<i32, File> = HashMap::new();
    let mut rows = 0u64;
    while !ends.is_empty() {
        let Some(record) = consumer.poll(Duration::from_secs(1)) else {
            continue;
        };
        let record = record?;
        let (partition, offset) = (record.partition(), record.offset());
        let Some(&end) = ends.get(&partition) else {
            continue;
        };
        if !files.contains_key(&partition) {
            files.insert(partition, File::new(schema.clone(), offset)?);
        }
        let full = match files.get_mut(&partition) {
            Some(file) => {
                file.add(&record)?;
                file.rows >= FILE_ROWS
            }
            None => false,
        };
        rows += 1;
        let last = offset + 1 >= end;
        if last {
            ends.remove(&partition);
        }
        if (full || last)
            && let Some(file) = files.remove(&partition)
        {
            bucket.put(partition, file)?;
        }
    }
    println!(
        "{{\"rows\": {rows}, \"files\": {}, \"bytes\": {}}}",
        bucket.files, bucket.bytes
    );
    Ok(())
}

/// Where to read each partition that holds something, and behind which offset it ends now.
fn what_is_there(
    consumer: &BaseConsumer,
    topic: &str,
) -> Result<(TopicPartitionList, HashMap<i32, i64>), Box<dyn Error>> {
    let within = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), within)?;
    let mut assignment = TopicPartitionList::new();
    let mut ends = HashMap::new();
    for partition in metadata.topics()[0].partitions() {
        let (low, high) = consumer.fetch_watermarks(topic, partition.id(), within)?;
        if low < high {
            assignment.add_partition_offset(topic, partition.id(), Offset::Offset(low))?;
            ends.insert(partition.id(), high);
        }
    }
    Ok((assignment, ends))
}

/// Counts what the broker did not take.
#[derive(Default)]
struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Relaxed);
        }
    }
}

fn produce(arguments: &Arguments, records: u64) -> Result<(), Box<dyn Error>> {
    let producer: BaseProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("linger.ms", "20")
        .set("batch.size", "900000")
        .create_with_context(Deliveries::default())?;
    let within = Duration::from_secs(60);
    let metadata = producer
        .client()
        .fetch_metadata(Some(&arguments.topic), within)?;
    let partitions = metadata.topics()[0].partitions().len() as u64;
    let bodies = arguments
        .bodies
        .as_ref()
        .map(std::fs::read_to_string)
        .transpose()?;
    let bodies: Vec<&str> = bodies.iter().flat_map(|text| text.lines()).collect();

    let mut body = String::new();
    for number in 0..records {
        body.clear();
        match bodies.as_slice() {
            [] => iss_now(number, &mut body)?,
            lines => body.push_str(lines[(number % lines.len() as u64) as usize]),
        }
        let mut record = BaseRecord::<(), str>::to(&arguments.topic)
            .partition((number % partitions) as i32)
            .payload(&body);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            producer.poll(Duration::from_millis(20));
        }
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(within)?;
    match producer.context().failed.load(Relaxed) {
        0 => Ok(()),
        failed => Err(format!("{failed} of {records} messages were not taken").into()),
    }
}

/// What Open Notify would answer 5 s times `number` after a moment in 2024, on a circular orbit;
/// its keys in one of the twelve orders in turn, like its own.
fn iss_now(number: u64, body: &mut String) -> std::fmt::Result {
    const INCLINATION: f64 = 51.64;
    const PERIOD_S: f64 = 5570.3;
    const SIDEREAL_DAY_S: f64 = 86_164.1;
    let seconds = number * 5;
    let turned = std::f64::consts::TAU * (seconds as f64 / PERIOD_S).fract();
    let (sin, cos) = turned.sin_cos();
    let (sin_i, cos_i) = INCLINATION.to_radians().sin_cos();
    let latitude = (sin_i * sin).asin().to_degrees();
    let inertial = (cos_i * sin).atan2(cos).to_degrees();
    let longitude =
        (inertial - 360.0 * (seconds as f64 / SIDEREAL_DAY_S) + 180.0).rem_euclid(360.0) - 180.0;

    // 113 bytes with the signs and digits of most positions.
    let position = if number.is_multiple_of(2) {
        format!(r#"{{"latitude": "{latitude:.4}", "longitude": "{longitude:.4}"}}"#)
    } else {
        format!(r#"{{"longitude": "{longitude:.4}", "latitude": "{latitude:.4}"}}"#)
    };
    let fields = [
        r#""message": "success""#.to_owned(),
        format!(r#""timestamp": {}"#, 1_735_520_478 + seconds),
        format!(r#""iss_position": {position}"#),
    ];
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let [a, b, c] = ORDERS[(number / 2 % 6) as usize];
    write!(body, "{{{}, {}, {}}}", fields[a], fields[b], fields[c])
}
