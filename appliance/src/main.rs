//! The box: front doors, jobs, people. One binary; see `narrowboat help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    narrowboat::cli::run()
}
