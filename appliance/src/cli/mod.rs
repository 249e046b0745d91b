//! The command line: one file a noun. Errors become prose here, and nowhere else.

#[macro_use]
mod out;

mod account;
mod args;
mod assess;
mod certificate;
mod check;
mod dataset;
mod disk;
mod disks;
mod limit;
mod lock;
mod network;
mod notice;
mod peer;
mod plan;
mod quarantine;
mod reclaim;
mod replication;
mod restore;
mod retention;
mod scrub;
mod serve;
mod setting;
mod setup;
mod show;
mod status;
mod time;
mod trends;

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde::de::DeserializeOwned;
use serde_json::Value;

use args::{Cli, Command};

use crate::config::Config;
use crate::control::{Failed, Request, client};
use crate::jobs::Progress;
use crate::units::{ByteSize, duration};

/// The exit code for damage.
const DAMAGED: u8 = 4;
/// The exit code of what was done although a hook failed.
const HOOK_FAILED: u8 = 5;

/// How a command ends: with a failure, or with an exit code.
type Outcome = Result<ExitCode, Failed>;

/// What every command needs to know.
struct Context {
    data: PathBuf,
    json: bool,
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let data = std::path::absolute(&cli.data).unwrap_or(cli.data);
    let context = Context { data, json: cli.json };
    let outcome = match cli.command {
        Command::Serve { config, create, setup } => serve::serve(&context, config.as_deref(), create, setup.as_deref()),
        Command::Setup { command } => setup::setup(&context, command),
        Command::PageWorker => Ok(crate::web::run()),
        Command::Status => status::status(&context),
        Command::Share(command) => dataset::share(&context, command),
        Command::Volume(command) => dataset::volume(&context, command),
        Command::Dataset(command) => dataset::dataset(&context, command),
        Command::Snapshot(command) => dataset::snapshot(&context, command),
        Command::Quarantine(command) => quarantine::quarantine(&context, command),
        Command::Window { dataset, keep, bytes, off } => time::window(&context, dataset, keep, bytes, off),
        Command::Mark { dataset, name, with, quiet, hooks } => time::mark(&context, dataset, name, with, quiet, hooks),
        Command::Thaw { hook, forget } => time::thaw(&context, hook, forget),
        Command::Timeline { dataset } => time::timeline(&context, dataset),
        Command::Rewind { dataset, to, new, force } => time::rewind(&context, dataset, to, new, force),
        Command::Clone { snapshot, name } => dataset::clone(&context, snapshot, name),
        Command::Diff { from, to } => dataset::diff(&context, from, to),
        Command::Restore { source, dest } => restore::restore(&context, source, &dest),
        Command::Peer(command) => peer::peer(&context, command),
        Command::Replicate { source, to, class, wait, explain } => {
            replication::replicate(&context, replication::Asked { source, peer: to, class, wait, explain })
        }
        Command::Plan(command) => plan::plan(&context, command),
        Command::Scrub(command) => scrub::scrub(&context, &command),
        Command::Retention(command) => retention::retention(&context, command),
        Command::Replication(command) => replication::replication(&context, command),
        Command::Limit { peer, explain: true, .. } => limit::explain(&context, peer),
        Command::Limit { peer, rate, seconds, calendar, resume, as_configured, receive, explain: false } => {
            limit::limit(&context, limit::Wish { peer, rate, seconds, calendar, resume, as_configured, receive })
        }
        Command::Probe { peer } => peer::probe(&context, peer),
        Command::Check { deep } => check::check(&context, deep),
        Command::Reclaim { dry_run } => reclaim::reclaim(&context, dry_run),
        Command::Disks(command) => disks::disks(&context, command),
        Command::Account(command) => account::account(&context, command),
        Command::Audit { before, limit } => account::audit(&context, before, limit),
        Command::Notice(command) => notice::notice(&context, command),
        Command::Certificate { command } => certificate::certificate(&context, command),
        Command::Network(command) => network::network(&context, command),
        Command::Setting(command) => setting::setting(&context, command),
        Command::Assess(asked) => assess::assess(&context, asked),
        Command::Trends { span } => trends::trends(&context, span),
        Command::Restart => setting::restart(&context),
        Command::Stop => serve::stop(&context),
    };
    outcome.unwrap_or_else(|failed| {
        if context.json {
            eprintln!("{}", serde_json::json!({ "error": failed }));
        } else {
            eprintln!("narrowboat: {failed}");
        }
        ExitCode::from(match failed.kind.as_str() {
            "absent" => 3,
            "damage" => 4,
            _ => 1,
        })
    })
}

impl Context {
    /// Asks the running box. With `--json`, prints the answer as it is and returns `None`.
    fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<Option<T>, Failed> {
        let mut line = ProgressLine::default();
        let value = client::ask(&self.data, request, &mut |progress| line.show(&progress));
        line.clear();
        self.answer(value?)
    }

    /// Asks the running box and shows the answer, as JSON where that was asked for.
    fn ask_and_show<T: DeserializeOwned>(&self, request: &Request, show: impl FnOnce(&T)) -> Result<T, Failed> {
        let mut line = ProgressLine::default();
        let value = client::ask(&self.data, request, &mut |progress| line.show(&progress));
        line.clear();
        let value = value?;
        let report = self.understood(value.clone())?;
        match self.json {
            true => out::verbatim(&format!("{value:#}")),
            false => show(&report),
        }
        Ok(report)
    }

    fn understood<T: DeserializeOwned>(&self, value: Value) -> Result<T, Failed> {
        serde_json::from_value(value).map_err(|error| {
            Failed::of("environment", format!("the box is of another version than this program ({error}); restart it"))
        })
    }

    /// Prints an answer as JSON where that was asked for, or returns it to be shown.
    fn answer<T: DeserializeOwned>(&self, value: Value) -> Result<Option<T>, Failed> {
        if self.json {
            out::verbatim(&format!("{value:#}"));
            return Ok(None);
        }
        self.understood(value).map(Some)
    }

    fn config(&self, file: Option<&Path>) -> Result<Config, Failed> {
        Config::load(file, &self.data).map_err(|error| Failed::refused(error.to_string()))
    }

    /// Does something with the store itself where no box runs in the data folder.
    fn with_store(
        &self,
        work: impl FnOnce(&narrowboat_storage::Store, &mut dyn FnMut(Progress)) -> Result<Value, Failed>,
    ) -> Result<Value, Failed> {
        if !self.data.join("store.format").exists() {
            return Err(Failed::refused(format!("there is no box in {}", self.data.display())));
        }
        let config = self.config(None)?;
        let (store, _) = crate::node::open_store(&self.data, &config)?;
        let mut line = ProgressLine::default();
        let value = work(&store, &mut |progress| line.show(&progress));
        line.clear();
        value
    }
}

/// One line at the terminal's bottom that says how far something is.
#[derive(Default)]
struct ProgressLine {
    shown: bool,
}

impl ProgressLine {
    fn show(&mut self, progress: &Progress) {
        if !stderr().is_terminal() {
            return;
        }
        let count = |units: u64| match progress.unit.as_str() {
            "bytes" => ByteSize(units).to_string(),
            unit => format!("{units} {unit}"),
        };
        let of = progress.total.map(|total| format!(" of {}", count(total))).unwrap_or_default();
        let left = progress.seconds_left.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
        let rate = count(progress.per_second as u64);
        eprint!("\r\x1b[K{}: {}{of}, {rate}/s{left}", progress.what, count(progress.done));
        let _ = stderr().flush();
        self.shown = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}
