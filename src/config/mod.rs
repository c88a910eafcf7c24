//! Configuration: what is written (every key optional, unknown ones refused) becomes what is
//! valid ([`Config`]), or the list of all its mistakes.

pub mod valid;

pub use valid::*;
