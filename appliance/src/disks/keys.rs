//! Keys of an array: added, exchanged and removed in its header, and its data encrypted anew under another data key.

use super::luks::{self, Header, Key, Kind};
use super::tools::{Ended, Secret, run, run_with, run_with_secret, try_run};
use super::tpm;
use crate::control::Failed;
use crate::units::rfc3339;

/// What `cryptsetup` ends with where a key does not fit.
pub(super) const WRONG_KEY: i32 = 2;

/// What it ends with where the device is gone or can't be used.
pub(super) const NO_DEVICE: i32 = 4;
/// What it ends with where the device is open, or held by somebody.
pub(super) const BUSY: i32 = 5;

/// Where keys come from, and how often one may be asked for: a person at a terminal mistypes, a file has what it has.
pub struct Asking<'a> {
    /// Gives a key.
    pub ask: &'a mut dyn FnMut() -> Result<Secret, Failed>,
    /// How often.
    pub tries: u32,
    /// Somebody named where it is, and may take it for granted that it is looked at.
    pub given: bool,
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

/// What shows that somebody may change keys.
pub enum Auth<'a> {
    /// A key of the array.
    Secret(&'a Secret),
    /// This machine's TPM.
    Tpm,
}

/// Runs `cryptsetup` with a key, and with that one alone. Its `open` tries the keys of tokens first, whatever key and slot it is given: where a TPM's opens the array,
/// any other key would be taken for a right one. So it is told to use tokens of our own kind, of which none has a key.
pub(super) fn by_key(args: &[&str], secret: &Secret) -> Result<Ended, Failed> {
    let mut alone = args.to_vec();
    if args.first() == Some(&"open") {
        alone.extend(["--token-type", luks::TOKEN]);
    }
    run_with_secret("cryptsetup", &alone, secret)
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
            by_key(&args, secret)?
        }
        Auth::Tpm => {
            args.extend(["--token-only", device, &path]);
            let ended = try_run("cryptsetup", &args, &[])?;
            if ended.code != 0 {
                let why = tpm::said(tpm::is_there(), &ended)?;
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

/// The slot that a key is in.
pub fn slot_of(device: &str, secret: &Secret) -> Result<u32, Failed> {
    find_slot(device, secret)?.ok_or_else(|| Failed::refused("that is not one of the array's keys"))
}

/// The same, or nothing where it is no key of the array.
pub fn find_slot(device: &str, secret: &Secret) -> Result<Option<u32>, Failed> {
    for key in header(device)?.keys {
        let slot = key.slot.to_string();
        let args = ["open", "--test-passphrase", "--key-slot", &slot, "--key-file", "-", device];
        let ended = by_key(&args, secret)?;
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
    header.keys.iter().filter(|key| key.slot == slot).try_for_each(|key| forget(device, key))
}

/// The same, whatever keys are left.
pub(super) fn forget(device: &str, key: &Key) -> Result<(), Failed> {
    run("cryptsetup", &["luksKillSlot", "--batch-mode", device, &key.slot.to_string()])?;
    for token in &key.tokens {
        run("cryptsetup", &["token", "remove", "--token-id", &token.to_string(), device])?;
    }
    Ok(())
}

/// Puts a new key in the place of those of its kind. The old ones go last: until then both open the array.
/// `tell` is called between the two: a person sees a new key before the one that he has goes. Where an earlier try was broken off after the new one was added, it goes on from there.
pub fn exchange(
    device: &str,
    auth: &Auth,
    new: &Secret,
    kind: Kind,
    old: &[u32],
    tell: &mut dyn FnMut(),
) -> Result<u32, Failed> {
    let slot = match there_already(find_slot(device, new)?, old)? {
        Some(slot) => {
            note_if_unknown(device, slot, kind)?;
            slot
        }
        None => add(device, auth, new, kind)?,
    };
    // The old one goes only for one that opens the array.
    slot_of(device, new)?;
    tell();
    for slot in old {
        remove(device, *slot)?;
    }
    Ok(slot)
}

/// The slot that a new key has already, and may keep.
fn there_already(found: Option<u32>, old: &[u32]) -> Result<Option<u32>, Failed> {
    match found.filter(|slot| old.contains(slot)) {
        // It must not be removed as the old one.
        Some(slot) => Err(Failed::refused(format!("the new key is the old one, in slot {slot}: nothing was changed"))),
        None => Ok(found),
    }
}

/// Writes down what a key is where the header does not say it: it was added, and then something broke off.
fn note_if_unknown(device: &str, slot: u32, kind: Kind) -> Result<(), Failed> {
    match header(device)?.keys.iter().any(|key| key.slot == slot && key.kind.is_none()) {
        true => note(device, slot, kind),
        false => Ok(()),
    }
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
        ended_well(by_key(&args, secret)?, "the data was not encrypted anew")?;
    } else {
        // After a break in what follows it is done once more: whether all was encrypted before can't be told from what is left of the keys.
        slot = slot_of(device, secret)?.to_string();
        args.extend(["--key-slot", &slot, device]);
        ended_well(by_key(&args, secret)?, "the data was not encrypted anew")?;
    }
    keys_after_renewal(device, secret, registers)
}

/// What a renewal has left of the other keys' tokens says which of them are to be made anew.
fn keys_after_renewal(device: &str, secret: &Secret, registers: &str) -> Result<Option<String>, Failed> {
    let slot = slot_of(device, secret)?;
    let own = if secret.is_recovery_key() { Kind::Recovery } else { Kind::Passphrase };
    note_if_unknown(device, slot, own)?;
    let after = header(device)?;
    let mut recovery = None;
    // The recovery key last: once there is one nothing may fail before a person has seen it.
    let mut orphans = after.orphans;
    orphans.sort_by_key(|(_, kind)| *kind == Some(Kind::Recovery));
    for (token, kind) in orphans {
        match kind {
            Some(Kind::Tpm) => tpm::seal(device, secret, registers)?,
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
        (until_right(&mut Asking { ask: &mut ask, tries, given: false }, &mut work), asked)
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
    fn a_new_key_that_is_there_already_stays_unless_it_is_the_old_one() {
        assert_eq!(there_already(None, &[0]), Ok(None));
        assert_eq!(there_already(Some(2), &[0, 1]), Ok(Some(2)), "an earlier try has added it");
        assert!(there_already(Some(1), &[0, 1]).expect_err("refused").message.contains("is the old one, in slot 1"));
    }

    #[test]
    fn a_wrong_key_is_asked_for_again_and_a_broken_device_is_not() {
        let mut ask = || Ok(Secret::new(b"key".to_vec()));
        let mut work = |_: Secret| Err::<Option<()>, _>(Failed::environment("the disk is gone"));
        let failed = until_right(&mut Asking { ask: &mut ask, tries: 3, given: false }, &mut work).expect_err("fails");
        assert_eq!(failed.message, "the disk is gone");
    }

    #[test]
    fn an_exchange_that_was_broken_off_after_its_new_key_is_finished() {
        let file = super::super::headers::LuksFile::new();
        file.add(b"a new passphrase");
        let (old, new) =
            (Secret::new(super::super::headers::PASSPHRASE.to_vec()), Secret::new(b"a new passphrase".to_vec()));
        let rotate = |old: &Secret, new: &Secret| {
            let slot = slot_of(file.path(), old)?;
            exchange(file.path(), &Auth::Secret(old), new, Kind::Passphrase, &[slot], &mut || {})
        };
        assert_eq!(rotate(&old, &new), Ok(1), "it is in no other slot a second time");
        let kinds: Vec<_> = header(file.path()).expect("read").keys.iter().map(|key| (key.slot, key.kind)).collect();
        assert_eq!(kinds, [(1, Some(Kind::Passphrase))]);
        assert!(!file.opens(super::super::headers::PASSPHRASE));
        assert!(rotate(&new, &new).expect_err("refused").message.contains("is the old one, in slot 1"));
        assert!(file.opens(b"a new passphrase"));
    }

    #[test]
    fn no_key_is_taken_for_right_because_a_token_has_one() {
        use super::super::headers::{LuksFile, PASSPHRASE};
        let file = LuksFile::new();
        // A token whose key the kernel has stands for one whose key a TPM gives.
        let name = format!("narrowboat-test-{}", std::process::id());
        let key = String::from_utf8(PASSPHRASE.to_vec()).expect("letters");
        run("keyctl", &["add", "user", &name, &key, "@u"]).expect("added");
        file.token(&format!(r#"{{"type":"luks2-keyring","keyslots":["0"],"key_description":"{name}"}}"#));
        let wrong = Secret::new(b"not this one".to_vec());
        let open = ["open", "--test-passphrase", "--key-file", "-", file.path()];
        let fooled = run_with_secret("cryptsetup", &open, &wrong).expect("started").code;
        let (found, right) = (find_slot(file.path(), &wrong), file.opens(PASSPHRASE));
        run("keyctl", &["purge", "user", &name]).expect("removed");
        assert_eq!(fooled, 0, "else this test sees nothing");
        assert_eq!((found, right), (Ok(None), true));
    }
}
