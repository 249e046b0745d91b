//! Keys of an array: added, exchanged and removed in its header, and its data encrypted anew under another data key.

use std::path::Path;

use super::luks::{self, Header, Kind};
use super::tools::{Ended, Secret, need, run, run_with, run_with_secret, try_run};
use crate::control::Failed;
use crate::units::rfc3339;

/// What `cryptsetup` ends with where a key does not fit.
pub(super) const WRONG_KEY: i32 = 2;

/// What it ends with where the device is gone or can't be used.
const NO_DEVICE: i32 = 4;
/// What it ends with where the device is open, or held by somebody.
const BUSY: i32 = 5;
/// By which node the kernel shows a TPM.
const TPM: &str = "/dev/tpmrm0";

/// Where keys come from, and how often one may be asked for: a person at a terminal mistypes, a file has what it has.
pub struct Asking<'a> {
    /// Gives a key.
    pub ask: &'a mut dyn FnMut() -> Result<Secret, Failed>,
    /// How often.
    pub tries: u32,
}

/// Works with a key until it is the right one; `work` returns nothing where it is not one of the array's.
pub fn until_right<T>(
    asking: &mut Asking,
    work: &mut dyn FnMut(Secret) -> Result<Option<T>, Failed>,
) -> Result<T, Failed> {
    for left in (0..asking.tries).rev() {
        if let Some(done) = work((asking.ask)()?)? {
            return Ok(done);
        }
        if left > 0 {
            eprintln!("narrowboat: that is not one of the array's keys; once more");
        }
    }
    Err(Failed::refused(match asking.tries {
        0 | 1 => "the key that was given does not open the array: it is not one of the array's keys".to_owned(),
        tries => format!("{tries} keys were typed, and none of them is one of the array's keys"),
    }))
}

/// Whether the kernel knows of a TPM 2.0.
pub(super) fn has_tpm() -> bool {
    Path::new(TPM).exists()
}

/// What it means that the TPM did not open the array: a sentence where another key does, and a failure where none would.
pub(super) fn tpm_said(there: bool, ended: &Ended) -> Result<String, Failed> {
    let said = &ended.complaint;
    match ended.code {
        3 | NO_DEVICE | BUSY => {
            let code = Ended { code: ended.code, out: Vec::new(), complaint: said.clone() };
            ended_well(code, "the array does not open").map(|()| String::new())
        }
        _ if !there => Ok("the array has a key in a TPM, and this machine has no TPM 2.0 that the kernel knows (another board, or switched off in the firmware's setup?): another key is needed".into()),
        _ => Ok(format!(
            "this machine's TPM does not give its key: it is another one than the key was sealed by, or its registers have changed, as by new firmware or Secure Boot ({said}). \
             Another key is needed; then `narrowboat disks key rotate tpm` seals a new one"
        )),
    }
}

/// What shows that somebody may change keys.
pub enum Auth<'a> {
    /// A key of the array.
    Secret(&'a Secret),
    /// This machine's TPM.
    Tpm,
}

/// The header of an encrypted device.
pub fn header(device: &str) -> Result<Header, Failed> {
    let json = run("cryptsetup", &["luksDump", "--dump-json-metadata", device])?;
    Header::parse(&json)
        .map_err(|error| Failed::environment(format!("the header of {device} is not understood: {error}")))
}

/// How a key is derived: a passphrase that somebody made up is made costly to guess (Argon2id, two seconds; cryptsetup's 1 GiB of memory would be too much for a box that serves meanwhile); 200
/// random bits need no help.
pub(super) fn derivation(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Passphrase => &["--pbkdf", "argon2id", "--pbkdf-memory", "262144"],
        Kind::Recovery | Kind::Tpm => &["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"],
    }
}

/// A sentence for what `cryptsetup` ended with.
pub(super) fn ended_well(ended: Ended, what: &str) -> Result<(), Failed> {
    match ended.code {
        0 => Ok(()),
        WRONG_KEY => Err(Failed::refused(format!("{what}: it is not one of the array's keys"))),
        3 => Err(Failed::environment(format!("{what}: there is not enough memory to derive the key"))),
        NO_DEVICE => Err(Failed::environment(format!(
            "{what}: the device can't be read, or is gone ({}); `narrowboat disks status` says how its disks are",
            ended.complaint
        ))),
        BUSY => {
            Err(Failed::environment(format!("{what}: the device is in use, or open already ({})", ended.complaint)))
        }
        code => Err(Failed::environment(format!("{what}: cryptsetup ended with {code} and said: {}", ended.complaint))),
    }
}

/// Writes into the header what the key of a slot is.
pub(super) fn note(device: &str, slot: u32, kind: Kind) -> Result<(), Failed> {
    let token = luks::token(slot, kind, &rfc3339(crate::clock::now()));
    run_with("cryptsetup", &["token", "import", "--json-file", "-", device], token.as_bytes()).map(drop)
}

