//! Which of the machine's files to take: whole folders, so that what lies together in life lies together here.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::random::Random;
use super::{Concerning, Result};

/// Fewest files that a corpus of the default size should have.
const FILES_MIN: usize = 20_000;

/// A few files that lie together: a folder with all below it, or the files directly in a folder.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// Files and symlinks, relative to the tree they come from, sorted.
    pub paths: Vec<PathBuf>,
    /// Their sizes together.
    pub bytes: u64,
}

impl Unit {
    fn add(&mut self, path: PathBuf, bytes: u64) {
        self.paths.push(path);
        self.bytes += bytes;
    }

    fn absorb(&mut self, other: Unit) {
        self.paths.extend(other.paths);
        self.bytes += other.bytes;
    }
}

/// Divides the tree below `from` into units of at most `unit_bytes_max`. What cannot be read is left out.
pub fn units(from: &Path, unit_bytes_max: u64) -> Result<Vec<Unit>> {
    let mut units = Vec::new();
    fs::read_dir(from).concerning(from)?;
    let whole = divide(from, Path::new(""), unit_bytes_max, &mut units);
    units.extend(whole.filter(|unit| !unit.paths.is_empty()));
    units.sort_by(|a, b| a.paths.cmp(&b.paths));
    Ok(units)
}

/// Returns the folder as one unit, or pushes its parts to `units` and returns none.
fn divide(from: &Path, folder: &Path, unit_bytes_max: u64, units: &mut Vec<Unit>) -> Option<Unit> {
    let mut own = Unit::default();
    // A file with many names in one folder counts once; names elsewhere may not be chosen together, so they count.
    let mut seen = HashSet::new();
    let mut parts = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(from.join(folder)).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut divided = false;
    for entry in entries {
        let path = folder.join(entry.file_name());
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            match divide(from, &path, unit_bytes_max, units) {
                Some(part) => parts.push(part),
                None => divided = true,
            }
        } else if metadata.is_symlink() || metadata.is_file() && fs::File::open(entry.path()).is_ok() {
            let bytes = if metadata.nlink() == 1 || seen.insert(metadata.ino()) { metadata.len() } else { 0 };
            if metadata.len() <= unit_bytes_max {
                own.add(path, bytes);
            }
        }
    }
    let bytes = own.bytes + parts.iter().map(|part| part.bytes).sum::<u64>();
    if !divided && bytes <= unit_bytes_max {
        parts.into_iter().for_each(|part| own.absorb(part));
        own.paths.sort();
        return Some(own);
    }
    units.extend(parts.into_iter().filter(|part| !part.paths.is_empty()));
    units.extend((!own.paths.is_empty()).then(|| cut(from, own, unit_bytes_max)));
    None
}

/// Keeps the first files of a unit, up to a size.
fn cut(from: &Path, unit: Unit, bytes_max: u64) -> Unit {
    let mut kept = Unit::default();
    for path in unit.paths {
        let bytes = fs::symlink_metadata(from.join(&path)).map_or(0, |metadata| metadata.len());
        if kept.bytes + bytes <= bytes_max {
            kept.add(path, bytes);
        }
    }
    kept
}

/// Chooses units up to `bytes_max` together: first those of many small files, up to half of the room, until there
/// are enough files; then any. Returns the chosen and the rest.
pub fn choose(mut units: Vec<Unit>, bytes_max: u64, random: &mut Random) -> (Vec<Unit>, Vec<Unit>) {
    units.sort_by_key(|unit| (unit.bytes / unit.paths.len().max(1) as u64, unit.paths.first().cloned()));
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    let (mut bytes, mut files) = (0, 0);
    for unit in units {
        if files < FILES_MIN && bytes + unit.bytes <= bytes_max / 2 {
            bytes += unit.bytes;
            files += unit.paths.len();
            chosen.push(unit);
        } else {
            others.push(unit);
        }
    }
    random.shuffle(&mut others);
    let mut rest = Vec::new();
    for unit in others {
        if bytes + unit.bytes <= bytes_max {
            bytes += unit.bytes;
            chosen.push(unit);
        } else {
            rest.push(unit);
        }
    }
    (chosen, rest)
}

/// A few of the units, at most `bytes_max` together in blocks of 4 KiB; where none fits whole, a part of one.
pub fn up_to(from: &Path, units: &[Unit], bytes_max: u64, random: &mut Random) -> Vec<PathBuf> {
    let mut order: Vec<&Unit> = units.iter().collect();
    random.shuffle(&mut order);
    let mut taken = Unit::default();
    let in_blocks = |unit: &Unit| unit.bytes + 4_096 * unit.paths.len() as u64;
    for unit in &order {
        if in_blocks(&taken) + in_blocks(unit) <= bytes_max {
            taken.absorb((*unit).clone());
        }
    }
    if let (true, Some(first)) = (taken.paths.is_empty(), order.first()) {
        taken = cut(from, (*first).clone(), bytes_max / 4);
    }
    taken.paths.sort();
    taken.paths
}

/// Writes a list of paths, each ended by a zero byte.
pub fn save(list: &Path, paths: &[PathBuf]) -> Result<()> {
    let mut out = Vec::new();
    for path in paths {
        out.write_all(path.as_os_str().as_bytes())?;
        out.push(0);
    }
    fs::write(list, out).concerning(list)
}

/// Reads what [`save`] wrote.
pub fn load(list: &Path) -> Result<Vec<PathBuf>> {
    let bytes = fs::read(list).concerning(list)?;
    let names = bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(std::ffi::OsString::from_vec(name.to_vec()))).collect())
}
