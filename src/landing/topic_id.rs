//! A topic's id, by DescribeTopics: rdkafka has no call for it.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka_sys as sys;
use sys::rd_kafka_resp_err_t as Code;

/// What a broker says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Described {
    /// It exists.
    Topic {
        /// Base64 of its UUID, as Kafka's tools print it; all "A" where there is none.
        id: String,
        /// What this client may do with it; `None`: not asked for, or not told.
        rights: Option<Rights>,
    },
    /// It does not exist.
    Absent,
    /// The broker cannot tell; ask it for the topic's metadata instead.
    Unsupported,
}

/// What a client may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) describe_configs: bool,
}

/// The controller that the brokers last named; `None`: none was named within the time-out.
#[allow(unsafe_code)]
pub(crate) fn controller<C: ClientContext>(client: &Client<C>, timeout: Duration) -> Option<i32> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle is valid while `client` is borrowed.
    let id = unsafe { sys::rd_kafka_controllerid(client.native_ptr(), timeout_ms) };
    (id >= 0).then_some(id)
}

/// Frees a thing of librdkafka's when it goes out of scope.
pub(crate) struct Owned<T>(pub(crate) NonNull<T>, unsafe extern "C" fn(*mut T));

#[allow(unsafe_code)]
impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the function that pairs with this destructor, is not null,
        // and is destroyed once.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// Owns what a call gave.
///
/// # Errors
/// When it gave nothing.
pub(crate) fn owned<T>(
    pointer: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
) -> Result<Owned<T>, String> {
    NonNull::new(pointer)
        .map(|pointer| Owned(pointer, destroy))
        .ok_or_else(|| "librdkafka gave nothing".to_owned())
}

/// Asks a broker for a topic, and for this client's rights where they are wanted.
///
/// # Errors
/// When none answers within the time-out.
#[allow(unsafe_code)]
pub(crate) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    with_rights: bool,
    timeout: Duration,
) -> Result<Described, String> {
    let name = CString::new(topic).map_err(|error| error.to_string())?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // The request gives up first, so that its own words say why.
    let request_timeout_ms = timeout_ms / 4 * 3;
    let handle = client.native_ptr();
    // SAFETY: `handle` is valid while `client` is borrowed. Every pointer below is checked for
    // null and owned by a guard that outlives its use: the event is declared after the queue it
    // came from and is destroyed before it; the description, its strings and its array of
    // operations, of which `count` is the length, belong to the event and are copied before it is
    // destroyed. The name array lives through the call that copies it.
    unsafe {
        let queue = owned(sys::rd_kafka_queue_new(handle), sys::rd_kafka_queue_destroy)?;
        let options = owned(
            sys::rd_kafka_AdminOptions_new(
                handle,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            ),
            sys::rd_kafka_AdminOptions_destroy,
        )?;
        let mut text = [0; 256];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0.as_ptr(),
            request_timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        );
        if with_rights {
            // It fails only for options of another operation.
            let error =
                sys::rd_kafka_AdminOptions_set_include_authorized_operations(options.0.as_ptr(), 1);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
        }
        let mut names = [name.as_ptr()];
        let topics = owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        sys::rd_kafka_DescribeTopics(
            handle,
            topics.0.as_ptr(),
            options.0.as_ptr(),
            queue.0.as_ptr(),
        );
        let event = owned(
            sys::rd_kafka_queue_poll(queue.0.as_ptr(), timeout_ms),
            sys::rd_kafka_event_destroy,
        )
        .map_err(|_| "no answer in time".to_owned())?;
        match sys::rd_kafka_event_error(event.0.as_ptr()) {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            code => {
                let words = CStr::from_ptr(sys::rd_kafka_event_error_string(event.0.as_ptr()));
                return judge(code).map_err(|_| words.to_string_lossy().into_owned());
            }
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        if result.is_null() {
            return Ok(Described::Unsupported);
        }
        let mut count = 0;
        let described = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if described.is_null() || count == 0 {
            return Ok(Described::Unsupported);
        }
        let description = *described;
        let error = sys::rd_kafka_TopicDescription_error(description);
        match if error.is_null() {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            sys::rd_kafka_error_code(error)
        } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            code => return judge(code),
        }
        let uuid = sys::rd_kafka_TopicDescription_topic_id(description);
        let base64 = if uuid.is_null() {
            std::ptr::null()
        } else {
            sys::rd_kafka_Uuid_base64str(uuid)
        };
        let id = if base64.is_null() {
            String::new()
        } else {
            CStr::from_ptr(base64).to_string_lossy().into_owned()
        };
        let mut count = 0;
        let operations =
            sys::rd_kafka_TopicDescription_authorized_operations(description, &mut count);
        let rights = (with_rights && !operations.is_null() && count > 0)
            .then(|| rights(std::slice::from_raw_parts(operations, count)));
        Ok(Described::Topic { id, rights })
    }
}

fn rights(operations: &[sys::rd_kafka_AclOperation_t]) -> Rights {
    use sys::rd_kafka_AclOperation_t as Operation;
    let has = |wanted: Operation| operations.contains(&wanted);
    let all = has(Operation::RD_KAFKA_ACL_OPERATION_ALL);
    Rights {
        read: all || has(Operation::RD_KAFKA_ACL_OPERATION_READ),
        write: all || has(Operation::RD_KAFKA_ACL_OPERATION_WRITE),
        describe_configs: all || has(Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS),
    }
}

fn judge(code: Code) -> Result<Described, String> {
    match code {
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {
            Ok(Described::Absent)
        }
        Code::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
        | Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION => Ok(Described::Unsupported),
        code => Err(rdkafka::types::RDKafkaErrorCode::from(code).to_string()),
    }
}
