//! foretoken
fn main() {}
