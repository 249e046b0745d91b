//! `disks key`: what opens the array.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Subcommand;
use serde_json::json;

use super::super::show::{or_dash, table};
use super::super::{Context, Outcome};
use super::Which;
use crate::control::Failed;
use crate::disks::keys::{self, Asking, Auth};
use crate::disks::luks::{Header, Key, Kind, recovery_key};
use crate::disks::tools::{self, Secret};
use crate::disks::{running, tpm};

/// The TPM's registers that count where nobody says otherwise.
pub(super) const REGISTERS: &str = "7";

/// The shortest passphrase.
const SHORTEST: usize = 12;

/// How it may be proved that somebody may change keys, and what he needs for it.
#[derive(clap::Args)]
pub(in crate::cli) struct Proof {
    /// File with a key that the array has; `-` for standard input. Without one, the TPM opens it, where it has a key, or it is asked for.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with the new passphrase.
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
    /// Registers of the TPM that must be as they are now for it to open the array.
    #[arg(long, value_name = "PCRS", default_value = REGISTERS)]
    tpm_pcrs: String,
}

/// What can be rotated.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Rotated {
    /// The key that the TPM has sealed; also after its registers have changed.
    Tpm,
    /// The passphrase in --key-file, for that in --new-key-file.
    Passphrase,
    /// The recovery key: a new one is printed.
    Recovery,
    /// The data key: all data is encrypted anew, while the box works on. It takes a --key-file, and hours.
    Data,
}

#[derive(Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// What keys the array has: slot, kind, when it was made.
    List,
    /// Add a key: it opens the array as those that are there do.
    Add {
        /// What it is to be.
        kind: Kind,
        #[command(flatten)]
        proof: Proof,
    },
    /// Put a new key in the place of an old one, which does not open the array any more; or encrypt all data anew.
    ///
    /// Who once had a key and a copy of the disks' headers can open what is on them with the old key, for the data is encrypted with the same data key as before. `rotate data` ends that: all is encrypted anew. It goes on
    /// where it was when it is run again after a break.
    Rotate {
        /// What is to be new.
        what: Rotated,
        #[command(flatten)]
        proof: Proof,
    },
    /// Remove a key. The last one that a person has stays.
    Remove {
        /// Its slot, as `disks key list` shows it.
        slot: u32,
    },
}

/// How often a key is asked for at a terminal.
const TRIES: u32 = 3;

pub(in crate::cli) fn key(context: &Context, which: &Which, command: KeyCommand) -> Outcome {
    tools::need_root()?;
    tools::need(&["cryptsetup"])?;
    let array = which.own(context).choose(&tools::facts()?)?;
    let device = running(&array)?;
    if device.holds.as_deref() != Some("crypto_LUKS") {
        return Err(Failed::refused("the array is not encrypted: it has no keys"));
    }
    let device = device.path.as_str();
    let goes_on = matches!(command, KeyCommand::List | KeyCommand::Rotate { what: Rotated::Data, .. });
    if !goes_on && keys::header(device)?.reencrypting {
        return Err(Failed::refused(
            "the data is being encrypted anew, which keeps one key alone: let that come to its end first (`narrowboat disks key rotate data`)",
        ));
    }
    match command {
        KeyCommand::List => list(context, &keys::header(device)?),
        KeyCommand::Add { kind, proof } => add(context, device, kind, &proof),
        KeyCommand::Rotate { what, proof } => rotate(context, device, what, &proof),
        KeyCommand::Remove { slot } => {
            keys::remove(device, slot)?;
            super::done(context, &format!("the key of slot {slot} does not open the array any more"))
        }
    }
}

/// A key from a file, from standard input, or typed at the terminal.
pub(super) fn read(file: Option<&Path>) -> Result<Secret, Failed> {
    match file {
        Some(file) => Secret::read(file),
        None if stdin().is_terminal() => typed("Key of the array: "),
        None => {
            Err(Failed::refused("a key is needed: name a file with --key-file, or `--key-file -` for standard input"))
        }
    }
}

/// Works with keys that are given: the one of a file, once; or those that somebody types, until he has typed it right.
pub(super) fn asking<T>(file: Option<&Path>, work: impl FnOnce(&mut Asking) -> Result<T, Failed>) -> Result<T, Failed> {
    let mut ask = || read(file);
    let tries = if file.is_none() && stdin().is_terminal() { TRIES } else { 1 };
    work(&mut Asking { ask: &mut ask, tries, given: file.is_some() })
}

/// A key of the array, by which keys may be changed. What is typed is tried first; what a file has is tried where it is used.
fn own(device: &str, file: Option<&Path>) -> Result<Secret, Failed> {
    asking(file, |asking| {
        let sure = asking.tries == 1;
        keys::until_right(asking, &mut |secret| {
            Ok((sure || keys::find_slot(device, &secret)?.is_some()).then_some(secret))
        })
    })
}

/// A new passphrase, from a file or typed twice.
pub(super) fn new(file: Option<&Path>) -> Result<Secret, Failed> {
    if file.is_some() || !stdin().is_terminal() {
        return long_enough(read(file)?);
    }
    for _ in 0..TRIES {
        let first = long_enough(typed("New passphrase: ")?)?;
        if first.is(&typed("The same once more: ")?) {
            return Ok(first);
        }
        eprintln!("narrowboat: these were two different ones; once more");
    }
    Err(Failed::refused("no passphrase was typed twice alike"))
}

