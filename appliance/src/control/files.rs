//! What lies in a share at some moment: looked at, and taken home, through the page.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::dataset::{Attributes, Credentials, DirEntry, FileTree, FileType, Listing};
use narrowboat_storage::units::Inode;

use super::Failed;
use super::door::{Download, Folder, FolderEntry, Sorted};
use super::restore::{Origin, Temporary, find_origin};
use crate::jobs::download::{Frames, download, download_volume};
use crate::jobs::safe_name;
use crate::percent;
use crate::units::rfc3339;

/// Most entries in one answer.
const ENTRIES_MAX: u32 = 1000;
/// Most entries that are put in order.
const SORTED_MAX: u64 = 1_000_000;

/// What is in a folder, from an entry on.
pub(super) fn browse(store: &Store, source: &str, path: &str, after: u64, limit: u32) -> Result<Folder, Failed> {
    let folder = OpenFolder::find(store, source, path)?;
    // What comes first is the folder itself, and the one above.
    let listing = folder.list(after.max(2), limit.clamp(1, ENTRIES_MAX))?;
    let next = listing.entries.last().map(|entry| entry.cookie).filter(|_| !listing.end);
    Ok(Folder { entries: listing.entries.iter().map(entry).collect(), next })
}

/// What is wanted of a folder's entries.
pub(super) struct Wanted<'a> {
    /// What is in their names, in small letters.
    pub holds: String,
    /// Only what stands behind this one.
    pub after: &'a str,
    pub limit: u32,
}

/// The first so many of a folder by name, whatever it holds: what is not among them is seen, and not kept.
pub(super) fn browse_sorted(store: &Store, source: &str, path: &str, wanted: &Wanted<'_>) -> Result<Sorted, Failed> {
    let folder = OpenFolder::find(store, source, path)?;
    let limit = wanted.limit.clamp(1, ENTRIES_MAX) as usize;
    let after = match wanted.after {
        "" => None,
        place => {
            let part = place.strip_suffix('/').unwrap_or(place);
            let name =
                name_of(part).ok_or_else(|| Failed::refused(format!("{place}: this is no entry of a folder")))?;
            Some(Rank::of(&name, place.ends_with('/')))
        }
    };
    let (mut first, mut more, mut count, mut seen, mut cookie) = (BTreeMap::new(), false, 0, 0u64, 2);
    loop {
        let listing = folder.list(cookie, ENTRIES_MAX)?;
        for found in &listing.entries {
            cookie = found.cookie;
            let rank = Rank::of(&found.name, found.attributes.file_type == FileType::Directory);
            if !rank.shown.contains(&wanted.holds) {
                continue;
            }
            count += 1;
            if after.as_ref().is_some_and(|after| rank <= *after) {
                continue;
            }
            if first.len() == limit && first.last_key_value().is_some_and(|(last, _)| rank > *last) {
                more = true;
                continue;
            }
            first.insert(rank, entry(found));
            if first.len() > limit {
                first.pop_last();
                more = true;
            }
        }
        seen += listing.entries.len() as u64;
        if listing.end || listing.entries.is_empty() {
            return Ok(Sorted { entries: first.into_values().collect(), more, count });
        }
        if seen > SORTED_MAX {
            let why =
                format!("the folder has more than {SORTED_MAX} entries, which is more than a page can put in order");
            return Err(Failed::refused(why));
        }
    }
}

/// Where an entry stands: folders first, then by name without regard to capitals.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_file: bool,
    shown: String,
    name: Vec<u8>,
}

impl Rank {
    fn of(name: &[u8], is_folder: bool) -> Rank {
        Rank { is_file: !is_folder, shown: String::from_utf8_lossy(name).to_lowercase(), name: name.to_owned() }
    }
}

/// A folder of a share at some moment, for as long as it is read.
struct OpenFolder<'a> {
    tree: Arc<dyn FileTree>,
    inode: Inode,
    _until_it_is_read: Option<Temporary<'a>>,
}

impl<'a> OpenFolder<'a> {
    fn find(store: &'a Store, source: &str, path: &str) -> Result<OpenFolder<'a>, Failed> {
        let (origin, until_it_is_read) = find(store, source)?;
        let Origin::Files { tree, .. } = origin else {
            return Err(Failed::refused(format!("{source} is a volume: it has blocks, and no files")));
        };
        let (folder, names) = walk(&*tree, path)?;
        if folder.file_type != FileType::Directory {
            return Err(Failed::refused(format!("{} is no folder", shown(&names))));
        }
        Ok(OpenFolder { tree, inode: folder.inode, _until_it_is_read: until_it_is_read })
    }

    fn list(&self, after: u64, limit: u32) -> Result<Listing, Failed> {
        Ok(self.tree.read_dir(&Credentials::ROOT, self.inode, after, limit as usize)?)
    }
}

/// A file, a folder or a volume that is to be downloaded, and the end of what it is read from.
pub(super) struct Sought<'a> {
    origin: Origin,
    of: Option<(Attributes, Vec<u8>)>,
    pub(super) head: Download,
    _until_it_is_read: Option<Temporary<'a>>,
}

