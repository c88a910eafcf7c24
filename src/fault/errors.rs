//! Errors as a planned fault makes them: of each type that a step can fail with.

use actix::MailboxError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Kind;
use crate::ingest::answer::{FailureKind, PollFailure};
use crate::landing::broker::BrokerError;
use crate::landing::cpu::Cancelled;
use crate::landing::parquet_file::ParquetFileError;
use crate::messages::Gone;
use crate::store::StoreError;

const WORDS: &str = "planned fault";

/// An error that a fault can be planned with.
pub trait Planned {
    /// It.
    fn planned(kind: Kind) -> Self;
}

impl Planned for StoreError {
    fn planned(kind: Kind) -> Self {
        match kind {
            Kind::Conflict => Self::Conflict,
            Kind::Precondition => Self::Precondition,
            _ => Self::Unknown(WORDS.to_owned()),
        }
    }
}

impl Planned for String {
    fn planned(_: Kind) -> Self {
        WORDS.to_owned()
    }
}

impl Planned for BrokerError {
    fn planned(_: Kind) -> Self {
        Self(WORDS.to_owned())
    }
}

impl Planned for KafkaError {
    fn planned(_: Kind) -> Self {
        Self::Global(RDKafkaErrorCode::BrokerTransportFailure)
    }
}

impl Planned for MailboxError {
    fn planned(_: Kind) -> Self {
        Self::Closed
    }
}

impl Planned for Gone {
    fn planned(_: Kind) -> Self {
        Self
    }
}

impl Planned for Cancelled {
    fn planned(_: Kind) -> Self {
        Self
    }
}

impl Planned for ParquetFileError {
    fn planned(_: Kind) -> Self {
        parquet::errors::ParquetError::General(WORDS.to_owned()).into()
    }
}

impl Planned for PollFailure {
    fn planned(_: Kind) -> Self {
        Self::new(FailureKind::Cut, WORDS)
    }
}