/// Asks at the terminal, which does not show what is typed.
pub(in crate::cli) fn typed(prompt: &str) -> Result<Secret, Failed> {
    let terminal = |word: &str| {
        let done = Command::new("stty").arg(word).stdin(Stdio::inherit()).status();
        done.is_ok_and(|status| status.success())
    };
    if !terminal("-echo") {
        return Err(Failed::environment("the terminal would show the key: name a file with --key-file"));
    }
    eprint!("{prompt}");
    let _ = stderr().flush();
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line);
    terminal("echo");
    eprintln!();
    read.map_err(|error| Failed::environment(format!("the terminal: {error}")))?;
    let key = line.trim_end_matches(['\r', '\n']).to_owned();
    match key.is_empty() {
        true => Err(Failed::refused("no key was typed")),
        false => Ok(Secret::new(key.into_bytes())),
    }
}

/// Prints a recovery key, the only time that it is seen.
pub(super) fn show_recovery(key: &str) {
    say!();
    say!("    RECOVERY KEY    {key}");
    say!();
    say!(
        "It opens the array when nothing else does, and is not shown again. Write it down, and keep it where the box is not."
    );
    say!();
}

fn list(context: &Context, header: &Header) -> Outcome {
    if context.json {
        let facts = json!({ "keys": header.keys, "renewing": header.reencrypting });
        super::super::out::verbatim(&format!("{facts:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |key: &Key| vec![key.slot.to_string(), kind(key).to_owned(), or_dash(key.made.clone())];
    table(&["SLOT", "KIND", "MADE"], &header.keys.iter().map(row).collect::<Vec<_>>());
    if header.reencrypting {
        say!(
            "the data is being encrypted anew, or that was broken off: `narrowboat disks key rotate data` goes on with it"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn kind(key: &Key) -> &'static str {
    match key.kind {
        Some(Kind::Tpm) => "tpm",
        Some(Kind::Passphrase) => "passphrase",
        Some(Kind::Recovery) => "recovery",
        None => "made by another program",
    }
}

/// Does something with a proof: the key that was given, or else the TPM.
fn with_auth<T>(device: &str, proof: &Proof, work: impl FnOnce(&Auth) -> Result<T, Failed>) -> Result<T, Failed> {
    let by_tpm = proof.key_file.is_none() && keys::header(device)?.of_kind(Kind::Tpm).next().is_some();
    match by_tpm {
        true => work(&Auth::Tpm),
        false => work(&Auth::Secret(&own(device, proof.key_file.as_deref())?)),
    }
}

/// A passphrase, if it is not too easily guessed.
fn long_enough(passphrase: Secret) -> Result<Secret, Failed> {
    match passphrase.bytes() >= SHORTEST {
        true => Ok(passphrase),
        false => Err(Failed::refused(format!("the passphrase is too short: take {SHORTEST} characters or more"))),
    }
}

fn new_passphrase(proof: &Proof) -> Result<Secret, Failed> {
    match &proof.new_key_file {
        Some(file) => long_enough(Secret::read(file)?),
        None => Err(Failed::refused("the new passphrase is needed: name a file with --new-key-file")),
    }
}

fn add(context: &Context, device: &str, kind: Kind, proof: &Proof) -> Outcome {
    match kind {
        Kind::Tpm => {
            seal(device, proof)?;
            super::done(context, "the TPM opens the array from now on")
        }
        Kind::Passphrase => {
            let new = new_passphrase(proof)?;
            let slot = with_auth(device, proof, |auth| keys::add(device, auth, &new, kind))?;
            super::done(context, &format!("the new passphrase is in slot {slot}"))
        }
        Kind::Recovery => recovery(context, device, proof, &[]),
    }
}

/// Has the TPM seal a key. That takes a key that is no TPM's.
fn seal(device: &str, proof: &Proof) -> Result<(), Failed> {
    tpm::needed()?;
    tpm::seal(device, &own(device, proof.key_file.as_deref())?, &proof.tpm_pcrs)
}

fn recovery(context: &Context, device: &str, proof: &Proof, old: &[u32]) -> Outcome {
    let text = recovery_key(rand::random());
    let new = Secret::new(text.clone().into_bytes());
    let mut tell = || print_recovery(context, &text);
    with_auth(device, proof, |auth| keys::exchange(device, auth, &new, Kind::Recovery, old, &mut tell))?;
    Ok(ExitCode::SUCCESS)
}

fn print_recovery(context: &Context, text: &str) {
    match context.json {
        true => super::super::out::verbatim(&format!("{:#}", json!({ "recovery_key": text }))),
        false => show_recovery(text),
    }
}

fn rotate(context: &Context, device: &str, what: Rotated, proof: &Proof) -> Outcome {
    match what {
        Rotated::Tpm => {
            seal(device, proof)?;
            super::done(context, "the TPM has a new key, and the array as it is now opens with it")
        }
        Rotated::Recovery => {
            let old: Vec<u32> = keys::header(device)?.of_kind(Kind::Recovery).map(|key| key.slot).collect();
            recovery(context, device, proof, &old)
        }
        Rotated::Passphrase => {
            let (old, new) = (own(device, proof.key_file.as_deref())?, new_passphrase(proof)?);
            let slot = keys::slot_of(device, &old)?;
            keys::exchange(device, &Auth::Secret(&old), &new, Kind::Passphrase, &[slot], &mut || {})?;
            super::done(context, "the new passphrase opens the array, and the old one does not any more")
        }
        Rotated::Data => {
            let secret = own(device, proof.key_file.as_deref())?;
            let recovery = keys::renew_data(device, &secret, &proof.tpm_pcrs)?;
            if let Some(text) = &recovery {
                print_recovery(context, text);
            }
            match (context.json, recovery) {
                (true, Some(_)) => Ok(ExitCode::SUCCESS),
                _ => super::done(
                    context,
                    "all data is encrypted anew, under another data key; passphrases other than the key that was given are gone: add them again",
                ),
            }
        }
    }
}
