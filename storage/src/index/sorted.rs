//! Sorted files: names of one part of the index that do not change any more, with their places.
//!
//! Pages of 4 KiB, each with a checksum, then the first name of each page, then a footer. Which page a name is in is known without the
//! disk, so a look-up reads one page. A file is written once, whole and in order, and removed when another one has all that it had.
//!
//! Nothing in a page is believed before its checksum was. `docs/formats/index.md` owns the bytes.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Damage, Result, io_error};
use crate::id::StoreId;
use crate::media::{Media, MediaFile};
use crate::name::Name;

use super::format::{
    FOOTER_BYTES, LOCATION_BYTES, PAGE_BYTES, PAGE_ROWS, SortedFooter, decode_page, encode_page, page_count,
};

/// The folder of sorted files.
pub const SORTED_DIR: &str = "index";
/// Pages that are read or written at once by whoever goes through a file.
const RUN_PAGES: usize = 64;

/// A name and what the index says of it, as `format::Entry` has it.
pub(super) type Row = (Name, [u8; LOCATION_BYTES]);

/// One sorted file. It is opened when it is needed, and removed when it is dropped after [`SortedFile::let_go`].
pub(super) struct SortedFile {
    /// Never given to another file of this index.
    pub id: u64,
    /// The first byte of all its names.
    pub part: u8,
    /// How many rows it has.
    pub rows: u64,
    media: Arc<dyn Media>,
    store: StoreId,
    opened: OnceLock<Opened>,
    gone: AtomicBool,
}

struct Opened {
    file: Arc<dyn MediaFile>,
    /// The first eight bytes of each page's first name, as a number that sorts as they do.
    fences: Vec<u64>,
}

/// A page that was read last, so that neighbours need not read it again.
pub(super) type LastPage = Option<(u64, usize, Vec<u8>)>;

impl SortedFile {
    /// A file that is there.
    pub fn new(media: Arc<dyn Media>, store: StoreId, id: u64, part: u8, rows: u64) -> SortedFile {
        SortedFile { id, part, rows, media, store, opened: OnceLock::new(), gone: AtomicBool::new(false) }
    }

    /// Its path in the data folder.
    pub fn path(&self) -> String {
        path(self.id)
    }

    /// Its length on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        let pages = page_count(self.rows) as u64;
        pages * (PAGE_BYTES as u64 + 8) + FOOTER_BYTES as u64
    }

    /// Nothing leads to it any more: it is removed as soon as nobody reads it.
    pub fn let_go(&self) {
        self.gone.store(true, Ordering::Release);
    }

    fn opened(&self) -> Result<&Opened> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = self.open()?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn open(&self) -> Result<Opened> {
        let path = self.path();
        let file = self.media.open(&path).map_err(|error| io_error("open", &path, error))?;
        let len = file.len().map_err(|error| io_error("measure", &path, error))?;
        let (pages, bytes) = (page_count(self.rows), self.bytes());
        if len != bytes {
            return Err(Damage::new(&path, 0, format!("{bytes} bytes"), format!("{len}")).into());
        }
        let at = (pages * PAGE_BYTES) as u64;
        let tail = read(&*file, &path, at, pages * 8 + FOOTER_BYTES)?;
        let (fences, footer) = tail.split_at(pages * 8);
        let wanted = self.footer(crc32c::crc32c(fences)).encode();
        if *footer != wanted {
            return Err(Damage::new(&path, at, "the footer of this file", "another one, or other first names").into());
        }
        let fences = fences.as_chunks::<8>().0.iter().map(|fence| u64::from_be_bytes(*fence)).collect();
        Ok(Opened { file, fences })
    }

    fn footer(&self, fences_sum: u32) -> SortedFooter {
        SortedFooter { store: self.store, id: self.id, part: self.part, rows: self.rows, fences_sum }
    }

    /// What the file says of a name. `last` is the page that was read last, of any file.
    pub fn find(&self, name: &Name, last: &mut LastPage) -> Result<Option<[u8; LOCATION_BYTES]>> {
        let opened = self.opened()?;
        let mut found = None;
        for page in opened.pages_of(sorting(name.prefix())) {
            let rows = self.page(opened, page, last)?;
            found =
                found.or_else(|| rows.binary_search_by(|row| row[..32].cmp(&name.0)).ok().map(|at| value(&rows[at])));
        }
        Ok(found)
    }

    /// Adds all rows whose names begin so ([`Name::prefix`]).
    pub fn find_beginning(&self, prefix: u64, last: &mut LastPage, found: &mut Vec<Row>) -> Result<()> {
        let opened = self.opened()?;
        for page in opened.pages_of(sorting(prefix)) {
            let rows = self.page(opened, page, last)?;
            found.extend(rows.iter().map(row).filter(|(name, _)| name.prefix() == prefix));
        }
        Ok(())
    }

    fn page<'a>(
        &self,
        opened: &Opened,
        page: usize,
        last: &'a mut LastPage,
    ) -> Result<&'a [[u8; 32 + LOCATION_BYTES]]> {
        if last.as_ref().is_none_or(|(id, number, _)| (*id, *number) != (self.id, page)) {
            let path = self.path();
            let bytes = read(&*opened.file, &path, (page * PAGE_BYTES) as u64, PAGE_BYTES)?;
            self.verify(&bytes, page)?;
            *last = Some((self.id, page, bytes));
        }
        let bytes = last.as_ref().map_or(&[][..], |(_, _, bytes)| bytes);
        Ok(decode_page(bytes, self.id, page).unwrap_or_default())
    }

    fn verify(&self, bytes: &[u8], page: usize) -> Result<()> {
        match decode_page(bytes, self.id, page) {
            Some(_) => Ok(()),
            None => {
                let at = (page * PAGE_BYTES) as u64;
                Err(Damage::new(self.path(), at, "a page of this file with a matching checksum", "other bytes").into())
            }
        }
    }

    /// All rows, in the order of names.
    pub fn rows(&self) -> Rows<'_> {
        Rows { file: self, page: 0, read: Vec::new(), at: 0, failed: false }
    }

    /// Reads and verifies all of it: checksums, and that names are in order, of this part, and as many as there should be.
    pub fn check(&self) -> Result<()> {
        let (mut before, mut rows) = (None::<Name>, 0);
        for row in self.rows() {
            let (name, _) = row?;
            if name.0[0] != self.part || before.is_some_and(|before| before >= name) {
                let found = format!("{name} behind {}", before.map_or("nothing".to_owned(), |name| name.to_string()));
                return Err(Damage::new(self.path(), 0, "names in order", found).into());
            }
            (before, rows) = (Some(name), rows + 1);
        }
        match rows == self.rows {
            true => Ok(()),
            false => Err(Damage::new(self.path(), 0, format!("{} names", self.rows), rows).into()),
        }
    }
}

