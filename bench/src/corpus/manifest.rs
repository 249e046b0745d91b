//! What a tree consists of, one line a file, and the exact comparison of two such lists.
//!
//! A line is `type mode uid gid seconds.nanoseconds size name` and, after a tab each, what belongs to the type: the
//! BLAKE3 hash of a file's content, `=` and the first of its names when it has several in the tree, `>` and a symlink's
//! target. Bytes outside printable ASCII, spaces and `%` are written as `%XX`.
//!
//! Access and change times are left out: reading changes the one, and nobody can set the other.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Concerning, Error, Result};

/// Something that a comparison looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Aspect {
    /// File, folder, symlink, device, pipe or socket.
    Type,
    /// Permission bits, set-id and sticky bits; of symlinks never, as Linux gives them no meaning.
    Mode,
    /// Owner and group.
    Owner,
    /// Modification time, to the nanosecond.
    Time,
    /// Length and content.
    Content,
    /// Which names are names of one file.
    Links,
    /// Symlink targets.
    Target,
    /// Names in one tree only.
    Presence,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// `f`, `d`, `l`, `b`, `c`, `p` or `s`.
    kind: char,
    mode: u32,
    uid: u32,
    gid: u32,
    modified: (i64, i64),
    size: u64,
    /// Hash of a regular file's content, in hex.
    hash: String,
    /// The first name of the same file, where it has several.
    same_as: Option<PathBuf>,
    target: PathBuf,
}

