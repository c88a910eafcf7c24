//! What the hermetic tests share.

use std::time::Duration;

use crate::config::*;

/// A whole configuration; nothing of it is reachable.
pub(crate) fn config() -> Config {
    Config {
        source: Some(Source {
            url: "http://127.0.0.1:9/iss-now.json".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(4),
            stale_after: Duration::from_secs(60),
        }),
        kafka: Kafka {
            brokers: vec!["127.0.0.1:9".to_owned()],
            topic: "project_topic".to_owned(),
            group: "groundtrack".to_owned(),
            instance_id: None,
            start: Start::Earliest,
            options: Default::default(),
        },
        table: Table {
            columns: Vec::new(),
            extra: true,
        },
        files: Files {
            max_rows: 1_000_000,
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(300),
            compression: Compression::Zstd(1),
            row_group_rows: 1_000_000,
            partition_by: vec![PartitionUnit::Date],
            partition_time: PartitionTime::KafkaTimestamp,
        },
        store: Store {
            location: StoreLocation::Memory,
            data: "parquet_files".to_owned(),
            checkpoints: "checkpoints".to_owned(),
            dead_letters: "dead_letters".to_owned(),
            s3: S3 {
                endpoint: None,
                region: "us-east-1".to_owned(),
                path_style: false,
                client: S3Client::Rusoto,
                server_side_encryption: None,
                storage_class: None,
                ca_file: None,
                credentials: S3Credentials::Found { profile: None },
                timeout: Duration::from_secs(30),
            },
        },
        limits: Limits {
            memory_bytes: 128 << 20,
            drain: Duration::from_secs(20),
        },
        supervision: Supervision {
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            restarts: 10,
            window: Duration::from_secs(600),
            heartbeat: Duration::from_secs(60),
        },
        skip: Vec::new(),
        web: Some(Web {
            listen: ([127, 0, 0, 1], 0).into(),
            hosts: Vec::new(),
        }),
        status: StatusSocket { socket: None },
        log: Log {
            level: LogLevel::Info,
            format: LogFormat::Terminal,
        },
        references: Default::default(),
    }
}
