//! How one actor reaches another: each message is a step.

use std::fmt;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, MailboxError, Message, Recipient};

use super::{Step, on_thread, within};
use crate::messages::Gone;
use crate::status::Pulse;

/// The way of one kind of message to one actor.
pub struct Way<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    step: Step,
    to: Recipient<M>,
}

impl<M> Way<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// A way that is this step.
    pub fn new<A>(step: Step, to: &Addr<A>) -> Self
    where
        A: Actor + Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        let to = to.clone().recipient();
        Self { step, to }
    }

    /// Sends a message and awaits its reply: that is the backpressure. It is in the mailbox when
    /// this returns, whenever the future is polled.
    ///
    /// # Errors
    /// When the other actor has ended.
    pub fn send(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, MailboxError>> + use<M> {
        let to = self.to.clone();
        within(self.step, move || to.send(message))
    }

    /// The same; while the reply is awaited, and only then, the sender waits for this.
    ///
    /// # Errors
    /// When the other actor has ended.
    pub fn send_waiting(
        &self,
        message: M,
        pulse: &Arc<Pulse>,
        what: &'static str,
    ) -> impl Future<Output = Result<M::Result, MailboxError>> + use<M> {
        let (to, pulse) = (self.to.clone(), pulse.clone());
        within(self.step, move || {
            pulse.waits(what);
            let sent = to.send(message);
            async move {
                let answer = sent.await;
                pulse.works();
                answer
            }
        })
    }
}

impl<M> Way<M>
where
    M: Message<Result = ()> + Send + 'static,
{
    /// Leaves a message in the mailbox, here and now: it keeps its order with those before and
    /// behind it.
    ///
    /// # Errors
    /// When the other actor has ended.
    pub fn tell(&self, message: M) -> Result<(), Gone> {
        on_thread(self.step, || {
            self.to.do_send(message);
            self.to.connected().then_some(()).ok_or(Gone)
        })
    }
}

impl<M> Clone for Way<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        let (step, to) = (self.step, self.to.clone());
        Self { step, to }
    }
}

impl<M> fmt::Debug for Way<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Way({:?})", self.step)
    }
}
