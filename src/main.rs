//! The `groundtrack` command: arguments in, exit code out.

/// librdkafka allocates on one thread and frees on another, which costs the system's allocator a
/// third of the CPU in locks; `override` replaces malloc for the C code as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {}
