//! The `session-checker` command.

fn main() {}
