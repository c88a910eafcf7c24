//! The local socket of a running process, and those who ask over it: `groundtrack status` and
//! `groundtrack reload`.
//!
//! `place` says where the socket is, `socket` makes it and takes it away, `server` answers on it
//! as a group of its own, `client` asks, and `protocol` is what they say to each other; `screen`
//! and `watch` show the answer, `journal` what is left where there is none. Who may ask is decided
//! by the permissions of the socket and its folder alone.

pub mod client;
pub(crate) mod command;
pub mod journal;
pub mod place;
mod protocol;
pub mod screen;
mod server;
mod socket;
#[cfg(test)]
mod tests;
pub mod watch;

use crate::supervisor::reload::Reloader;
use crate::supervisor::{Group, GroupName};
use place::Surroundings;

/// The group that answers on the socket.
pub fn group(surroundings: Surroundings, reloader: Reloader) -> Group {
    Group::new(GroupName::Control, move |generation| {
        server::run(generation, surroundings.clone(), reloader.clone())
    })
}