impl Drop for SortedFile {
    fn drop(&mut self) {
        if self.gone.load(Ordering::Acquire) {
            // What stays in spite of that goes with the next opening.
            let _ = self.media.remove(&self.path());
        }
    }
}

impl Opened {
    /// The pages that names which begin so can be in: one, but where many names begin alike.
    fn pages_of(&self, prefix: u64) -> std::ops::Range<usize> {
        let from = self.fences.partition_point(|fence| *fence < prefix);
        let to = self.fences.partition_point(|fence| *fence <= prefix);
        from.saturating_sub(1)..to
    }
}

/// The first eight bytes of a name, as [`Name::prefix`] has them, as a number that sorts as they do.
fn sorting(prefix: u64) -> u64 {
    prefix.swap_bytes()
}

/// The path of the sorted file `id`.
pub(super) fn path(id: u64) -> String {
    format!("{SORTED_DIR}/{id:016x}.sorted")
}

fn row(bytes: &[u8; 32 + LOCATION_BYTES]) -> Row {
    let mut name = [0; 32];
    name.copy_from_slice(&bytes[..32]);
    (Name(name), value(bytes))
}

fn value(bytes: &[u8; 32 + LOCATION_BYTES]) -> [u8; LOCATION_BYTES] {
    let mut value = [0; LOCATION_BYTES];
    value.copy_from_slice(&bytes[32..]);
    value
}

fn read(file: &dyn MediaFile, path: &str, at: u64, len: usize) -> Result<Vec<u8>> {
    crate::media::read_exact_at(file, at, len).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Damage::new(path, at, "more bytes", "the end of the file").into(),
        _ => io_error("read", path, error),
    })
}

/// The rows of a file, read some pages at a time.
pub(super) struct Rows<'a> {
    file: &'a SortedFile,
    page: usize,
    read: Vec<Row>,
    at: usize,
    failed: bool,
}

impl Rows<'_> {
    fn read_on(&mut self) -> Result<()> {
        let opened = self.file.opened()?;
        let pages = (opened.fences.len() - self.page).min(RUN_PAGES);
        let bytes = read(&*opened.file, &self.file.path(), (self.page * PAGE_BYTES) as u64, pages * PAGE_BYTES)?;
        self.read.clear();
        self.at = 0;
        for page in bytes.chunks_exact(PAGE_BYTES) {
            self.file.verify(page, self.page)?;
            self.read.extend(decode_page(page, self.file.id, self.page).unwrap_or_default().iter().map(row));
            self.page += 1;
        }
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Row>;

    /// The next row. After an error there is none.
    fn next(&mut self) -> Option<Result<Row>> {
        if self.at == self.read.len()
            && !self.failed
            && let Err(error) = self.read_on()
        {
            self.failed = true;
            return Some(Err(error));
        }
        let row = self.read.get(self.at).copied()?;
        self.at += 1;
        Some(Ok(row))
    }
}

