//! Prints the table that the average chunk size was chosen by; see `docs/decisions/0002-chunk-size.md`.

use std::path::PathBuf;
use std::process::ExitCode;

#[path = "../chunk_size.rs"]
mod chunk_size;

/// `chunk-size DAY1 [DAY2 …]`: folders that are backed up one after the other.
fn main() -> ExitCode {
    let days: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if days.is_empty() {
        eprintln!("usage: chunk-size DAY1 [DAY2 …], folders that are backed up one after the other");
        return ExitCode::from(2);
    }
    match chunk_size::run(&days) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
