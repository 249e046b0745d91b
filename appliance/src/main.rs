//! The box: front doors, jobs, people.

fn main() {}