/// Writes a sorted file of these rows, which are in the order of names, and syncs it; its name is safe after a sync of the folder. `None`
/// where there is no row. Where it fails nothing is left behind.
pub(super) fn write(
    media: &Arc<dyn Media>,
    store: StoreId,
    id: u64,
    part: u8,
    rows: impl Iterator<Item = Result<Row>>,
) -> Result<Option<SortedFile>> {
    let path = path(id);
    let file = media.create(&path).map_err(|error| io_error("create", &path, error))?;
    let mut writer =
        Writer { file, path: &path, id, rows: 0, page: Vec::new(), run: Vec::new(), at: 0, fences: Vec::new() };
    let written = || {
        rows.into_iter().try_for_each(|row| writer.push(&row?))?;
        writer.end(store, part)
    };
    match written() {
        Ok(rows) if rows > 0 => Ok(Some(SortedFile::new(media.clone(), store, id, part, rows))),
        written => {
            let _ = media.remove(&path);
            written.map(|_| None)
        }
    }
}

struct Writer<'a> {
    file: Arc<dyn MediaFile>,
    path: &'a str,
    id: u64,
    rows: u64,
    /// Rows of the page that is being filled.
    page: Vec<Row>,
    /// Pages that wait to be written, and where they go.
    run: Vec<u8>,
    at: u64,
    fences: Vec<u8>,
}

impl Writer<'_> {
    fn push(&mut self, row: &Row) -> Result<()> {
        self.page.push(*row);
        if self.page.len() == PAGE_ROWS { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<()> {
        let Some((first, _)) = self.page.first() else { return Ok(()) };
        let number = self.fences.len() / 8;
        self.fences.extend_from_slice(&first.0[..8]);
        encode_page(&self.page, self.id, number, &mut self.run);
        self.rows += self.page.len() as u64;
        self.page.clear();
        if self.run.len() >= RUN_PAGES * PAGE_BYTES { self.write_run() } else { Ok(()) }
    }

    fn write_run(&mut self) -> Result<()> {
        let io = |error| io_error("write", self.path, error);
        self.file.write_at(&[IoSlice::new(&self.run)], self.at).map_err(io)?;
        self.at += self.run.len() as u64;
        self.run.clear();
        Ok(())
    }

    fn end(&mut self, store: StoreId, part: u8) -> Result<u64> {
        self.end_page()?;
        let fences_sum = crc32c::crc32c(&self.fences);
        self.run.extend_from_slice(&self.fences);
        self.run.extend_from_slice(&SortedFooter { store, id: self.id, part, rows: self.rows, fences_sum }.encode());
        self.write_run()?;
        self.file.sync().map_err(|error| io_error("sync", self.path, error))?;
        Ok(self.rows)
    }
}

/// Rows of several sources, each in the order of names, as one. Of rows of one name that of the first source counts.
pub(super) struct Merged<'a> {
    sources: Vec<Box<dyn Iterator<Item = Result<Row>> + 'a>>,
    heads: Vec<Option<Row>>,
    failed: bool,
}

impl<'a> Merged<'a> {
    /// Sources, the one that counts most first.
    pub fn new(sources: Vec<Box<dyn Iterator<Item = Result<Row>> + 'a>>) -> Result<Merged<'a>> {
        let heads = vec![None; sources.len()];
        let mut merged = Merged { sources, heads, failed: false };
        (0..merged.sources.len()).try_for_each(|nth| merged.advance(nth))?;
        Ok(merged)
    }

    fn advance(&mut self, nth: usize) -> Result<()> {
        self.heads[nth] = self.sources[nth].next().transpose()?;
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Row>> {
        let Some(first) = self.heads.iter().flatten().map(|(name, _)| *name).min() else { return Ok(None) };
        let mut taken = None;
        for nth in 0..self.heads.len() {
            if self.heads[nth].is_some_and(|(name, _)| name == first) {
                taken = taken.or(self.heads[nth]);
                self.advance(nth)?;
            }
        }
        Ok(taken)
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Row>;

    /// The next row. After an error there is none.
    fn next(&mut self) -> Option<Result<Row>> {
        if self.failed {
            return None;
        }
        let row = self.take();
        self.failed = row.is_err();
        row.transpose()
    }
}
