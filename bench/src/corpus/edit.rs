//! What a day of work does to a tree of files: few files change, and most of them in a small place.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::random::Random;
use super::{Concerning, Result, day_time, tree};

/// Of how many files one is touched in some way.
const TOUCHED_ONE_IN: u64 = 20;

/// Changes the tree at `root` as a day would, and adds the `spare` files of `from` as what was installed that day.
pub fn one_day(root: &Path, from: &Path, spare: &[PathBuf], random: &mut Random) -> Result<()> {
    let files = tree::regular_files(root)?;
    let mut symlinks_left = 20;
    for path in &files {
        if !random.one_in(TOUCHED_ONE_IN) {
            continue;
        }
        match random.below(10) {
            0..=4 => edit(path, random)?,
            5 => fs::remove_file(path).concerning(path)?,
            6 | 7 => rename(path)?,
            8 => change_mode(path)?,
            _ if symlinks_left > 0 => {
                symlinks_left -= 1;
                become_symlink(path)?;
            }
            _ => replace(path, random)?,
        }
    }
    rename_a_folder(root, random)?;
    tree::copy_paths(from, spare.iter(), &root.join("installed-on-day-2"))?;
    settle_folders(root)
}

/// Changes the content in one of the ways in which programs do, in place: other names of the file see it too.
fn edit(path: &Path, random: &mut Random) -> Result<()> {
    let metadata = fs::metadata(path).concerning(path)?;
    let mode = metadata.permissions();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).concerning(path)?;
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path).concerning(path)?;
    let length = metadata.len();
    let added = 40 + random_length(random, 4_000);
    let fresh = words(random, added);
    match random.below(4) {
        0 => {
            file.seek(SeekFrom::End(0)).concerning(path)?;
            file.write_all(&fresh).concerning(path)?;
        }
        1 => {
            file.seek(SeekFrom::Start(random.below(length + 1))).concerning(path)?;
            file.write_all(&fresh).concerning(path)?;
        }
        2 => {
            let mut old = Vec::new();
            file.read_to_end(&mut old).concerning(path)?;
            file.seek(SeekFrom::Start(0)).concerning(path)?;
            file.write_all(&fresh).and_then(|()| file.write_all(&old)).concerning(path)?;
        }
        _ => file.set_len(random.below(length + 1)).concerning(path)?,
    }
    drop(file);
    fs::set_permissions(path, mode).concerning(path)?;
    tree::set_modified(path, day_time(2))
}

/// Puts a new file in the place of the old: another inode, other content.
fn replace(path: &Path, random: &mut Random) -> Result<()> {
    let mode = fs::metadata(path).concerning(path)?.permissions();
    fs::remove_file(path).concerning(path)?;
    let length = random_length(random, 200_000);
    fs::write(path, words(random, length)).concerning(path)?;
    fs::set_permissions(path, mode).concerning(path)?;
    tree::set_modified(path, day_time(2))
}

fn rename(path: &Path) -> Result<()> {
    let mut target = path.to_owned().into_os_string();
    target.push(".renamed");
    if Path::new(&target).file_name().is_some_and(|name| name.len() > 255) {
        return Ok(());
    }
    fs::rename(path, &target).concerning(path)
}

fn change_mode(path: &Path) -> Result<()> {
    let mode = fs::metadata(path).concerning(path)?.mode() & 0o7777;
    fs::set_permissions(path, PermissionsExt::from_mode(mode ^ 0o010)).concerning(path)
}

fn become_symlink(path: &Path) -> Result<()> {
    fs::remove_file(path).concerning(path)?;
    std::os::unix::fs::symlink("moved elsewhere/\u{e4}-target", path).concerning(path)?;
    tree::set_modified(path, day_time(2))
}

/// A folder moves with all that is in it: a backup by name sees removed and added files, a store sees one entry.
fn rename_a_folder(root: &Path, random: &mut Random) -> Result<()> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).concerning(root)? {
        let path = entry.concerning(root)?.path();
        if path.is_dir() && !path.is_symlink() {
            for below in fs::read_dir(&path).concerning(&path)? {
                let below = below.concerning(&path)?.path();
                folders.extend((below.is_dir() && !below.is_symlink()).then_some(below));
            }
        }
    }
    folders.sort();
    if folders.is_empty() {
        return Ok(());
    }
    rename(&folders[random.below(folders.len() as u64) as usize])
}

/// Gives every folder that was changed just now the day's time, so that a day is the same whenever it is made.
fn settle_folders(root: &Path) -> Result<()> {
    let recent = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).concerning(&folder)? {
            let entry = entry.concerning(&folder)?;
            if entry.file_type().concerning(&folder)?.is_dir() {
                folders.push(entry.path());
            }
        }
        if fs::metadata(&folder).and_then(|metadata| metadata.modified()).concerning(&folder)? > recent {
            tree::set_modified(&folder, day_time(2))?;
        }
    }
    Ok(())
}

/// Many small lengths and few large ones.
fn random_length(random: &mut Random, max: u64) -> usize {
    let bits = 1 + random.below(u64::from(max.ilog2()));
    random.below(1 << bits) as usize
}

/// Text of about `length` bytes that compresses as text does.
pub fn words(random: &mut Random, length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "invoice",
        "harbour",
        "of",
        "the",
        "and",
        "tide",
        "customer",
        "lock",
        "delivered",
        "to",
        "freight",
        "paid",
        "on",
        "weight",
        "barge",
        "number",
    ];
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        let bits = random.next();
        text.extend_from_slice(WORDS[(bits & 15) as usize].as_bytes());
        text.push(if bits & 0xf0 == 0 { b'\n' } else { b' ' });
        if bits & 0x700 == 0 {
            text.extend_from_slice(format!("{:x} ", bits >> 40).as_bytes());
        }
    }
    text.truncate(length);
    text
}
