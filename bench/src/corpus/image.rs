//! A disk image with an ext4 in it, made and changed with the file system's own tools, without mounting it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::random::Random;
use super::{Concerning, Error, Result, day_time, program, run, tree};

/// Folder in the image that holds the files.
const FILES: &str = "files";

/// Makes an image of `bytes` at `path` that holds the given files of `from`.
pub fn create(path: &Path, from: &Path, files: &[PathBuf], bytes: u64, seed: u64) -> Result<()> {
    let staging = path.with_extension("staging");
    tree::copy_paths(from, files.iter(), &staging.join(FILES))?;
    // Everything in the file system that would be random or the time of day follows from the seed and the day.
    let uuid = format!("{:08x}-6e62-4000-8000-{:012x}", seed as u32, seed & 0xffff_ffff_ffff);
    let made = run(
        at_time(program("mke2fs"), 1)
            .args(["-q", "-F", "-t", "ext4", "-L", "office", "-U", &uuid, "-N"])
            .arg((2 * files.len() + 2_000).to_string())
            .arg("-E")
            .arg(format!("hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0"))
            .arg("-d")
            .arg(&staging)
            .arg(path)
            .arg(format!("{}k", bytes / 1024)),
        None,
    );
    let inodes = made.and_then(|()| count_inodes(&staging));
    fs::remove_dir_all(&staging).concerning(&staging)?;
    settle_change_times(path, inodes?)?;
    check(path)
}

/// How many inodes the tree at `root` takes.
fn count_inodes(root: &Path) -> Result<usize> {
    let mut seen = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).concerning(&folder)? {
            let entry = entry.concerning(&folder)?;
            seen.insert(entry.metadata().concerning(&entry.path())?.ino());
            if entry.file_type().concerning(&folder)?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(seen.len())
}

/// mke2fs takes over the moment at which a staged file was made; the image must not depend on it.
fn settle_change_times(path: &Path, inodes: usize) -> Result<()> {
    // Files follow lost+found, which is inode 11; 2 is the root.
    let all = std::iter::once(2).chain(12..12 + inodes);
    let requests: Vec<String> = all.map(|inode| format!("set_inode_field <{inode}> ctime @{}", seconds(1))).collect();
    debugfs(path, 1, &requests)
}

/// A day's changes inside the image: some files go, some come back with other content, some are new.
pub fn update(path: &Path, donors: &Path, random: &mut Random) -> Result<()> {
    let inside = files_inside(path)?;
    let mut donors: Vec<PathBuf> = tree::regular_files(donors)?.into_iter().filter(|donor| is_plain(donor)).collect();
    donors.retain(|donor| fs::metadata(donor).is_ok_and(|metadata| metadata.len() < 200_000));
    let (mut removed, mut written) = (Vec::new(), vec!["mkdir day2".to_owned()]);
    for name in inside {
        if !random.one_in(25) {
            continue;
        }
        removed.push(format!("rm {name}"));
        if donors.is_empty() || random.one_in(3) {
            continue;
        }
        let donor = &donors[random.below(donors.len() as u64) as usize];
        written.push(format!("write {} {name}", donor.display()));
    }
    for number in 0..donors.len().min(200) {
        let donor = &donors[random.below(donors.len() as u64) as usize];
        written.push(format!("write {} day2/new{number}", donor.display()));
    }
    removed.append(&mut written);
    debugfs(path, 2, &removed)?;
    check(path)
}

/// Runs requests that change the image.
fn debugfs(path: &Path, day: u8, requests: &[String]) -> Result<()> {
    let script = path.with_extension("debugfs");
    fs::write(&script, requests.join("\n") + "\n").concerning(&script)?;
    let changed = run(at_time(program("debugfs"), day).arg("-w").arg("-f").arg(&script).arg(path), None);
    fs::remove_file(&script).concerning(&script)?;
    changed
}

/// The regular files in the image's folder of files, as paths that need no quoting.
fn files_inside(path: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![FILES.to_owned()];
    while !folders.is_empty() {
        // One call for a whole level: each opening of the image costs.
        let requests: String = folders.iter().map(|folder| format!("ls -p {folder}\n")).collect();
        let mut child = program("debugfs");
        let script = path.with_extension("ls");
        fs::write(&script, requests).concerning(&script)?;
        let output = child.arg("-f").arg(&script).arg(path).output().concerning(Path::new("debugfs"))?;
        fs::remove_file(&script).concerning(&script)?;
        let mut below = Vec::new();
        let mut folder = "";
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(request) = line.strip_prefix("debugfs: ls -p ") {
                folder = folders.iter().find(|known| *known == request).map_or("", String::as_str);
                continue;
            }
            // /inode/mode/uid/gid/name/size/
            let fields: Vec<&str> = line.split('/').collect();
            let [_, _, mode, _, _, name, ..] = fields[..] else { continue };
            if name == "." || name == ".." || folder.is_empty() || !is_plain(Path::new(name)) {
                continue;
            }
            match mode.get(..2) {
                Some("04") => below.push(format!("{folder}/{name}")),
                Some("10") => files.push(format!("{folder}/{name}")),
                _ => {}
            }
        }
        folders = below;
    }
    files.sort();
    Ok(files)
}

/// Whether debugfs reads the path as one word.
fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c)))
}

/// Tells the tools what time it is.
fn at_time(mut command: Command, day: u8) -> Command {
    command.env("E2FSPROGS_FAKE_TIME", seconds(day).to_string());
    command
}

fn seconds(day: u8) -> u64 {
    day_time(day).duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The image must hold a sound file system: else what was measured is not what was meant.
fn check(path: &Path) -> Result<()> {
    let output = program("e2fsck").args(["-f", "-n"]).arg(path).output().concerning(Path::new("e2fsck"))?;
    if output.status.success() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&output.stdout);
    Err(Error(format!("{}: e2fsck finds faults: {found}", path.display())))
}
