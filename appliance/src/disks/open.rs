//! Opens an array at boot, and closes it. Both can be repeated, whatever was done already.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::choose::{self, Own};
use super::facts::{Found, OnArray};
use super::keys::{self, Asking};
use super::luks::{Header, Kind};
use super::superblock::{Census, Superblock, census};
use super::tools::{facts, need, run, settle, try_run};
use super::tpm;
use super::wait::{Next, Patience, Seen};
use super::{NOT_OPEN, OPENED, SYS, array_of, make, replace, running};
use crate::control::Failed;

/// What encrypted devices say that they hold.
const LUKS: &str = "crypto_LUKS";

/// Puts the array together, decrypts and mounts it: at once where all its disks are here, else after so long a wait. A key is asked for only if one is needed that this machine's TPM does not have.
pub fn open(own: &Own, wait: Duration, asking: &mut Asking) -> Result<OnArray, Failed> {
    need(&["mdadm", "mount", "e2fsck"])?;
    await_disks(own, wait)?;
    let before = facts()?;
    let mut array = own.choose(&before)?;
    choose::in_the_way(&before, &own.data, |other| other.id == array.id)?;
    assemble(&array)?;
    array = array_of(&facts()?, &array.id)?;
    if array.made() == Some(false) {
        return Err(Failed::refused(
            "the array was not made to its end: run `narrowboat disks make` again, with the same disks; nothing is on it yet",
        ));
    }
    let device = running(&array)?.clone();
    if let Some(at) = &device.mounted {
        forget_that_it_was_begun(Path::new(at));
        return Ok(device);
    }
    if device.holds.as_deref() == Some(LUKS) && device.opened.is_none() {
        decrypt(&device.path, asking)?;
    }
    let device = running(&array_of(&facts()?, &array.id)?)?.clone();
    make_sound(device.opened.as_ref().unwrap_or(&device.path))?;
    make::mount(&device, &array.id, &own.data)?;
    forget_that_it_was_begun(&own.data);
    let now = facts()?;
    let device = running(&array_of(&now, &array.id)?)?.clone();
    // It helps people; the array is open without it.
    if let Err(failed) = replace::write_down(&now, &device) {
        beside(&failed.message);
    }
    Ok(device)
}

/// An array that bears the mark of having been made is not called begun by its own folder: the power may have gone between the two. Only for what is mounted.
fn forget_that_it_was_begun(mounted: &Path) {
    // Where it can't be removed, `serve` says why it does not start.
    let _ = fs::remove_file(mounted.join(NOT_OPEN));
}

