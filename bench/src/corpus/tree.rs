//! Copying trees with everything that a backup keeps: modes, owners, times to the nanosecond, symlinks, hard links.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};

use super::random::Random;
use super::select::Unit;
use super::{Concerning, Result, run};

/// Copies the units' files from `from` to `to`, folders above them included.
pub fn copy(from: &Path, units: &[Unit], to: &Path) -> Result<()> {
    let paths = units.iter().flat_map(|unit| unit.paths.iter());
    copy_paths(from, paths, to)
}

/// Copies the given files from `from` to `to`, folders above them included. A file that vanished meanwhile is left
/// out, because the machine lives on while its files are taken.
pub fn copy_paths<'a>(from: &Path, paths: impl Iterator<Item = &'a PathBuf>, to: &Path) -> Result<()> {
    fs::create_dir_all(to).concerning(to)?;
    let mut folders = BTreeSet::from([PathBuf::new()]);
    let mut names_of = HashMap::new();
    for path in paths {
        let (source, target) = (from.join(path), to.join(path));
        let Ok(metadata) = fs::symlink_metadata(&source) else { continue };
        for folder in path.ancestors().skip(1) {
            if !folders.insert(folder.to_owned()) {
                break;
            }
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).concerning(parent)?;
        }
        if metadata.is_symlink() {
            let pointed = fs::read_link(&source).concerning(&source)?;
            std::os::unix::fs::symlink(pointed, &target).concerning(&target)?;
        } else if let Some(first) = names_of.get(&(metadata.dev(), metadata.ino())) {
            fs::hard_link(first, &target).concerning(&target)?;
            continue;
        } else {
            fs::copy(&source, &target).concerning(&source)?;
            if metadata.nlink() > 1 {
                names_of.insert((metadata.dev(), metadata.ino()), target.clone());
            }
        }
        copy_attributes(&metadata, &target)?;
    }
    for folder in folders.iter().rev() {
        let metadata = fs::symlink_metadata(from.join(folder)).concerning(&from.join(folder))?;
        copy_attributes(&metadata, &to.join(folder))?;
    }
    Ok(())
}

/// Copies a whole tree as it is.
pub fn clone_tree(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["-a", "--no-target-directory"]).arg(from).arg(to), None)
}

/// Gives some files a second name. Trees of installed software have few hard links; backups must keep them all.
pub fn add_hard_links(root: &Path, random: &mut Random) -> Result<()> {
    for path in regular_files(root)? {
        if random.one_in(200) {
            let mut second = path.clone().into_os_string();
            second.push(".second-name");
            // A name that would be too long gets no second one.
            if Path::new(&second).file_name().is_some_and(|name| name.len() < 250) {
                let parent = path.parent().unwrap_or(root);
                let modified = fs::metadata(parent).and_then(|metadata| metadata.modified()).concerning(parent)?;
                fs::hard_link(&path, &second).concerning(&path)?;
                set_modified(parent, modified)?;
            }
        }
    }
    Ok(())
}

/// Every regular file below `root`, sorted.
pub fn regular_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).concerning(&folder)? {
            let entry = entry.concerning(&folder)?;
            let kind = entry.file_type().concerning(&entry.path())?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Sets the modification time of anything, a symlink itself included.
pub fn set_modified(path: &Path, time: SystemTime) -> Result<()> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    set_times(path, since.as_secs() as i64, i64::from(since.subsec_nanos()))
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).concerning(path)
}

/// Gives `target` the owner (where we may), mode and modification time that `metadata` tells.
fn copy_attributes(metadata: &fs::Metadata, target: &Path) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
        rustix::fs::chownat(CWD, target, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).concerning(target)?;
    }
    if !metadata.is_symlink() {
        let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
        rustix::fs::chmodat(CWD, target, mode, AtFlags::empty()).concerning(target)?;
    }
    set_times(target, metadata.mtime(), metadata.mtime_nsec())
}
