//! The demo: everything that the service needs, embedded in one process. The data goes through the
//! same actors as in `run`.

pub mod broker;
pub mod open_notify;
mod orbit;