/// Waits for disks that come late, and tells who watches the boot.
fn await_disks(own: &Own, wait: Duration) -> Result<(), Failed> {
    let (began, mut patience) = (Instant::now(), Patience::new(wait));
    loop {
        let facts = facts()?;
        let seen = match own.choose(&facts) {
            Ok(array) => seen(&array),
            Err(_) if own.may_still_come(&facts) => Seen::Nothing,
            // What is wrong is said by who opens it.
            Err(_) => return Ok(()),
        };
        match patience.next(began.elapsed(), seen) {
            Next::Go => return Ok(()),
            Next::Wait(news) => {
                news.iter().for_each(|news| beside(news));
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

fn seen(array: &Found) -> Seen {
    match holder(array).is_some_and(|device| is_active(&device)) {
        true => Seen::Enough,
        false => counted(array).map_or(Seen::Enough, Seen::Some),
    }
}

fn counted(array: &Found) -> Option<Census> {
    census(&array.partitions.iter().filter_map(|partition| Superblock::read(partition)).collect::<Vec<_>>())
}

/// Has the kernel put the disks together, also where one is missing.
fn assemble(array: &Found) -> Result<(), Failed> {
    if let Some(device) = holder(array) {
        if is_active(&device) {
            return Ok(());
        }
        // udev began it and waits for a disk that does not come.
        run("mdadm", &["--stop", &format!("/dev/{device}")])?;
    }
    let Some(uuid) = &array.uuid else {
        return Err(Failed::refused(
            "the array was not made to its end: run `narrowboat disks make` again, with the same disks",
        ));
    };
    let (id, node) = (format!("--uuid={}", mdadm_uuid(uuid)), format!("/dev/md/narrowboat-{}", array.id));
    let done = run("mdadm", &["--assemble", "--run", "--homehost=any", &id, &node]);
    done.map_err(|failed| too_few(array, counted(array), failed))?;
    settle();
    Ok(())
}

/// Says which disks are here, where that is why it can't be put together.
fn too_few(array: &Found, counted: Option<Census>, failed: Failed) -> Failed {
    match counted {
        Some(Census { here, of }) if here < of => Failed::environment(format!(
            "the array {} can't be put together: {here} of its {of} disks are here ({}). See to cables and power, put back what was taken out ({})",
            array.id,
            array.disks.join(", "),
            failed.message
        )),
        _ => failed,
    }
}

/// The device that the kernel has begun to make of the array's disks.
fn holder(array: &Found) -> Option<String> {
    array.partitions.iter().find_map(|partition| {
        let name = partition.strip_prefix("/dev/")?;
        let holders = fs::read_dir(format!("{SYS}/class/block/{name}/holders")).ok()?;
        holders
            .flatten()
            .map(|holder| holder.file_name().to_string_lossy().into_owned())
            .find(|name| name.starts_with("md"))
    })
}

fn is_active(device: &str) -> bool {
    let state = fs::read_to_string(format!("{SYS}/block/{device}/md/array_state")).unwrap_or_default();
    !["inactive", "clear", ""].contains(&state.trim())
}

/// `01234567-89ab-...` as `mdadm` writes it.
fn mdadm_uuid(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(8).map(|word| word.iter().collect::<String>()).collect::<Vec<_>>().join(":")
}

fn decrypt(device: &str, asking: &mut Asking) -> Result<(), Failed> {
    need(&["cryptsetup"])?;
    let header: Header = keys::header(device)?;
    if header.of_kind(Kind::Tpm).next().is_some() {
        let ended = try_run("cryptsetup", &["open", "--token-only", device, OPENED], &[])?;
        if ended.code == 0 {
            if asking.given {
                beside("the TPM opened the array: the key that was given was not needed, nor looked at");
            }
            settle();
            return Ok(());
        }
        beside(&tpm::said(tpm::is_there(), &ended)?);
    }
    keys::until_right(asking, &mut |secret| {
        let ended = keys::by_key(&["open", "--key-file", "-", device, OPENED], &secret)?;
        match ended.code {
            keys::WRONG_KEY => Ok(None),
            _ => keys::ended_well(ended, "the array does not open").map(Some),
        }
    })?;
    settle();
    Ok(())
}

/// Says something to whoever watches the boot, without being the answer.
fn beside(text: &str) {
    eprintln!("narrowboat: {text}");
}

/// Lets the file system put itself in order, as at every boot.
fn make_sound(device: &str) -> Result<(), Failed> {
    let ended = try_run("e2fsck", &["-p", device], &[])?;
    match ended.code {
        // Nothing to mend, or mended.
        0 | 1 => Ok(()),
        code => Err(Failed::environment(format!(
            "the file system on {device} needs somebody to look at it: `e2fsck {device}` (it ended with {code} and said: {})",
            ended.complaint
        ))),
    }
}

/// Unmounts the array, closes it, and lets go of the disks.
pub fn close(own: &Own) -> Result<(), Failed> {
    need(&["mdadm", "umount"])?;
    let array = own.choose(&facts()?)?;
    let Some(device) = &array.device else {
        // udev may have begun it, and hold its disks.
        return holder(&array).map_or(Ok(()), |device| run("mdadm", &["--stop", &format!("/dev/{device}")]).map(drop));
    };
    if let Some(at) = &device.mounted {
        let at = PathBuf::from(at);
        let ended = try_run("umount", &[&at.to_string_lossy()], &[])?;
        if ended.code != 0 {
            return Err(Failed::refused(format!(
                "{} is in use: stop the box (`narrowboat stop`) and whoever else works there ({})",
                at.display(),
                ended.complaint
            )));
        }
    }
    if let Some(opened) = &device.opened {
        run("cryptsetup", &["close", opened.trim_start_matches("/dev/mapper/")])?;
    }
    run("mdadm", &["--stop", &device.path])?;
    settle();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_disks_is_told_how_many() {
        let array = Found { id: "a1".into(), disks: vec!["S1".into()], ..Found::default() };
        let failed = || Failed::environment("mdadm said no");
        let said = too_few(&array, Some(Census { here: 1, of: 3 }), failed()).message;
        assert!(said.contains("1 of its 3 disks are here (S1)") && said.contains("mdadm said no"), "{said}");
        assert_eq!(too_few(&array, Some(Census { here: 3, of: 3 }), failed()), failed());
    }

    #[test]
    fn an_array_that_is_made_is_not_called_begun_after_a_break_between_the_two_marks() {
        let folder = tempfile::tempdir().expect("a folder");
        let begun = folder.path().join(NOT_OPEN);
        fs::write(&begun, "The array was not made to its end").expect("written");
        for _ in 0..2 {
            forget_that_it_was_begun(folder.path());
            assert!(!begun.exists(), "`serve` would refuse for ever");
        }
    }

    #[test]
    fn one_id_is_written_in_two_ways() {
        let lsblk = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(mdadm_uuid(lsblk), "01234567:89abcdef:01234567:89abcdef");
    }
}
