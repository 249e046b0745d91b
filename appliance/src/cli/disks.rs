//! `disks`: the array below the data folder.

pub(super) mod key;
mod make;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::show::{or_dash, size, table};
use super::{Context, Outcome};
use crate::control::Failed;
use crate::disks::choose::Own;
use crate::disks::facts::ListedDisk;
use crate::disks::state::{ArrayState, Health};
use crate::disks::{below, open, replace, running, smart, state_of, tools, wait};

/// Which array is meant.
#[derive(clap::Args)]
pub(super) struct Which {
    /// The array's id, or the beginning of it, where disks of several are in the machine. Without it, the one that was mounted as the data folder last.
    #[arg(long, value_name = "ID")]
    array: Option<String>,
}

impl Which {
    fn own(&self, context: &Context) -> Own {
        Own::of(&context.data, self.array.as_deref())
    }
}

#[derive(Subcommand)]
pub(super) enum DisksCommand {
    /// What disks this machine has, with serial numbers, and what is on them.
    List,
    /// What `disks make` would do with these disks: how much room there would be, and what would be lost. Changes nothing.
    Plan {
        #[command(flatten)]
        wish: make::Layout,
    },
    /// Make disks one array, encrypted, and mount it as the data folder (--data). What is on the disks is lost.
    ///
    /// Two disks become a mirror, three have single parity (one may be lost), four and more double parity (two may be lost). It asks first, unless --yes is said.
    /// Disks that are not empty are refused unless --overwrite is said, those of another array unless its id is typed (--give-up ID); disks in use always are. If it is broken off, run it again with the same disks: it begins anew. The recovery
    /// key is printed once: keep it where the box is not.
    Make {
        #[command(flatten)]
        wish: make::Layout,
        #[command(flatten)]
        keys: make::Keys,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Put the array together, decrypt it and mount it as the data folder (--data): at boot, before `serve`.
    ///
    /// The TPM is tried first, where it has a key. Also with a disk missing, after a wait for those that come late: `disks status` says which. It can be repeated. A box does not start in the folder while the array is not open.
    Open {
        #[command(flatten)]
        which: Which,
        /// How many seconds to wait for disks that come late, before the array is opened without them. Where all are here it opens at once.
        #[arg(long, value_name = "SECONDS", default_value_t = wait::DEFAULT_SECONDS)]
        wait: u64,
        /// File with a key; `-` for standard input. Without one, it is asked for at the terminal.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Unmount the array, close it, and let go of the disks. The box has to be stopped.
    Close {
        #[command(flatten)]
        which: Which,
    },
    /// How the array is: healthy, degraded, rebuilding; which disk failed, and what to do. The exit code is 4 where a disk is missing.
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Put a new disk into the array, in the place of one that is dead, is gone, or is to go.
    ///
    /// The box may serve meanwhile. If it was broken off, run it again: it goes on from there. A disk that still works is copied while it stays in use, so nothing is missing meanwhile; else the new one is rebuilt from the others.
    Replace {
        #[command(flatten)]
        which: Which,
        /// The disk that goes: its path, its serial number (as `disks status` says it), or `missing`.
        old: String,
        /// The new disk: its path or serial number.
        new: String,
        /// What is on the new disk may go.
        #[arg(long)]
        overwrite: bool,
    },
    /// Have all disks read and compared, slowly, beside everything else: what can't be read on one is mended from the others.
    Check {
        #[command(flatten)]
        which: Which,
    },
    /// Keys: what opens the array.
    Key {
        #[command(flatten)]
        which: Which,
        #[command(subcommand)]
        command: key::KeyCommand,
    },
}

pub(super) fn disks(context: &Context, command: DisksCommand) -> Outcome {
    match command {
        DisksCommand::List => list(context),
        DisksCommand::Plan { wish } => make::plan(context, &wish),
        DisksCommand::Make { wish, keys, yes } => make::make(context, &wish, &keys, yes),
        DisksCommand::Open { which, wait, key_file } => opened(context, &which, wait, key_file),
        DisksCommand::Close { which } => {
            tools::need_root()?;
            open::close(&which.own(context))?;
            done(context, "the array is closed")
        }
        DisksCommand::Status { which } => status(context, &which),
        DisksCommand::Replace { which, old, new, overwrite } => replaced(context, &which, &old, &new, overwrite),
        DisksCommand::Check { which } => check(context, &which),
        DisksCommand::Key { which, command } => key::key(context, &which, command),
    }
}

/// Says that something was done.
fn done(context: &Context, message: &str) -> Outcome {
    match context.json {
        true => super::out::verbatim(&format!("{:#}", json!({ "message": message }))),
        false => say!("{message}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(context: &Context) -> Outcome {
    let mut disks = tools::facts()?.listed();
    for disk in &mut disks {
        disk.health = smart::ask(&disk.path);
    }
    if context.json {
        super::out::verbatim(&format!("{:#}", json!({ "disks": disks })));
        return Ok(ExitCode::SUCCESS);
    }
    if disks.is_empty() {
        say!("this machine shows no disks");
        return Ok(ExitCode::SUCCESS);
    }
    let row = |disk: &ListedDisk| {
        let (serial, model) = (or_dash(disk.serial.clone()), or_dash(disk.model.clone()));
        vec![disk.path.clone(), size(disk.size_bytes), serial, model, disk.used.clone(), disk.health.says.clone()]
    };
    table(&["DISK", "SIZE", "SERIAL NUMBER", "MODEL", "HOLDS", "HEALTH"], &disks.iter().map(row).collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

fn opened(context: &Context, which: &Which, wait: u64, key_file: Option<PathBuf>) -> Outcome {
    tools::need_root()?;
    let wait = Duration::from_secs(wait);
    let device = key::asking(key_file.as_deref(), |asking| open::open(&which.own(context), wait, asking))?;
    let at = device.mounted.clone().unwrap_or_default();
    let state = state_of(&device);
    if context.json {
        super::out::verbatim(&format!("{:#}", json!({ "mounted": at, "array": state })));
        return Ok(ExitCode::SUCCESS);
    }
    say!("the array is open at {at}");
    state.iter().flat_map(|state| &state.advice).for_each(|advice| say!("  {advice}"));
    Ok(ExitCode::SUCCESS)
}

/// The array below the data folder, or else the one on this machine's disks.
fn array_state(context: &Context, which: &Which) -> Result<ArrayState, Failed> {
    if let (None, Some(state)) = (&which.array, below(&context.data)) {
        return Ok(state);
    }
    let array = which.own(context).choose(&tools::facts()?)?;
    let unknown = || Failed::environment("the kernel does not say how the array is");
    state_of(running(&array)?).ok_or_else(unknown)
}

fn status(context: &Context, which: &Which) -> Outcome {
    let state = array_state(context, which)?;
    let code = match state.degraded {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(super::DAMAGED),
    };
    if context.json {
        super::out::verbatim(&format!("{:#}", json!({ "array": state })));
        return Ok(code);
    }
    show(&state);
    Ok(code)
}

/// The word for how an array is.
pub(super) fn word(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Building => "building",
        Health::Checking => "checking",
        Health::Rebuilding => "rebuilding",
        Health::Degraded => "DEGRADED",
        Health::Broken => "BROKEN",
    }
}

fn show(state: &ArrayState) {
    let (word, disks) = (word(state.health), state.disks);
    say!("{word}: {disks} disks ({}, {}), {} may be lost in all", state.device, state.level, state.may_lose());
    state.advice.iter().for_each(|advice| say!("  {advice}"));
    match state.mismatch_bytes {
        Some(0) => say!("  the last check found the disks to agree"),
        Some(places) => say!(
            "  the last check found {} in which the disks do not agree; `narrowboat check --deep` tells whether that hit anything",
            size(places)
        ),
        None => say!("  whether the disks agree: not measured yet (`narrowboat disks check` does)"),
    }
    say!();
    let row = |member: &crate::disks::state::MemberState| {
        let slot = member.slot.map(|slot| slot.to_string());
        let gone = if member.present { "" } else { " (gone)" };
        let state = format!("{}{gone}", member.state.join(", "));
        vec![or_dash(slot), member.partition.clone(), or_dash(member.serial.clone()), state]
    };
    table(&["SLOT", "PARTITION", "SERIAL NUMBER", "STATE"], &state.members.iter().map(row).collect::<Vec<_>>());
}

fn replaced(context: &Context, which: &Which, old: &str, new: &str, overwrite: bool) -> Outcome {
    tools::need_root()?;
    let replaced = replace::replace(&which.own(context), old, new, overwrite)?;
    if context.json {
        let facts = json!({ "disk": replaced.disk, "already": replaced.already, "array": replaced.state });
        super::out::verbatim(&format!("{facts:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    match replaced.already {
        true => say!("{} is in the array already", replaced.disk),
        false => say!("{} is in the array now", replaced.disk),
    }
    replaced.state.iter().flat_map(|state| &state.advice).for_each(|advice| say!("  {advice}"));
    Ok(ExitCode::SUCCESS)
}

fn check(context: &Context, which: &Which) -> Outcome {
    tools::need_root()?;
    let state = array_state(context, which)?;
    if state.action != "idle" {
        let doing = state.advice.first().cloned().unwrap_or_else(|| state.action.clone());
        return Err(Failed::refused(format!("the array is busy: {doing}")));
    }
    let action = format!("{}/block/{}/md/sync_action", crate::disks::SYS, state.device);
    std::fs::write(&action, "check").map_err(|error| Failed::environment(format!("{action}: {error}")))?;
    done(context, "the disks are being compared; `narrowboat disks status` says how far it is")
}