/// Adds a key; its slot.
pub fn add(device: &str, auth: &Auth, new: &Secret, kind: Kind) -> Result<u32, Failed> {
    let before = header(device)?;
    let file = new.file()?;
    let path = file.path();
    let mut args = vec!["luksAddKey", "--batch-mode"];
    args.extend(derivation(kind));
    let ended = match auth {
        Auth::Secret(secret) => {
            args.extend(["--key-file", "-", device, &path]);
            run_with_secret("cryptsetup", &args, secret)?
        }
        Auth::Tpm => {
            args.extend(["--token-only", device, &path]);
            let ended = try_run("cryptsetup", &args, &[])?;
            if ended.code != 0 {
                let why = tpm_said(has_tpm(), &ended)?;
                return Err(Failed::refused(format!(
                    "no key was added, for {why}: name a file with one by --key-file"
                )));
            }
            ended
        }
    };
    ended_well(ended, "no key was added")?;
    let slot = header(device)?.added_since(&before);
    let slot = slot.ok_or_else(|| Failed::environment("the new key is not in the header"))?;
    note(device, slot, kind)?;
    Ok(slot)
}

/// Refuses where there is no TPM, or nothing that speaks with it.
pub fn need_tpm() -> Result<(), Failed> {
    need(&["systemd-cryptenroll"])?;
    match has_tpm() {
        true => Ok(()),
        false => Err(Failed::refused(
            "this machine has no TPM 2.0 that the kernel knows: switch it on in the firmware's setup, or take a passphrase (--key-file FILE)",
        )),
    }
}

/// Has the TPM seal a key of its own, in place of one that it has sealed before.
pub fn add_tpm(device: &str, auth: &Secret, registers: &str) -> Result<(), Failed> {
    need_tpm()?;
    let file = auth.file()?;
    let (unlock, registers) = (format!("--unlock-key-file={}", file.path()), format!("--tpm2-pcrs={registers}"));
    let args: [&str; 5] = [&unlock, "--tpm2-device=auto", &registers, "--wipe-slot=tpm2", device];
    match try_run("systemd-cryptenroll", &args, &[])? {
        Ended { code: 0, .. } => Ok(()),
        // Only then: it says the same of a wrong key and of a TPM that is locked.
        Ended { complaint, .. } if slot_of(device, auth).is_ok() => Err(Failed::environment(format!(
            "the TPM does not seal a key ({complaint}): see whether the firmware's setup has it locked or owned by somebody; what opened the array before still does"
        ))),
        _ => slot_of(device, auth).map(drop),
    }
}

/// The slot that a key is in.
pub fn slot_of(device: &str, secret: &Secret) -> Result<u32, Failed> {
    find_slot(device, secret)?.ok_or_else(|| Failed::refused("that is not one of the array's keys"))
}

/// The same, or nothing where it is no key of the array.
pub fn find_slot(device: &str, secret: &Secret) -> Result<Option<u32>, Failed> {
    for key in header(device)?.keys {
        let slot = key.slot.to_string();
        let args = ["open", "--test-passphrase", "--key-slot", &slot, "--key-file", "-", device];
        let ended = run_with_secret("cryptsetup", &args, secret)?;
        match ended.code {
            0 => return Ok(Some(key.slot)),
            WRONG_KEY => {}
            _ => ended_well(ended, "the key can't be tried")?,
        }
    }
    Ok(None)
}

/// Removes a key, with what the header says of it.
pub fn remove(device: &str, slot: u32) -> Result<(), Failed> {
    let header = header(device)?;
    header.may_remove(slot).map_err(Failed::refused)?;
    let tokens = header.keys.iter().find(|key| key.slot == slot).map(|key| key.tokens.clone()).unwrap_or_default();
    run("cryptsetup", &["luksKillSlot", "--batch-mode", device, &slot.to_string()])?;
    for token in tokens {
        run("cryptsetup", &["token", "remove", "--token-id", &token.to_string(), device])?;
    }
    Ok(())
}

/// Puts a new key in the place of those of its kind. The old ones go last: until then both open the array.
/// `tell` is called between the two: a person sees a new key before the one that he has goes.
pub fn exchange(
    device: &str,
    auth: &Auth,
    new: &Secret,
    kind: Kind,
    old: &[u32],
    tell: &mut dyn FnMut(),
) -> Result<u32, Failed> {
    let slot = add(device, auth, new, kind)?;
    let found = slot_of(device, new)?;
    if found != slot {
        // It is a key that was there already; it must not be removed as the old one.
        remove(device, slot)?;
        return Err(Failed::refused(format!("the new key is in slot {found} already")));
    }
    tell();
    for slot in old {
        remove(device, *slot)?;
    }
    Ok(slot)
}

