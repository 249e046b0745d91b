//! The key of an array that this machine's TPM has sealed: made, exchanged, and what it means that it does not open the array.
//!
//! `systemd-cryptenroll` seals it, and does nothing where the header has a TPM's token for the same state of the registers: also for one that another board's TPM has sealed. So the tokens of
//! before are *set aside* while it works (their slots keep a token of ours that says `tpm`), go when the new key was tried, and are put back where there is none. A break in between leaves an array that another key opens, and the same command once more.

use std::path::Path;

use super::keys;
use super::luks::{self, Header, Kind};
use super::tools::{Ended, Secret, need, run, run_with, try_run};
use crate::control::Failed;
use crate::units::rfc3339;

/// By which node the kernel shows a TPM.
const NODE: &str = "/dev/tpmrm0";

/// Whether the kernel knows of a TPM 2.0.
pub(super) fn is_there() -> bool {
    Path::new(NODE).exists()
}

/// What it means that the TPM did not open the array: a sentence where another key does, and a failure where none would.
pub(super) fn said(there: bool, ended: &Ended) -> Result<String, Failed> {
    let complaint = &ended.complaint;
    match ended.code {
        3 | keys::NO_DEVICE | keys::BUSY => {
            let code = Ended { code: ended.code, out: Vec::new(), complaint: complaint.clone() };
            keys::ended_well(code, "the array does not open").map(|()| String::new())
        }
        _ if there && complaint.contains("lockout") => Ok(format!(
            "this machine's TPM gives no key for now: it locks itself for a while (minutes to hours, with the power on) after power cuts in a row, or wrong tries ({complaint}). \
             Wait and try again, or give another key; nothing has to be sealed anew"
        )),
        _ if !there => Ok("the array has a key in a TPM, and this machine has no TPM 2.0 that the kernel knows (another board, or switched off in the firmware's setup?): another key is needed".into()),
        _ => Ok(format!(
            "this machine's TPM does not give its key: it is another one than the key was sealed by, or its registers have changed, as by new firmware or Secure Boot ({complaint}). \
             Another key is needed; then `narrowboat disks key rotate tpm` seals a new one"
        )),
    }
}

/// Refuses where there is no TPM, or nothing that speaks with it.
pub fn needed() -> Result<(), Failed> {
    need(&["systemd-cryptenroll"])?;
    match is_there() {
        true => Ok(()),
        false => Err(Failed::refused(
            "this machine has no TPM 2.0 that the kernel knows: switch it on in the firmware's setup, or take a passphrase (--key-file FILE)",
        )),
    }
}

/// Has the TPM seal a key of its own, in place of one that it, or another one, has sealed before.
pub fn seal(device: &str, auth: &Secret, registers: &str) -> Result<(), Failed> {
    needed()?;
    exchange(device, || enroll(device, auth, registers))
}

fn enroll(device: &str, auth: &Secret, registers: &str) -> Result<(), Failed> {
    let file = auth.file()?;
    let (unlock, registers) = (format!("--unlock-key-file={}", file.path()), format!("--tpm2-pcrs={registers}"));
    match try_run("systemd-cryptenroll", &[&unlock, "--tpm2-device=auto", &registers, device], &[])? {
        Ended { code: 0, .. } => {}
        // Only then: it says the same of a wrong key and of a TPM that is locked.
        Ended { complaint, .. } if keys::slot_of(device, auth).is_ok() => {
            return Err(Failed::environment(format!(
                "the TPM does not seal a key ({complaint}): see whether the firmware's setup has it locked or owned by somebody; what opened the array before still does"
            )));
        }
        _ => return keys::slot_of(device, auth).map(drop),
    }
    match try_run("cryptsetup", &["open", "--test-passphrase", "--token-only", device], &[])? {
        Ended { code: 0, .. } => Ok(()),
        Ended { complaint, .. } => Err(Failed::environment(format!(
            "the TPM has sealed a key and does not give it back ({complaint}); what opened the array before still does"
        ))),
    }
}

/// Has a key enrolled in place of those that a TPM has sealed before: these go once there is a new one, and stay where there is none.
fn exchange(device: &str, enroll: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let before = keys::header(device)?;
    let aside = set_aside(device, &before)?;
    let enrolled = enroll();
    let after = keys::header(device)?;
    let added = after.keys.iter().filter(|key| before.keys.iter().all(|old| old.slot != key.slot));
    match enrolled {
        Ok(()) if added.clone().next().is_some() => {
            before.of_kind(Kind::Tpm).try_for_each(|key| keys::forget(device, key))
        }
        failed => {
            added.clone().try_for_each(|key| keys::forget(device, key))?;
            aside.iter().try_for_each(|(token, json)| import(device, *token, json))?;
            failed.and_then(|()| Err(Failed::environment("the TPM's new key is not in the header")))
        }
    }
}

