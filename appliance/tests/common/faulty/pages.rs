//! What the disk has where readers see something else: bytes that no sync has brought there.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PAGE_BYTES: u64 = 4096;

/// One page of a file: what the disk has of it, and whether a sync would bring the new bytes there.
#[derive(Debug)]
struct Page {
    on_disk: Vec<u8>,
    /// False once a sync failed that should have covered it: the kernel takes it for written.
    is_dirty: bool,
}

/// Pages of files that are on no disk, by path.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<PathBuf, BTreeMap<u64, Page>>);

impl Pages {
    /// To be called before bytes of a file are written over.
    pub(super) fn will_write(&mut self, path: &Path, file: &File, offset: u64, len: u64) {
        let pages = self.0.entry(path.to_owned()).or_default();
        for page in offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES) {
            let held = pages.entry(page).or_insert_with(|| Page { on_disk: read_page(file, page), is_dirty: true });
            held.is_dirty = true;
        }
    }

    /// A sync of a file came to its end.
    pub(super) fn synced(&mut self, path: &Path) {
        if let Some(pages) = self.0.get_mut(path) {
            pages.retain(|_, page| !page.is_dirty);
        }
    }

    /// A sync of a file failed.
    pub(super) fn sync_failed(&mut self, path: &Path) {
        self.0.get_mut(path).into_iter().flatten().for_each(|(_, page)| page.is_dirty = false);
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        self.0.remove(to);
        if let Some(pages) = self.0.remove(from) {
            self.0.insert(to.to_owned(), pages);
        }
    }

    pub(super) fn removed(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// Puts what the disk has in the place of what readers saw. Returns how many pages that were.
    pub(super) fn lose(&mut self, below: &Path) -> usize {
        let mut lost = 0;
        for (path, pages) in std::mem::take(&mut self.0) {
            let Ok(file) = File::options().write(true).open(below.join(path)) else { continue };
            let len = file.metadata().expect("a file").len();
            for (page, held) in pages {
                let at = page * PAGE_BYTES;
                let there = len.saturating_sub(at).min(PAGE_BYTES) as usize;
                file.write_all_at(&held.on_disk[..there], at).expect("room");
                lost += 1;
            }
        }
        lost
    }
}

/// A page as it lies there, with zeros behind the file's end.
fn read_page(file: &File, page: u64) -> Vec<u8> {
    let mut bytes = vec![0; PAGE_BYTES as usize];
    let mut done = 0;
    while let Ok(got) = file.read_at(&mut bytes[done..], page * PAGE_BYTES + done as u64) {
        if got == 0 {
            break;
        }
        done += got;
    }
    bytes
}
