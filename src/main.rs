//! The `quantscope` binary.

fn main() {}
