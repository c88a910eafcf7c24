//! Work off the actors' thread.

use crate::fault::{self, Step};

/// The runtime ends, and with it all work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was cancelled, its runtime ends")]
pub struct Cancelled;

/// Does a step of CPU work off the actors' thread; its panic becomes the actor's.
///
/// # Errors
/// Those of the work; [`Cancelled`] when the runtime ends.
pub(crate) async fn on_cpu<T, E>(
    step: Step,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Cancelled> + fault::Planned + Send + 'static,
{
    // A fault strikes here and not on the thread, which nothing could end if it hung.
    fault::within(step, || async move { off_thread(work).await? }).await
}

/// Does something that blocks off the actors' thread; its panic becomes the actor's.
///
/// # Errors
/// When the runtime ends.
#[allow(clippy::disallowed_methods, reason = "who calls it names the step")]
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Cancelled> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(payload) => std::panic::resume_unwind(payload),
            Err(_) => Err(Cancelled),
        },
    }
}

/// The same for who is in no actor's place, and has nothing to say when the runtime ends.
pub(crate) async fn off_thread_or_never<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match off_thread(work).await {
        Ok(value) => value,
        Err(Cancelled) => std::future::pending().await,
    }
}

impl From<Cancelled> for rdkafka::error::KafkaError {
    fn from(_: Cancelled) -> Self {
        Self::Canceled
    }
}

impl From<Cancelled> for String {
    fn from(cancelled: Cancelled) -> Self {
        cancelled.to_string()
    }
}
