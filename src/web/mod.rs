//! The page's group.

use crate::generation::{End, Failure, Generation};

/// Runs one generation of the page.
pub async fn run(generation: Generation) -> Result<End, Failure> {
    generation.drain.cancelled().await;
    Ok(End::Drained)
}
