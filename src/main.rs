//! The `permfs` command.

fn main() {}
