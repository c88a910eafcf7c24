//! What lies in the folders of a bucket: every object by paged listing, in order whatever their
//! number, and what an object says of itself, read with as few requests as that takes. It judges
//! nothing.
//!
//! [`listing`] asks, [`sorted`] puts in order, [`object`] reads.

pub mod listing;
pub mod object;
pub mod sorted;

pub use self::listing::{answered, each_page, folders_of};
pub use self::object::{Amount, Opened, Rows, RowsError, Said, open};
pub use self::sorted::{Entry, Sorted, Sorter};