/// Encrypts all data anew under another data key, or goes on with that. It takes as long as reading and writing the whole array; the box may work on, and a power cut
/// does not harm it: this key opens the array then. The other keys were for the old data key and are gone in the end; for a TPM and a recovery key new ones are made. Returns the new recovery
/// key, if there is one.
pub fn renew_data(device: &str, secret: &Secret, registers: &str) -> Result<Option<String>, Failed> {
    let mut args = vec!["reencrypt", "--batch-mode", "--key-file", "-"];
    let slot;
    let before = header(device)?;
    if before.reencrypting {
        args.extend(["--resume-only", device]);
        ended_well(run_with_secret("cryptsetup", &args, secret)?, "the data was not encrypted anew")?;
    } else {
        // After a break in what follows it is done once more: whether all was encrypted before can't be told from what is left of the keys.
        slot = slot_of(device, secret)?.to_string();
        args.extend(["--key-slot", &slot, device]);
        ended_well(run_with_secret("cryptsetup", &args, secret)?, "the data was not encrypted anew")?;
    }
    keys_after_renewal(device, secret, registers)
}

/// What a renewal has left of the other keys' tokens says which of them are to be made anew.
fn keys_after_renewal(device: &str, secret: &Secret, registers: &str) -> Result<Option<String>, Failed> {
    let slot = slot_of(device, secret)?;
    let own = if secret.is_recovery_key() { Kind::Recovery } else { Kind::Passphrase };
    let after = header(device)?;
    if after.keys.iter().any(|key| key.slot == slot && key.kind.is_none()) {
        note(device, slot, own)?;
    }
    let mut recovery = None;
    // The recovery key last: once there is one nothing may fail before a person has seen it.
    let mut orphans = after.orphans;
    orphans.sort_by_key(|(_, kind)| *kind == Some(Kind::Recovery));
    for (token, kind) in orphans {
        match kind {
            Some(Kind::Tpm) => add_tpm(device, secret, registers)?,
            Some(Kind::Recovery) if own != Kind::Recovery => {
                let new = luks::recovery_key(rand::random());
                add(device, &Auth::Secret(secret), &Secret::new(new.clone().into_bytes()), Kind::Recovery)?;
                recovery = Some(new);
            }
            _ => {}
        }
        let removed = run("cryptsetup", &["token", "remove", "--token-id", &token.to_string(), device]);
        if recovery.is_none() {
            removed?;
        }
    }
    Ok(recovery)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[&str], tries: u32) -> (Result<usize, Failed>, usize) {
        let mut keys = keys.iter();
        let mut asked = 0;
        let mut ask = || {
            asked += 1;
            keys.next().map(|key| Secret::new(key.as_bytes().to_vec())).ok_or_else(|| Failed::refused("nothing typed"))
        };
        let mut work = |secret: Secret| Ok(Some(secret.bytes()).filter(|bytes| *bytes == "right".len()));
        (until_right(&mut Asking { ask: &mut ask, tries }, &mut work), asked)
    }

    #[test]
    fn a_key_that_was_mistyped_is_asked_for_again_and_one_from_a_file_is_not() {
        assert_eq!(typed(&["right"], 3), (Ok(5), 1));
        assert_eq!(typed(&["no", "wrong!", "right"], 3), (Ok(5), 3));
        let (failed, asked) = typed(&["no", "no", "no", "right"], 3);
        assert!(failed.expect_err("refused").message.contains("3 keys were typed") && asked == 3);
        let (failed, asked) = typed(&["no", "right"], 1);
        assert!(failed.expect_err("refused").message.contains("not one of the array's keys") && asked == 1);
        assert_eq!(typed(&[], 3).0.expect_err("refused").message, "nothing typed");
    }

    #[test]
    fn a_wrong_key_is_asked_for_again_and_a_broken_device_is_not() {
        let mut ask = || Ok(Secret::new(b"key".to_vec()));
        let mut work = |_: Secret| Err::<Option<()>, _>(Failed::environment("the disk is gone"));
        let failed = until_right(&mut Asking { ask: &mut ask, tries: 3 }, &mut work).expect_err("fails");
        assert_eq!(failed.message, "the disk is gone");
    }

    #[test]
    fn a_tpm_that_is_gone_one_that_refuses_and_a_broken_disk_are_told_apart() {
        let ended = |code| Ended { code, out: Vec::new(), complaint: "No usable token is available.".into() };
        let said = |there, code| tpm_said(there, &ended(code));
        assert!(said(false, 1).expect("another key helps").contains("no TPM 2.0 that the kernel knows"));
        for code in [1, 2] {
            let refuses = said(true, code).expect("another key helps");
            assert!(refuses.contains("does not give its key") && refuses.contains("No usable token"), "{refuses}");
        }
        for (code, part) in [(3, "not enough memory"), (4, "can't be read, or is gone"), (5, "in use")] {
            let failed = said(true, code).expect_err("no key helps");
            assert!(failed.message.contains(part), "{}", failed.message);
        }
    }
}