/// What a tree consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Manifest {
    /// The manifest of a folder, or the one that a file holds.
    pub fn of(path: &Path) -> Result<Manifest> {
        if fs::metadata(path).concerning(path)?.is_dir() { Manifest::scan(path) } else { Manifest::load(path) }
    }

    /// Reads a whole tree. Fails on the first thing that cannot be read.
    pub fn scan(root: &Path) -> Result<Manifest> {
        let mut manifest = Manifest::default();
        let mut first_names: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let full = root.join(&path);
            let metadata = fs::symlink_metadata(&full).concerning(&full)?;
            let entry = Entry::of(&full, &metadata)?;
            if entry.kind == 'd' {
                for below in fs::read_dir(&full).concerning(&full)? {
                    pending.push(path.join(below.concerning(&full)?.file_name()));
                }
            } else if metadata.nlink() > 1 {
                first_names.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
            }
            manifest.entries.insert(path, entry);
        }
        for mut names in first_names.into_values().filter(|names| names.len() > 1) {
            names.sort();
            for name in &names {
                if let Some(entry) = manifest.entries.get_mut(name) {
                    entry.same_as = Some(names[0].clone());
                }
            }
        }
        manifest.hash_contents(root)?;
        Ok(manifest)
    }

    /// Fills in the hashes, on as many threads as there are processors. Further names of a file take the first's.
    fn hash_contents(&mut self, root: &Path) -> Result<()> {
        let is_first = |path: &PathBuf, entry: &Entry| entry.same_as.as_ref().is_none_or(|first| first == path);
        let files: Vec<PathBuf> = self
            .entries
            .iter()
            .filter(|(path, entry)| entry.kind == 'f' && is_first(path, entry))
            .map(|(path, _)| path.clone())
            .collect();
        let next = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let hashed: Vec<Result<Vec<(usize, String)>>> = std::thread::scope(|scope| {
            let worker = || {
                let mut done = Vec::new();
                while let Some((index, path)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|index| files.get(index).map(|path| (index, path)))
                {
                    let full = root.join(path);
                    done.push((index, hash_file(&full).concerning(&full)?));
                }
                Ok(done)
            };
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let failed = || Err(Error("a thread that reads files ended early".into()));
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| failed())).collect()
        });
        for part in hashed {
            for (index, hash) in part? {
                if let Some(entry) = self.entries.get_mut(&files[index]) {
                    entry.hash = hash;
                }
            }
        }
        let firsts: Vec<(PathBuf, PathBuf)> =
            self.entries.iter().filter_map(|(path, e)| Some((path.clone(), e.same_as.clone()?))).collect();
        for (path, first) in firsts {
            let hash = self.entries.get(&first).map(|entry| entry.hash.clone()).unwrap_or_default();
            if let Some(entry) = self.entries.get_mut(&path) {
                entry.hash = hash;
            }
        }
        Ok(())
    }

    /// Writes the manifest, sorted by name.
    pub fn write(&self, out: &mut dyn io::Write) -> Result<()> {
        for (path, e) in &self.entries {
            let (seconds, nanoseconds) = e.modified;
            write!(out, "{} {:04o} {} {} {seconds}.{nanoseconds:09} {} ", e.kind, e.mode, e.uid, e.gid, e.size)?;
            write!(out, "{}\t{}\t", escape(path), e.hash)?;
            if let Some(first) = &e.same_as {
                write!(out, "={}", escape(first))?;
            }
            if e.kind == 'l' {
                write!(out, ">{}", escape(&e.target))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Reads what [`Manifest::write`] wrote.
    pub fn load(path: &Path) -> Result<Manifest> {
        let mut manifest = Manifest::default();
        for (number, line) in io::BufReader::new(fs::File::open(path).concerning(path)?).lines().enumerate() {
            let line = line.concerning(path)?;
            let Some((name, entry)) = Entry::parse(&line) else {
                return Err(Error(format!("{}: line {}: not a line of a manifest", path.display(), number + 1)));
            };
            manifest.entries.insert(name, entry);
        }
        Ok(manifest)
    }

    /// Everything in which `other` differs from this.
    pub fn compare(&self, other: &Manifest, ignore: &[Aspect]) -> Difference {
        let mut difference = Difference { checked: self.summary(), ..Difference::default() };
        let names: std::collections::BTreeSet<_> = self.entries.keys().chain(other.entries.keys()).collect();
        for name in names {
            match (self.entries.get(name), other.entries.get(name)) {
                (Some(a), Some(b)) => a.compare(b, &mut |aspect, text| difference.add(ignore, aspect, name, text)),
                (Some(_), None) => difference.add(ignore, Aspect::Presence, name, "missing".into()),
                _ => difference.add(ignore, Aspect::Presence, name, "not expected".into()),
            }
        }
        difference
    }

    /// How much there is, in words.
    pub fn summary(&self) -> String {
        let count = |kind| self.entries.values().filter(|entry| entry.kind == kind).count();
        let further = |(path, entry): &(&PathBuf, &Entry)| entry.same_as.as_ref().is_some_and(|first| first != *path);
        let linked = self.entries.iter().filter(further).count();
        let first_names = self.entries.iter().filter(|pair| pair.1.kind == 'f' && !further(pair));
        let bytes: u64 = first_names.map(|(_, entry)| entry.size).sum();
        format!(
            "{} files ({linked} of them further names), {} folders, {} symlinks, {:.1} MB",
            count('f'),
            count('d'),
            count('l'),
            bytes as f64 / 1e6
        )
    }
}

impl Entry {
    fn of(path: &Path, metadata: &fs::Metadata) -> Result<Entry> {
        let kind = match metadata.file_type() {
            t if t.is_file() => 'f',
            t if t.is_dir() => 'd',
            t if t.is_symlink() => 'l',
            t if t.is_block_device() => 'b',
            t if t.is_char_device() => 'c',
            t if t.is_fifo() => 'p',
            _ => 's',
        };
        Ok(Entry {
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: match kind {
                'f' => metadata.len(),
                'b' | 'c' => metadata.rdev(),
                _ => 0,
            },
            hash: String::new(),
            same_as: None,
            target: if kind == 'l' { fs::read_link(path).concerning(path)? } else { PathBuf::new() },
        })
    }

    fn parse(line: &str) -> Option<(PathBuf, Entry)> {
        let mut tabs = line.split('\t');
        let mut words = tabs.next()?.split(' ');
        let hash = tabs.next()?.to_owned();
        let extra = tabs.next()?;
        let kind = words.next()?.chars().next()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let (uid, gid) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (seconds, nanoseconds) = words.next()?.split_once('.')?;
        let modified = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
        let size = words.next()?.parse().ok()?;
        let name = unescape(words.next()?)?;
        let same_as = match extra.strip_prefix('=') {
            Some(first) => Some(unescape(first)?),
            None => None,
        };
        let target = unescape(extra.strip_prefix('>').unwrap_or_default())?;
        Some((name, Entry { kind, mode, uid, gid, modified, size, hash, same_as, target }))
    }

    fn compare(&self, other: &Entry, report: &mut dyn FnMut(Aspect, String)) {
        if self.kind != other.kind {
            return report(Aspect::Type, format!("type '{}', not '{}'", other.kind, self.kind));
        }
        if self.mode != other.mode && self.kind != 'l' {
            report(Aspect::Mode, format!("mode {:04o}, not {:04o}", other.mode, self.mode));
        }
        if (self.uid, self.gid) != (other.uid, other.gid) {
            report(Aspect::Owner, format!("owner {}:{}, not {}:{}", other.uid, other.gid, self.uid, self.gid));
        }
        if self.modified != other.modified {
            let show = |(seconds, nanoseconds): (i64, i64)| format!("{seconds}.{nanoseconds:09}");
            report(Aspect::Time, format!("modified {}, not {}", show(other.modified), show(self.modified)));
        }
        if self.size != other.size {
            report(Aspect::Content, format!("size {}, not {}", other.size, self.size));
        } else if self.hash != other.hash {
            report(Aspect::Content, format!("content {:.16}, not {:.16}", other.hash, self.hash));
        }
        if self.same_as != other.same_as {
            let show = |first: &Option<PathBuf>| first.as_ref().map_or("nothing".into(), |path| escape(path));
            report(Aspect::Links, format!("linked to {}, not {}", show(&other.same_as), show(&self.same_as)));
        }
        if self.target != other.target {
            report(Aspect::Target, format!("points to {}, not {}", escape(&other.target), escape(&self.target)));
        }
    }
}

/// In what two trees differ.
#[derive(Debug, Default)]
pub struct Difference {
    checked: String,
    counts: BTreeMap<Aspect, usize>,
    shown: Vec<String>,
}

impl Difference {
    /// How many differences are listed one by one.
    const SHOWN_MAX: usize = 25;

    fn add(&mut self, ignore: &[Aspect], aspect: Aspect, name: &Path, text: String) {
        if ignore.contains(&aspect) {
            return;
        }
        *self.counts.entry(aspect).or_default() += 1;
        if self.shown.len() < Self::SHOWN_MAX {
            self.shown.push(format!("{}: {text}", if name.as_os_str().is_empty() { ".".into() } else { escape(name) }));
        }
    }

    /// True where nothing differs.
    pub fn is_equal(&self) -> bool {
        self.counts.is_empty()
    }

    /// The verdict for machines.
    pub fn json(&self) -> String {
        let counts: BTreeMap<String, usize> =
            self.counts.iter().map(|(aspect, n)| (format!("{aspect:?}").to_lowercase(), *n)).collect();
        let value = serde_json::json!({
            "equal": self.is_equal(), "checked": self.checked, "differences": counts, "first": self.shown,
        });
        value.to_string()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_equal() {
            return write!(f, "equal: {}", self.checked);
        }
        for line in &self.shown {
            writeln!(f, "  {line}")?;
        }
        let total: usize = self.counts.values().sum();
        if total > self.shown.len() {
            writeln!(f, "  and {} more", total - self.shown.len())?;
        }
        let counts: Vec<String> =
            self.counts.iter().map(|(aspect, n)| format!("{aspect:?} {n}").to_lowercase()).collect();
        write!(f, "DIFFERENT: {} (of {})", counts.join(", "), self.checked)
    }
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

fn escape(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'!'..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = rest.get(2..)?;
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}