/// Finds what is to be downloaded.
pub(super) fn seek<'a>(store: &'a Store, source: &str, path: &str) -> Result<Sought<'a>, Failed> {
    let (origin, until_it_is_read) = find(store, source)?;
    let dataset = source.split('@').next().unwrap_or(source);
    let (of, head) = match &origin {
        Origin::Volume(_) if !path.is_empty() => {
            return Err(Failed::refused(format!("{source} is a volume: it has no files")));
        }
        Origin::Volume(device) => (None, Download { name: format!("{dataset}.img"), bytes: Some(device.size_bytes()) }),
        Origin::Files { tree, .. } => {
            let (of, names) = walk(&**tree, path)?;
            let name = names.last().cloned().unwrap_or_else(|| dataset.as_bytes().to_vec());
            let shown = String::from_utf8_lossy(&name).into_owned();
            let head = match of.file_type {
                FileType::Regular => Download { name: shown, bytes: Some(of.size) },
                FileType::Directory => Download { name: format!("{shown}.tar"), bytes: None },
                _ => return Err(Failed::refused(format!("{shown} is neither a file nor a folder"))),
            };
            (Some((of, name)), head)
        }
    };
    Ok(Sought { origin, of, head, _until_it_is_read: until_it_is_read })
}

impl Sought<'_> {
    /// Sends all of it, in frames; returns how many bytes that were.
    pub(super) fn send(&self, out: impl Write) -> Result<u64, Failed> {
        let broken = |error: std::io::Error| Failed::environment(format!("it was broken off: {error}"));
        let mut frames = Frames::new(out);
        match (&self.origin, &self.of) {
            (Origin::Volume(device), _) => download_volume(&**device, &mut frames).map_err(broken)?,
            (Origin::Files { tree, .. }, Some((of, name))) => {
                download(&**tree, of, name, &mut frames).map_err(broken)?
            }
            (Origin::Files { .. }, None) => {}
        }
        frames.end().map_err(broken)
    }
}

fn find<'a>(store: &'a Store, source: &str) -> Result<(Origin, Option<Temporary<'a>>), Failed> {
    // A path would stand behind a colon; here it comes by itself, for it may be of any bytes.
    let names = source.split_once('@').map_or(source, |(dataset, _)| dataset);
    if names.contains(':') {
        return Err(Failed::refused(format!("{source}: expected DATASET or DATASET@MOMENT")));
    }
    find_origin(store, source)
}

/// The file that a path stands for (names with `%XX` for bytes, between slashes), and its names. Symlinks are not followed.
fn walk(tree: &dyn FileTree, path: &str) -> Result<(Attributes, Vec<Vec<u8>>), Failed> {
    let mut found = tree.attributes(Inode::ROOT)?;
    let mut names = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let name = name_of(part).ok_or_else(|| Failed::refused(format!("{path}: this is no path")))?;
        found = tree.lookup(&Credentials::ROOT, found.inode, &name)?;
        names.push(name);
    }
    Ok((found, names))
}

fn shown(names: &[Vec<u8>]) -> String {
    names.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join("/")
}

fn entry(entry: &DirEntry) -> FolderEntry {
    let of = &entry.attributes;
    let kind = match of.file_type {
        FileType::Regular => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "link",
        _ => "special",
    };
    FolderEntry {
        name: String::from_utf8_lossy(&entry.name).into_owned(),
        part: percent::part(&entry.name),
        kind: kind.into(),
        bytes: of.size,
        modified: rfc3339(of.modified),
        cookie: entry.cookie,
    }
}

/// The name that a part of a path stands for, where that is one and stays in its folder.
fn name_of(part: &str) -> Option<Vec<u8>> {
    percent::unescaped(part).filter(|name| safe_name(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_elsewhere() {
        let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        assert_eq!(name_of(&percent::part(&all)), Some(all));
        for wrong in ["%", "%4", "%zz", "a%2Fb", "a%00", "%+1", ".", "..", "%2E%2e", ""] {
            assert_eq!(name_of(wrong), None, "{wrong}");
        }
    }
}
