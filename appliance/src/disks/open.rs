//! Opens an array at boot, and closes it. Both can be repeated, whatever was done already.

use std::fs;
use std::path::{Path, PathBuf};

use super::facts::{Found, OnArray};
use super::keys;
use super::luks::{Header, Kind};
use super::tools::{Secret, facts, need, run, run_with_secret, settle, try_run};
use super::{OPENED, SYS, make, running, the_array};
use crate::control::Failed;

/// What encrypted devices say that they hold.
const LUKS: &str = "crypto_LUKS";

/// Puts the array together, decrypts and mounts it. `key` is asked for only if a key is needed that this machine's TPM does not have.
pub fn open(data: &Path, key: &mut dyn FnMut() -> Result<Secret, Failed>) -> Result<OnArray, Failed> {
    need(&["mdadm", "mount", "e2fsck"])?;
    let mut array = the_array(&facts()?)?;
    assemble(&array)?;
    array = the_array(&facts()?)?;
    if array.made() == Some(false) {
        return Err(Failed::refused(
            "the array was not made to its end: run `narrowboat disks make` again, with the same disks; nothing is on it yet",
        ));
    }
    let device = running(&array)?.clone();
    if device.mounted.is_some() {
        return Ok(device);
    }
    if device.holds.as_deref() == Some(LUKS) && device.opened.is_none() {
        decrypt(&device.path, key)?;
    }
    let device = running(&the_array(&facts()?)?)?.clone();
    make_sound(device.opened.as_ref().unwrap_or(&device.path))?;
    make::mount(&device, data)?;
    Ok(running(&the_array(&facts()?)?)?.clone())
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
    let id = format!("--uuid={}", mdadm_uuid(uuid));
    run("mdadm", &["--assemble", "--run", "--homehost=any", &id, "/dev/md/narrowboat"])?;
    settle();
    Ok(())
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

fn decrypt(device: &str, key: &mut dyn FnMut() -> Result<Secret, Failed>) -> Result<(), Failed> {
    need(&["cryptsetup"])?;
    let header: Header = keys::header(device)?;
    if header.of_kind(Kind::Tpm).next().is_some() {
        let ended = try_run("cryptsetup", &["open", "--token-only", device, OPENED], &[])?;
        if ended.code == 0 {
            settle();
            return Ok(());
        }
        tracing_line(&format!("the TPM does not open the array ({}): another key is needed", ended.complaint));
    }
    let secret = key()?;
    let ended = run_with_secret("cryptsetup", &["open", "--key-file", "-", device, OPENED], &secret)?;
    keys::ended_well(ended, "the array does not open")?;
    settle();
    Ok(())
}

/// Says something to whoever watches the boot, without being the answer.
fn tracing_line(text: &str) {
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
pub fn close() -> Result<(), Failed> {
    need(&["mdadm", "umount"])?;
    let array = the_array(&facts()?)?;
    let Some(device) = &array.device else { return Ok(()) };
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
    if device.opened.is_some() {
        run("cryptsetup", &["close", OPENED])?;
    }
    run("mdadm", &["--stop", &device.path])?;
    settle();
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_id_is_written_in_two_ways() {
        let lsblk = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(super::mdadm_uuid(lsblk), "01234567:89abcdef:01234567:89abcdef");
    }
}
