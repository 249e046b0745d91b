//! `disks plan` and `disks make`.

use std::io::{BufRead, IsTerminal, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::super::show::{or_dash, size, table};
use super::super::{Context, Outcome};
use super::key;
use crate::control::Failed;
use crate::disks::layout::Redundancy;
use crate::disks::luks::recovery_key;
use crate::disks::make::{self, Given};
use crate::disks::plan::{self, ArrayId, Chosen, FirstKey, Plan, Step, Wish};
use crate::disks::tools::{self, Secret};

#[derive(clap::Args)]
pub(in crate::cli) struct Layout {
    /// Disks, by path or serial number.
    #[arg(required = true, value_name = "DISK")]
    disks: Vec<String>,
    /// How it survives the loss of disks, where that is not to follow from their number.
    #[arg(long, value_enum)]
    redundancy: Option<Redundancy>,
    /// What opens it: this machine's TPM by itself, a passphrase or key file that is given at boot, or nothing (not encrypted).
    #[arg(long, value_parser = ["tpm", "passphrase", "none"], default_value = "passphrase")]
    key: String,
    /// What is on the disks may go.
    #[arg(long)]
    overwrite: bool,
    /// The array that is on the disks may go, with all that it holds: its id, or the beginning of it. Nothing else gives an array up.
    #[arg(long, value_name = "ID")]
    give_up: Vec<String>,
}

#[derive(clap::Args)]
pub(in crate::cli) struct Keys {
    /// File with the passphrase; `-` for standard input. Without one, it is asked for at the terminal.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Registers of the TPM that must be as they are now for it to open the array (7: which software may boot).
    #[arg(long, value_name = "PCRS", default_value = key::REGISTERS)]
    tpm_pcrs: String,
}

fn planned(layout: &Layout) -> Result<Plan, Failed> {
    let key = match layout.key.as_str() {
        "tpm" => FirstKey::Tpm,
        "none" => FirstKey::None,
        _ => FirstKey::Passphrase,
    };
    let wish = Wish {
        disks: layout.disks.clone(),
        redundancy: layout.redundancy,
        key,
        overwrite: layout.overwrite,
        give_up: layout.give_up.clone(),
    };
    plan::make(&tools::facts()?, &wish, ArrayId(rand::random())).map_err(Failed::refused)
}

pub(in crate::cli) fn plan(context: &Context, layout: &Layout) -> Outcome {
    let plan = planned(layout)?;
    match context.json {
        true => super::super::out::verbatim(&format!("{:#}", facts(&plan))),
        false => show(&plan),
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(plan: &Plan) -> Value {
    json!({
        "disks": plan.disks,
        "redundancy": plan.layout.redundancy,
        "may_lose": plan.layout.may_lose(),
        "member_bytes": plan.member_bytes,
        "usable_bytes": plan.usable_bytes,
        "encrypted": plan.key != FirstKey::None,
        "notices": plan.notices,
        "steps": plan.steps.iter().map(Step::to_string).collect::<Vec<_>>(),
    })
}

fn show(plan: &Plan) {
    let row = |disk: &Chosen| {
        let loses = disk.loses.clone().unwrap_or_else(|| "nothing".into());
        vec![disk.path.clone(), size(disk.size_bytes), or_dash(disk.serial.clone()), loses]
    };
    table(&["DISK", "SIZE", "SERIAL NUMBER", "LOSES"], &plan.disks.iter().map(row).collect::<Vec<_>>());
    say!();
    let lost = match plan.layout.may_lose() {
        0 => "no disk may be lost".to_owned(),
        1 => "any one disk may be lost".to_owned(),
        disks => format!("any {disks} disks may be lost"),
    };
    say!("{} with about {} of room: {lost}", plan.layout.redundancy.name(), size(plan.usable_bytes));
    plan.notices.iter().for_each(|notice| say!("NOTICE: {notice}"));
    say!();
    plan.steps.iter().enumerate().for_each(|(number, step)| say!("{:>3}. {step}", number + 1));
}

pub(in crate::cli) fn make(context: &Context, layout: &Layout, keys: &Keys, yes: bool) -> Outcome {
    tools::need_root()?;
    let plan = planned(layout)?;
    let recovery = (plan.key != FirstKey::None).then(|| recovery_key(rand::random()));
    let passphrase = match plan.key {
        FirstKey::Passphrase => Some(key::new(keys.key_file.as_deref())?),
        FirstKey::Tpm | FirstKey::None => None,
    };
    let given = Given {
        data: &context.data,
        passphrase,
        recovery: recovery.clone().map(|key| Secret::new(key.into_bytes())),
        tpm_registers: keys.tpm_pcrs.clone(),
    };
    make::ready(&plan, &given)?;
    if !yes {
        confirm(&plan)?;
    }
    make::make(&plan, &given, &mut |step| {
        // The mark comes last: who has not seen this key has no array that counts.
        if let (Step::Finish, false, Some(key)) = (step, context.json, &recovery) {
            key::show_recovery(key);
        }
        if !context.json {
            say!("{step} ...");
        }
    })?;
    match context.json {
        true => {
            let made = json!({ "mounted": context.data, "plan": facts(&plan), "recovery_key": recovery });
            super::super::out::verbatim(&format!("{made:#}"));
        }
        false => say!("the array is made, and open at {}", context.data.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for words that nobody types by mistake.
fn confirm(plan: &Plan) -> Result<(), Failed> {
    if !stdin().is_terminal() {
        return Err(Failed::refused(
            "all that is on these disks would be lost: say --yes, or run it at a terminal to be asked",
        ));
    }
    show(plan);
    let words = format!("erase {} disks", plan.disks.len());
    say!();
    say!("All that is on these disks will be lost. Type `{words}` to go on:");
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    match read.is_ok() && line.trim() == words {
        true => Ok(()),
        false => Err(Failed::refused("nothing was done")),
    }
}
