//! A Spark Structured Streaming job: the files that it leaves ([`mod@format`]), which of its batches
//! landed ([`logs`]), and all of it read ([`job`]).

pub mod format;
pub mod job;
pub mod logs;
