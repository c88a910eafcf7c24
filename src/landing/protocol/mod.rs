//! The landing protocol, pure: state and event in, state and actions out. The actors do the I/O,
//! and the same functions run in the model checker.

pub mod checkpoint;
