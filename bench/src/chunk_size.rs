//! What the average chunk size costs and brings, on real data: deduplication, metadata, processor time.
//!
//! Everything is done as the store does it (its cutter, its names, its compression), in memory and on one thread, without
//! disk or index. Processor time is this thread's own, so other load on the machine distorts it little.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fastcdc::v2020::FastCDC;
use narrowboat_storage::chunk::{ChunkSizes, Cutter, Fed, Feed};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::tree::sequence::INLINE_BYTES_MAX;

/// Average sizes that are compared.
const AVERAGES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// Files are read and cut in pieces of this size, as a client writes them.
const PIECE_BYTES: usize = 1 << 20;
/// One entry of the index: 32 bytes of name and 16 of place, in pages that random insertion leaves about 70 % full.
const INDEX_BYTES: f64 = 48.0 / 0.7;
/// A chunk's slot header and its line in the container's directory.
const CONTAINER_BYTES: f64 = 80.0 + 52.0;
/// One entry of a sequence tree, with its share of the nodes above.
const TREE_BYTES: f64 = 36.0;

/// What is known after some days.
#[derive(Clone, Copy, Default)]
struct Sums {
    logical: u64,
    holes: u64,
    inline: u64,
    chunks: u64,
    unique_chunks: u64,
    unique: u64,
    stored: u64,
}

/// Seconds of this thread's processor time.
#[derive(Clone, Copy, Default)]
struct Seconds {
    fastcdc: f64,
    cut: f64,
    name: f64,
    compress: f64,
}

/// Prints the table for `days`: folders that are backed up one after the other.
pub fn run(days: &[PathBuf]) -> io::Result<()> {
    println!(
        "| average | day | logical MB | chunks | mean KiB | unique MB | stored MB | dedup | dedup and LZ4 | index MB / logical TB | index MB / stored TB | metadata % of stored | FastCDC alone MB/s | cut MB/s | cut, hash MB/s | all MB/s |"
    );
    println!(
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for average in AVERAGES {
        let sizes = ChunkSizes::around(average).map_err(io::Error::other)?;
        let mut store = Store { cutter: Cutter::new(sizes), realm: Realm::published(), known: HashMap::new() };
        let mut total = (Sums::default(), Seconds::default());
        for (number, day) in days.iter().enumerate() {
            let mut measured = (Sums::default(), Seconds::default());
            store.folder(day, &mut measured)?;
            print(average, &format!("{}", number + 1), measured);
            total = (add(total.0, measured.0), add_seconds(total.1, measured.1));
        }
        print(average, "all", total);
    }
    Ok(())
}

struct Store {
    cutter: Cutter,
    realm: Realm,
    /// Names, and how long they are stored.
    known: HashMap<Name, u32>,
}

impl Store {
    /// Backs up a folder and what is below it; symlinks and special files are passed over.
    fn folder(&mut self, folder: &Path, measured: &mut (Sums, Seconds)) -> io::Result<()> {
        let mut paths =
            fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        for path in paths {
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                self.folder(&path, measured)?;
            } else if kind.is_file() {
                self.file(Bytes::from(fs::read(&path)?), measured)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, bytes: Bytes, (sums, seconds): &mut (Sums, Seconds)) -> io::Result<()> {
        sums.logical += bytes.len() as u64;
        let start = thread_seconds()?;
        let sizes = self.cutter.sizes();
        let alone = FastCDC::new(&bytes, sizes.min_bytes(), sizes.avg_bytes(), sizes.max_bytes());
        std::hint::black_box(alone.count());
        let begin = thread_seconds()?;
        seconds.fastcdc += begin - start;
        let (chunks, holes) = self.cut(&bytes);
        let cut = thread_seconds()?;
        sums.holes += holes;
        let names: Vec<Name> = chunks.iter().map(|chunk| self.realm.name(Kind::Chunk, chunk)).collect();
        let named = thread_seconds()?;
        for (chunk, name) in chunks.iter().zip(names) {
            if chunk.len() <= INLINE_BYTES_MAX {
                sums.inline += chunk.len() as u64;
                continue;
            }
            sums.chunks += 1;
            self.known.entry(name).or_insert_with(|| {
                let stored = lz4_flex::block::compress(chunk).len().min(chunk.len());
                sums.unique_chunks += 1;
                sums.unique += chunk.len() as u64;
                sums.stored += stored as u64;
                stored as u32
            });
        }
        seconds.cut += cut - begin;
        seconds.name += named - cut;
        seconds.compress += thread_seconds()? - named;
        Ok(())
    }

    fn cut(&self, bytes: &Bytes) -> (Vec<Bytes>, u64) {
        let (mut feed, mut chunks, mut holes, mut fed) = (Feed::new(0), Vec::new(), 0, 0);
        loop {
            match feed.next(&self.cutter) {
                Fed::Chunk { bytes, .. } => chunks.push(bytes),
                Fed::Hole(len) => holes += len,
                Fed::End => return (chunks, holes),
                Fed::NeedMore if fed == bytes.len() => feed.end(),
                Fed::NeedMore => {
                    let piece = bytes.slice(fed..bytes.len().min(fed + PIECE_BYTES));
                    fed += piece.len();
                    feed.push(piece);
                }
            }
        }
    }
}

fn print(average: usize, day: &str, (sums, seconds): (Sums, Seconds)) {
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let logical = mb(sums.logical);
    let data = sums.logical - sums.holes - sums.inline;
    let index_mb = sums.unique_chunks as f64 * INDEX_BYTES / 1e6;
    let metadata_mb = index_mb + (sums.unique_chunks as f64 * CONTAINER_BYTES + sums.chunks as f64 * TREE_BYTES) / 1e6;
    let stored_mb = mb(sums.stored + sums.inline);
    println!(
        "| {} KiB | {day} | {logical:.0} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.0} | {:.0} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} |",
        average >> 10,
        sums.chunks,
        data as f64 / sums.chunks as f64 / 1024.0,
        mb(sums.unique + sums.inline),
        stored_mb,
        logical / mb(sums.unique + sums.inline),
        logical / (stored_mb + metadata_mb),
        index_mb / logical * 1e6,
        index_mb / stored_mb * 1e6,
        metadata_mb / stored_mb * 100.0,
        logical / seconds.fastcdc,
        logical / seconds.cut,
        logical / (seconds.cut + seconds.name),
        logical / (seconds.cut + seconds.name + seconds.compress),
    );
}

fn add(one: Sums, other: Sums) -> Sums {
    Sums {
        logical: one.logical + other.logical,
        holes: one.holes + other.holes,
        inline: one.inline + other.inline,
        chunks: one.chunks + other.chunks,
        unique_chunks: one.unique_chunks + other.unique_chunks,
        unique: one.unique + other.unique,
        stored: one.stored + other.stored,
    }
}

fn add_seconds(one: Seconds, other: Seconds) -> Seconds {
    Seconds {
        fastcdc: one.fastcdc + other.fastcdc,
        cut: one.cut + other.cut,
        name: one.name + other.name,
        compress: one.compress + other.compress,
    }
}

/// Seconds that this thread has had a processor, as Linux counts them.
fn thread_seconds() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    Ok(nanoseconds.ok_or(io::ErrorKind::InvalidData)? as f64 / 1e9)
}
