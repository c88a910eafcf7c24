//! The landing protocol in an explicit-state model: writers, a store and a log take every step in
//! every order, and what must hold is looked at in each state that comes of it.
//!
//! What is run are the functions of `landing::protocol` that the actors run: `Claim`, `Work`,
//! `Passage` with `Upload`, `Swap`, the keys and the footers. The model has only what lies
//! outside of them:
//! - [`world`]: the store (create-only, compare-and-swap on an ETag that is a hash of the content,
//!   puts that take effect long after their writer gave them up or died), Kafka's log (holes,
//!   retention, a topic made anew), and the objects as sets of offsets with their footers;
//! - [`writer`]: a process: the messages between its stages, a request under way, what it believes
//!   of its assignment;
//! - [`model`]: who may do what next, how many faults there may be, and the faults themselves:
//!   crash, answer lost, put late, rebalance, a writer that has not heard of it, retention, the
//!   operator's word, a topic made anew, a checkpoint deleted, a stranger's object;
//! - [`invariants`]: what must hold in every state;
//! - [`configurations`]: what is run, and within which bounds;
//! - [`seeded`]: variants of the protocol, each of which loses or doubles a record, or stands
//!   still: that the model finds them is what says that it looks at the right things.
//!
//! Bounds: one partition, up to four offsets, up to two data keys, as many faults and claims as a
//! configuration says. An I/O is one step (a request whose answer is delayed is the same as the
//! next request being delayed); a block is absorbed into a batch of its own, so that batches are
//! cut anywhere; time does not pass (ages, delays and jitter only choose the order, and every
//! order is taken). Not modelled: the reader's second look at jumps, memory, encoding, the choice
//! of the start, the probe of the store's conditions, partitions beside each other (they share
//! nothing but a listing).
//!
//! Liveness is checked as "always able to go on": from every state, once the faults cease, the
//! owner's next steps in a fixed order land all that the log holds, or stop for a cause that an
//! injected fault explains. `eventually` would not do: a duel of two writers is an endless path
//! that real time breaks, and it says nothing of states on a cycle. Each state's continuation is
//! followed until it meets one that was followed before, so that it costs about one step a state.
//!
//! `cargo test --test model` runs the small bounds. The long form:
//! `GROUNDTRACK_MODEL=long cargo test --test model -- --nocapture`.

mod configurations;
mod invariants;
mod model;
mod seeded;
mod world;
mod writer;
