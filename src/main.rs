//! The `quince` program.
fn main() {}
