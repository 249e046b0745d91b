//! What lies in a share at some moment: looked at, and taken home, through the page.

use std::io::Write;

use narrowboat_storage::Store;
use narrowboat_storage::dataset::{Attributes, Credentials, DirEntry, FileTree, FileType};
use narrowboat_storage::units::Inode;

use super::Failed;
use super::door::{Download, Folder, FolderEntry};
use super::restore::{Origin, Temporary, find_origin};
use crate::jobs::download::{Frames, download, download_volume};
use crate::units::rfc3339;

/// Most entries in one answer.
const ENTRIES_MAX: u32 = 1000;

/// What is in a folder, from an entry on.
pub(super) fn browse(store: &Store, source: &str, path: &str, after: u64, limit: u32) -> Result<Folder, Failed> {
    let (origin, _until_it_is_read) = find(store, source)?;
    let Origin::Files { tree, .. } = &origin else {
        return Err(Failed::refused(format!("{source} is a volume: it has blocks, and no files")));
    };
    let (folder, names) = walk(&**tree, path)?;
    if folder.file_type != FileType::Directory {
        return Err(Failed::refused(format!("{} is no folder", shown(&names))));
    }
    // What comes first is the folder itself, and the one above.
    let after = after.max(2);
    let listing = tree.read_dir(&Credentials::ROOT, folder.inode, after, limit.clamp(1, ENTRIES_MAX) as usize)?;
    let next = listing.entries.last().map(|entry| entry.cookie).filter(|_| !listing.end);
    Ok(Folder { entries: listing.entries.iter().map(entry).collect(), next })
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
        let name = unescaped(part).filter(|name| *name != b"." && *name != b"..");
        let name = name.ok_or_else(|| Failed::refused(format!("{path}: this is no path")))?;
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
        part: escaped(&entry.name),
        kind: kind.into(),
        bytes: of.size,
        modified: rfc3339(of.modified),
        cookie: entry.cookie,
    }
}

/// A name as a part of a path: letters, digits and `-._~` as they are, every other byte as `%XX` (RFC 3986, section 2).
fn escaped(name: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unescaped(part: &str) -> Option<Vec<u8>> {
    let mut bytes = part.bytes();
    let mut name = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    (!name.contains(&b'/') && !name.contains(&0)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_a_part_of_a_path_and_no_path_leads_elsewhere() {
        let all: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        assert_eq!(unescaped(&escaped(&all)), Some(all));
        assert_eq!(escaped("a b/ü".as_bytes()), "a%20b%2F%C3%BC");
        for wrong in ["%", "%4", "%zz", "a%2Fb", "a%00", "%+1"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }
}
