//! `setup`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::account::PasswordFile;
use super::show::table;
use super::{Context, Outcome};
use crate::accounts;
use crate::control::reports::{SetUpBegun, SetUpState};
use crate::control::{Failed, Request};
use crate::setup::apply::Outcome as Part;
use crate::setup::{FILE_BYTES_MAX, SetUp};

#[derive(Subcommand)]
pub(super) enum SetupCommand {
    /// Say what became of the last set-up.
    Show,
    /// Read a set-up file and say what is wrong with it. No box is needed for that.
    Check {
        /// The file; `-` for standard input.
        file: PathBuf,
    },
    /// Have the box do what a set-up file says.
    ///
    /// What is there already as the file has it is left alone, so that a file can be applied again after something failed. Where it changes settings, the box starts
    /// again and does the rest after that.
    Apply {
        /// The file; `-` for standard input.
        file: PathBuf,
    },
    /// Print the hash of a password, for `administrator.password_hash` of a set-up file. No box is needed for that.
    Hash {
        /// Whose password it is.
        user: String,
        #[command(flatten)]
        password: PasswordFile,
    },
}

pub(super) fn setup(context: &Context, command: SetupCommand) -> Outcome {
    match command {
        SetupCommand::Show => {
            if let Some(state) = context.ask::<SetUpState>(&Request::SetUpShow)? {
                if state.applying {
                    say!("a set-up is being done");
                }
                show(&state.outcomes);
            }
        }
        SetupCommand::Check { file } => {
            let set_up = read(&file)?;
            match context.json {
                true => super::out::verbatim(&format!("{:#}", serde_json::json!(set_up))),
                false => say!("this set-up file is sound"),
            }
        }
        SetupCommand::Apply { file } => {
            let set_up = Box::new(read(&file)?);
            if let Some(begun) = context.ask::<SetUpBegun>(&Request::SetUpApply { set_up, typed: false })? {
                if begun.restarting {
                    say!(
                        "the box starts again with its new settings, and does the rest then: `narrowboat setup show` says what became of it"
                    );
                }
                show(&begun.outcomes);
                return Ok(ExitCode::from(u8::from(begun.outcomes.iter().any(|part| part.problem.is_some()))));
            }
        }
        SetupCommand::Hash { user, password } => {
            let hash = accounts::hash_for(&user, &password.read()?)?;
            say!("{hash}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a set-up file.
pub(super) fn read(file: &Path) -> Result<SetUp, Failed> {
    let environment = |error: std::io::Error| Failed::environment(format!("{} can't be read: {error}", file.display()));
    let mut text = String::new();
    let bytes = FILE_BYTES_MAX as u64 + 1;
    match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(bytes).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|opened| opened.take(bytes).read_to_string(&mut text)),
    }
    .map_err(environment)?;
    SetUp::read(&text)
}

fn show(parts: &[Part]) {
    let row = |part: &Part| vec![part.what.clone(), part.problem.clone().unwrap_or_else(|| "done".into())];
    if parts.is_empty() {
        return;
    }
    table(&["PART", "OUTCOME"], &parts.iter().map(row).collect::<Vec<_>>());
}
