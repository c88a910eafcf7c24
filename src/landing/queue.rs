//! Records in batches: a queue of librdkafka's that the partitions of one consumer are forwarded
//! to. Taking a thousand messages by one call costs a third less CPU than one by one, and leaves
//! the consumer's own queue to its events.
//!
//! rdkafka has no call for it; the unsafe code is here and nowhere else on the records' way.

use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka_sys as sys;

/// Messages taken by one call at most: more saves nothing measurable, and what was taken no longer
/// counts in librdkafka's limit on its queue.
pub(crate) const BATCH_MAX: usize = 1000;

/// The queue. It keeps its consumer, and is destroyed before it.
pub(crate) struct BatchQueue<C: ConsumerContext> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> fmt::Debug for BatchQueue<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BatchQueue").finish_non_exhaustive()
    }
}

#[allow(unsafe_code)]
impl<C: ConsumerContext> BatchQueue<C> {
    /// A queue of this consumer; `None`: librdkafka made none.
    pub(crate) fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: the client's pointer is valid as long as the consumer, which is kept here.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        NonNull::new(queue).map(|queue| Self { queue, consumer })
    }

    /// Sends what is fetched of a partition to this queue from now on. Unassigning undoes it.
    /// Returns whether the partition is known to librdkafka.
    pub(crate) fn forward(&self, topic: &str, partition: i32) -> bool {
        let Ok(topic) = CString::new(topic) else {
            return false;
        };
        // SAFETY: client and name are valid for the call. The handle that it returns is ours: it
        // is used once and destroyed here. The forward itself is counted by librdkafka, so it may
        // outlive both handles.
        unsafe {
            let of_partition = sys::rd_kafka_queue_get_partition(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
            );
            if of_partition.is_null() {
                return false;
            }
            sys::rd_kafka_queue_forward(of_partition, self.queue.as_ptr());
            sys::rd_kafka_queue_destroy(of_partition);
        }
        true
    }

    /// Takes up to [`BATCH_MAX`] messages, waiting up to `timeout` for the batch to be full.
    ///
    /// # Errors
    /// When the queue has failed.
    pub(crate) fn take(&self, timeout: Duration) -> KafkaResult<Batch<C>> {
        let mut messages: Vec<*mut sys::rd_kafka_message_t> = vec![ptr::null_mut(); BATCH_MAX];
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is ours and alive; the array has room for the number named.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                timeout_ms,
                messages.as_mut_ptr(),
                messages.len(),
            )
        };
        let Ok(taken) = usize::try_from(taken) else {
            return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::Fail));
        };
        messages.truncate(taken);
        Ok(Batch {
            messages: messages.into_iter().filter_map(NonNull::new).collect(),
            _consumer: self.consumer.clone(),
        })
    }
}

#[allow(unsafe_code)]
impl<C: ConsumerContext> Drop for BatchQueue<C> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; the consumer is still alive, because the field
        // that keeps it is dropped after this.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Messages taken together. They are destroyed when it is dropped.
pub(crate) struct Batch<C: ConsumerContext> {
    messages: Vec<NonNull<sys::rd_kafka_message_t>>,
    /// A message refers to its client's structures, so it must not outlive it.
    _consumer: Arc<BaseConsumer<C>>,
}

impl<C: ConsumerContext> fmt::Debug for Batch<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Batch of {}", self.messages.len())
    }
}

impl<C: ConsumerContext> Batch<C> {
    /// How many messages it holds.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// One of them.
    pub(crate) fn get(&self, index: usize) -> Option<Message<'_>> {
        self.messages
            .get(index)
            .map(|message| Message::of(*message))
    }
}

#[allow(unsafe_code)]
impl<C: ConsumerContext> Drop for Batch<C> {
    fn drop(&mut self) {
        for message in &self.messages {
            // SAFETY: each was handed to us by the batch call and is destroyed once.
            unsafe { sys::rd_kafka_message_destroy(message.as_ptr()) }
        }
    }
}

/// A message as librdkafka holds it: a record, or an error of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    raw: &'a sys::rd_kafka_message_t,
}

/// A header's name and value, as bytes.
type Header<'a> = (&'a [u8], Option<&'a [u8]>);

#[allow(unsafe_code)]
impl<'a> Message<'a> {
    /// The caller holds what owns the message for `'a`: [`Batch::get`] borrows the batch.
    fn of(message: NonNull<sys::rd_kafka_message_t>) -> Self {
        // SAFETY: the pointer came from the batch call, and the batch, borrowed for 'a, destroys
        // it only when it is dropped; nothing writes to it meanwhile.
        let raw = unsafe { message.as_ref() };
        Self { raw }
    }

    /// The partition it is of.
    pub(crate) fn partition(self) -> i32 {
        self.raw.partition
    }

    /// Its offset; of an error, where it was met.
    pub(crate) fn offset(self) -> i64 {
        self.raw.offset
    }

    /// The error, if it is one.
    pub(crate) fn error(self) -> Option<sys::RDKafkaErrorCode> {
        match self.raw.err {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            error => Some(error.into()),
        }
    }

    /// The error in words; only of a message that is one.
    pub(crate) fn error_text(self) -> String {
        // SAFETY: the message is valid; the text lives as long as it, and is copied here.
        unsafe {
            let text = sys::rd_kafka_message_errstr(self.raw);
            if text.is_null() {
                return String::new();
            }
            CStr::from_ptr(text.cast()).to_string_lossy().into_owned()
        }
    }

    /// The value; `None`: a tombstone.
    pub(crate) fn payload(self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives pointer and length of one part of the message.
        unsafe { bytes(self.raw.payload, self.raw.len) }
    }

    /// The key.
    pub(crate) fn key(self) -> Option<&'a [u8]> {
        // SAFETY: as of the payload.
        unsafe { bytes(self.raw.key, self.raw.key_len) }
    }

    /// Milliseconds since 1970 UTC; -1: Kafka knows none.
    pub(crate) fn timestamp_ms(self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, `kind` is written within the call.
        unsafe { sys::rd_kafka_message_timestamp(self.raw, &mut kind) }
    }

    /// The headers in their order.
    pub(crate) fn headers(self) -> impl Iterator<Item = Header<'a>> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; librdkafka parses the headers at the first call and keeps
        // them with the message. Only this thread touches it.
        let found = unsafe { sys::rd_kafka_message_headers(self.raw, &mut headers) };
        let known = found == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        (0..).map_while(move |index| {
            // SAFETY: the headers belong to the message, alive for 'a.
            (known && !headers.is_null()).then(|| unsafe { header(headers, index) })?
        })
    }

    /// Bytes of its parts but the headers.
    pub(crate) fn size(self) -> usize {
        self.payload().map_or(0, <[u8]>::len) + self.key().map_or(0, <[u8]>::len)
    }
}

/// # Safety
/// `data` is null or points to `length` bytes that live for `'a`.
#[allow(unsafe_code)]
unsafe fn bytes<'a>(data: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast(), length) })
}

/// # Safety
/// `headers` is valid for `'a`.
#[allow(unsafe_code)]
unsafe fn header<'a>(headers: *const sys::rd_kafka_headers_t, index: usize) -> Option<Header<'a>> {
    let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
    // SAFETY: an index behind the last answers with an error and writes nothing; else the name is
    // a C string and the value a part of the message.
    unsafe {
        let found =
            sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length);
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        Some((CStr::from_ptr(name).to_bytes(), bytes(value, length)))
    }
}
