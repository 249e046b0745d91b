//! Numbers that can be repeated: the corpus, one bench a stage, the report.

fn main() {}
