//! Keys of an array: added, exchanged and removed in its header, and its data encrypted anew under another data key.

use std::path::Path;

use super::luks::{self, Header, Kind};
use super::tools::{Ended, Secret, need, run, run_with, run_with_secret, try_run};
use crate::control::Failed;
use crate::units::rfc3339;

/// What `cryptsetup` ends with where a key does not fit.
const WRONG_KEY: i32 = 2;

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
            try_run("cryptsetup", &args, &[])?
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
    match Path::new("/dev/tpmrm0").exists() {
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
    run("systemd-cryptenroll", &[&unlock, "--tpm2-device=auto", &registers, "--wipe-slot=tpm2", device]).map(drop)
}

/// The slot that a key is in.
pub fn slot_of(device: &str, secret: &Secret) -> Result<u32, Failed> {
    for key in header(device)?.keys {
        let slot = key.slot.to_string();
        let args = ["open", "--test-passphrase", "--key-slot", &slot, "--key-file", "-", device];
        let ended = run_with_secret("cryptsetup", &args, secret)?;
        match ended.code {
            0 => return Ok(key.slot),
            WRONG_KEY => {}
            _ => ended_well(ended, "the key can't be tried")?,
        }
    }
    Err(Failed::refused("that is not one of the array's keys"))
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
