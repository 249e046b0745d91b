//! What somebody takes home of a tree: one file as it is, or a folder as one tar archive. Nothing is written to the box.
//!
//! It goes out in frames, so that whoever receives it knows whether it is whole: a length of four bytes (big-endian) and so many
//! bytes, again and again; a length of zero is the end. Where there is none, something could not be read, or somebody went away.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use narrowboat_storage::dataset::{Attributes, BlockDevice, Credentials, FileTree, FileType};
use narrowboat_storage::units::Inode;
use tar::{EntryType, Header};

use super::safe_name;

/// Bytes read at once.
const READ_BYTES: u64 = 1 << 20;
/// Longest frame: a thin line takes one in less time than is waited for it.
const FRAME_BYTES: usize = 64 << 10;
/// Entries listed at once.
const LIST_ENTRIES: usize = 1000;
/// Folders within folders. A tree that goes deeper is not one that somebody made.
const DEPTH_MAX: usize = 512;

/// Frames on their way out.
pub struct Frames<W: Write> {
    out: W,
    waiting: Vec<u8>,
    sent: u64,
}

impl<W: Write> Frames<W> {
    /// Begins.
    pub fn new(out: W) -> Frames<W> {
        Frames { out, waiting: Vec::with_capacity(FRAME_BYTES), sent: 0 }
    }

    /// Says that it is whole; returns how many bytes that were.
    pub fn end(mut self) -> io::Result<u64> {
        self.send()?;
        self.out.write_all(&0u32.to_be_bytes())?;
        self.out.flush()?;
        Ok(self.sent)
    }

    fn send(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.out.write_all(&(self.waiting.len() as u32).to_be_bytes())?;
            self.out.write_all(&self.waiting)?;
            self.sent += self.waiting.len() as u64;
            self.waiting.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..taken]);
        if self.waiting.len() == FRAME_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()?;
        self.out.flush()
    }
}

/// Writes the bytes of a file, or of a folder's archive, whose folder in it has that name.
pub fn download(tree: &dyn FileTree, of: &Attributes, name: &[u8], out: &mut dyn Write) -> io::Result<()> {
    match of.file_type {
        FileType::Regular => io::copy(&mut FileReader::new(tree, of), out).map(drop),
        FileType::Directory => archive(tree, of, Path::new(OsStr::from_bytes(name)), out),
        _ => Err(io::Error::other("it is neither a file nor a folder")),
    }
}

/// Writes all bytes of a volume.
pub fn download_volume(device: &dyn BlockDevice, out: &mut dyn Write) -> io::Result<()> {
    let (mut offset, size) = (0, device.size_bytes());
    while offset < size {
        let len = READ_BYTES.min(size - offset);
        for piece in device.read(offset, len).map_err(io::Error::other)? {
            out.write_all(&piece)?;
        }
        offset += len;
    }
    Ok(())
}

/// The bytes of a file, one behind the other.
struct FileReader<'a> {
    tree: &'a dyn FileTree,
    inode: Inode,
    offset: u64,
    size: u64,
    pieces: std::collections::VecDeque<Bytes>,
}

impl<'a> FileReader<'a> {
    fn new(tree: &'a dyn FileTree, of: &Attributes) -> FileReader<'a> {
        FileReader { tree, inode: of.inode, offset: 0, size: of.size, pieces: Default::default() }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && self.offset < self.size {
            let len = READ_BYTES.min(self.size - self.offset) as u32;
            let read = self.tree.read(&Credentials::ROOT, self.inode, self.offset, len).map_err(io::Error::other)?;
            let got: u64 = read.pieces.iter().map(|piece| piece.len() as u64).sum();
            if got == 0 || got > u64::from(len) {
                return Err(io::Error::other(format!(
                    "the file changed while it was read: it ends at byte {}",
                    self.offset
                )));
            }
            self.offset += got;
            self.pieces.extend(read.pieces);
        }
        let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
        let len = piece.len().min(buffer.len());
        buffer[..len].copy_from_slice(&piece[..len]);
        piece.advance(len);
        Ok(len)
    }
}

/// An archive that is being written.
struct Archive<'a, 'w> {
    tree: &'a dyn FileTree,
    builder: tar::Builder<&'w mut dyn Write>,
    /// The first name of files that have several.
    links: BTreeMap<Inode, PathBuf>,
    met: BTreeSet<Inode>,
}

fn archive(tree: &dyn FileTree, top: &Attributes, name: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = Archive { tree, builder: tar::Builder::new(out), links: BTreeMap::new(), met: BTreeSet::new() };
    archive.folder(top, name, 0)?;
    archive.builder.finish()
}

impl Archive<'_, '_> {
    fn folder(&mut self, of: &Attributes, path: &Path, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX || !self.met.insert(of.inode) {
            return Err(io::Error::other(format!("{}: the folder lies in itself, or too deep", path.display())));
        }
        self.builder.append_data(&mut header(of, EntryType::Directory, 0), path, io::empty())?;
        let mut cookie = 2;
        loop {
            let listing = self.tree.read_dir(&Credentials::ROOT, of.inode, cookie, LIST_ENTRIES);
            let listing = listing.map_err(io::Error::other)?;
            for entry in &listing.entries {
                cookie = entry.cookie;
                let name = safe_name(&entry.name)
                    .ok_or_else(|| io::Error::other(format!("{}: a name in it leads elsewhere", path.display())))?;
                self.entry(&entry.attributes, &path.join(name), depth)?;
            }
            if listing.end || listing.entries.is_empty() {
                return Ok(());
            }
        }
    }

    fn entry(&mut self, of: &Attributes, path: &Path, depth: usize) -> io::Result<()> {
        if of.file_type == FileType::Directory {
            return self.folder(of, path, depth + 1);
        }
        if let Some(first) = self.links.get(&of.inode) {
            return self.builder.append_link(&mut header(of, EntryType::Link, 0), path, first);
        }
        if of.links > 1 {
            self.links.insert(of.inode, path.to_owned());
        }
        match of.file_type {
            FileType::Regular => {
                let content = FileReader::new(self.tree, of);
                self.builder.append_data(&mut header(of, EntryType::Regular, of.size), path, content)
            }
            FileType::Symlink => {
                let target = self.tree.read_link(&Credentials::ROOT, of.inode).map_err(io::Error::other)?;
                let target = Path::new(OsStr::from_bytes(&target));
                self.builder.append_link(&mut header(of, EntryType::Symlink, 0), path, target)
            }
            FileType::Fifo => self.special(of, EntryType::Fifo, path),
            FileType::BlockDevice => self.special(of, EntryType::Block, path),
            FileType::CharDevice => self.special(of, EntryType::Char, path),
            // A socket is of whoever listens: no archive has them.
            FileType::Socket | FileType::Directory => Ok(()),
        }
    }

    fn special(&mut self, of: &Attributes, entry_type: EntryType, path: &Path) -> io::Result<()> {
        let mut header = header(of, entry_type, 0);
        header.set_device_major(of.device.0)?;
        header.set_device_minor(of.device.1)?;
        self.builder.append_data(&mut header, path, io::empty())
    }
}

fn header(of: &Attributes, entry_type: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry_type);
    header.set_mode(of.mode);
    header.set_uid(of.uid.into());
    header.set_gid(of.gid.into());
    header.set_mtime(u64::try_from(of.modified.seconds()).unwrap_or_default());
    header.set_size(size);
    header
}