/// Takes the TPMs' keys of before out of `systemd-cryptenroll`'s sight; their tokens as they were.
fn set_aside(device: &str, before: &Header) -> Result<Vec<(u32, Vec<u8>)>, Failed> {
    let mut aside = Vec::new();
    for key in before.of_kind(Kind::Tpm) {
        for token in &key.tokens {
            let json = run("cryptsetup", &["token", "export", "--token-id", &token.to_string(), device])?;
            let ours = luks::token(key.slot, Kind::Tpm, &rfc3339(crate::clock::now()));
            import(device, *token, ours.as_bytes())?;
            aside.push((*token, json));
        }
    }
    Ok(aside)
}

/// Writes a token over another one.
fn import(device: &str, token: u32, json: &[u8]) -> Result<(), Failed> {
    let token = token.to_string();
    let args = ["token", "import", "--token-id", &token, "--token-replace", "--json-file", "-", device];
    run_with("cryptsetup", &args, json).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::headers::{LuksFile, PASSPHRASE};
    use super::*;

    /// What a TPM's token looks like, for a slot.
    fn token(slot: u32) -> String {
        format!(
            r#"{{"type":"systemd-tpm2","keyslots":["{slot}"],"tpm2-blob":"AJ4A","tpm2-pcrs":[7],"tpm2-pcr-bank":"sha256","tpm2-policy-hash":"7ccb43c3"}}"#
        )
    }

    /// A header with a passphrase in slot 0 and a TPM's key in slot 1.
    fn sealed() -> LuksFile {
        let file = LuksFile::new();
        file.add(b"sealed by another TPM");
        file.token(&token(1));
        file
    }

    /// Does what `systemd-cryptenroll` would: nothing where there is a token for these registers.
    fn enrolls(file: &LuksFile) -> Result<(), Failed> {
        if !file.dump().contains("systemd-tpm2") {
            file.add(b"sealed by this TPM");
            file.token(&token(2));
        }
        Ok(())
    }

    fn kinds(file: &LuksFile) -> Vec<(u32, Option<Kind>)> {
        keys::header(file.path()).expect("read").keys.iter().map(|key| (key.slot, key.kind)).collect()
    }

    #[test]
    fn what_another_tpm_has_sealed_gives_way_to_the_key_of_this_one() {
        let file = sealed();
        exchange(file.path(), || enrolls(&file)).expect("exchanged");
        assert_eq!(kinds(&file), [(0, Some(Kind::Passphrase)), (2, Some(Kind::Tpm))]);
        assert!(keys::header(file.path()).expect("read").orphans.is_empty());
        assert!(!file.opens(b"sealed by another TPM") && file.opens(b"sealed by this TPM") && file.opens(PASSPHRASE));
    }

    #[test]
    fn a_break_before_the_new_key_is_made_good_by_the_next_try() {
        let file = sealed();
        set_aside(file.path(), &keys::header(file.path()).expect("read")).expect("set aside");
        assert_eq!(kinds(&file), [(0, Some(Kind::Passphrase)), (1, Some(Kind::Tpm))], "it is still known what it is");
        exchange(file.path(), || enrolls(&file)).expect("exchanged");
        assert_eq!(kinds(&file), [(0, Some(Kind::Passphrase)), (2, Some(Kind::Tpm))]);
    }

    #[test]
    fn where_no_key_is_sealed_all_is_as_before() {
        let file = sealed();
        let locked = || Failed::environment("locked");
        let before = file.dump();
        assert_eq!(exchange(file.path(), || Err(locked())), Err(locked()));
        assert_eq!(file.dump(), before);
        // It was sealed, and does not come back.
        let failed = exchange(file.path(), || enrolls(&file).and_then(|()| Err(locked())));
        assert_eq!(failed, Err(locked()));
        assert_eq!(kinds(&file), [(0, Some(Kind::Passphrase)), (1, Some(Kind::Tpm))]);
        assert!(file.opens(b"sealed by another TPM") && !file.opens(b"sealed by this TPM"));
        assert!(exchange(file.path(), || Ok(())).is_err(), "nothing was added");
        assert_eq!(file.dump(), before);
    }

    #[test]
    fn a_tpm_that_is_gone_one_that_refuses_and_a_broken_disk_are_told_apart() {
        let ended = |code| Ended { code, out: Vec::new(), complaint: "No usable token is available.".into() };
        let said = |there, code| super::said(there, &ended(code));
        assert!(said(false, 1).expect("another key helps").contains("no TPM 2.0 that the kernel knows"));
        for code in [1, 2] {
            let refuses = said(true, code).expect("another key helps");
            assert!(refuses.contains("does not give its key") && refuses.contains("No usable token"), "{refuses}");
        }
        let locked = Ended { complaint: "TPM2 device is in dictionary attack lockout mode.".into(), ..ended(1) };
        let waits = super::said(true, &locked).expect("another key helps, and so does waiting");
        assert!(waits.contains("locks itself for a while") && !waits.contains("rotate tpm"), "{waits}");
        for (code, part) in [(3, "not enough memory"), (4, "can't be read, or is gone"), (5, "in use")] {
            let failed = said(true, code).expect_err("no key helps");
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
}
