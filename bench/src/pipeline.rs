//! The store's own pipeline beside its ingredients: what cutting, hashing and compressing alone reach on all
//! processors, and what a whole store reaches, journal, containers, index, trees and a sealed snapshot included.
//!
//! The bytes come from memory. Where the store lies is the caller's choice: on memory it shows the processor's share,
//! on a disk what a box would do. The ingredients compress a chunk once only, as a store does.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::chunk::ChunkSizes;
use narrowboat_storage::dataset::{Call, Create, Credentials, FileTree, SetAttributes};
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Store, StoreOptions};

use crate::corpus::regular_files;

/// How much one call of a client writes.
const WRITE_BYTES: usize = 1 << 20;
/// So many files wait for one sync, as the replies of the box's NFS server do.
const COMMITS_TOGETHER: usize = 64;
/// Pieces of this length are cut independently, so that one large file occupies all processors.
const SEGMENT_BYTES: usize = 8 << 20;

/// What a bench returns when it fails: a sentence.
pub type Result<T> = std::result::Result<T, String>;

/// What one run took.
#[derive(Clone, Copy, serde::Serialize)]
pub struct Took {
    /// Megabytes a second.
    pub mb_per_second: f64,
    /// Processor seconds for a gigabyte.
    pub processor_seconds_per_gb: f64,
}

/// Measures `rounds` times in turns, prints a line for each, and at the end the medians and the share.
pub fn run(dir: &Path, scratch: &Path, rounds: usize) -> Result<()> {
    let contents = load(dir)?;
    let bytes: usize = contents.iter().map(Bytes::len).sum();
    println!("{:.1} MB in {} files, {} threads", bytes as f64 / 1e6, contents.len(), threads());
    let (mut alone, mut whole) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let ingredients = measure(bytes, || ingredients(&contents))?;
        let store = measure(bytes, || store(&contents, &scratch.join("pipeline-store")))?;
        for (name, took) in [("ingredients alone", ingredients), ("whole store", store)] {
            println!(
                "round {round}: {name:18} {:7.0} MB/s, {:5.2} processor s/GB",
                took.mb_per_second, took.processor_seconds_per_gb
            );
        }
        alone.push(ingredients.mb_per_second);
        whole.push(store.mb_per_second);
    }
    let (alone, whole) = (median(&mut alone), median(&mut whole));
    println!(
        "median: {alone:.0} and {whole:.0} MB/s: the store reaches {:.0} % of its ingredients",
        100.0 * whole / alone
    );
    Ok(())
}

/// Cutting, naming and compressing, and a set of names so that each chunk is compressed once.
fn ingredients(contents: &[Bytes]) -> Result<()> {
    let segments: Vec<Bytes> = contents
        .iter()
        .flat_map(|content| {
            let starts = (0..content.len()).step_by(SEGMENT_BYTES);
            starts.map(|start| content.slice(start..content.len().min(start + SEGMENT_BYTES)))
        })
        .collect();
    let (sizes, realm) = (ChunkSizes::DEFAULT, Realm::published());
    let seen: Vec<Mutex<HashSet<Name>>> = (0..64).map(|_| Mutex::default()).collect();
    on_all_processors(segments.len(), |index| {
        let segment = &segments[index];
        let mut compressed = vec![0; lz4_flex::block::get_maximum_output_size(sizes.max_bytes())];
        let level = fastcdc::v2020::Normalization::Level1;
        let (min, avg, max) = (sizes.min_bytes(), sizes.avg_bytes(), sizes.max_bytes());
        for chunk in fastcdc::v2020::FastCDC::with_level(segment, min, avg, max, level) {
            let chunk = &segment[chunk.offset..chunk.offset + chunk.length];
            let name = realm.name(Kind::Chunk, chunk);
            let shard = &seen[(name.prefix() % seen.len() as u64) as usize];
            if shard.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
                lz4_flex::block::compress_into(chunk, &mut compressed).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    })
}

/// A new store takes all contents as files of one share, by as many writers as there are processors, and seals a snapshot.
fn store(contents: &[Bytes], data: &Path) -> Result<()> {
    match std::fs::remove_dir_all(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let media = FileMedia::open(data).map_err(|error| error.to_string())?;
    let (store, _) = Store::open(Arc::new(media), StoreOptions::default()).map_err(|error| error.to_string())?;
    let outcome = std::thread::scope(|scope| {
        // The box does the same with two threads.
        for _ in 0..2 {
            scope.spawn(|| {
                while store.wait_for_work(Duration::from_secs(1)) {
                    while store.drain_step(now()).unwrap_or(false) {}
                }
            });
        }
        let outcome = fill(&store, contents).map_err(|error| error.to_string());
        store.stop_waiting();
        outcome
    });
    drop(store);
    let removed = std::fs::remove_dir_all(data).map_err(|error| error.to_string());
    outcome.and(removed)
}

fn fill(store: &Store, contents: &[Bytes]) -> narrowboat_storage::Result<()> {
    let share = store.create_share("bench", Policy::Inline, now())?;
    let tree = store.tree(share.row.id)?;
    let failed = Mutex::new(None);
    let files: Vec<File> = contents.iter().enumerate().map(|(number, content)| File::new(number, content)).collect();
    let pieces: Vec<(&File, usize)> =
        files.iter().flat_map(|file| file.starts().map(move |start| (file, start))).collect();
    // A refusal of the store ends the bench with its own words, so it is carried out of the threads as it is.
    let _ = on_all_processors(pieces.len(), |index| {
        let (file, start) = pieces[index];
        file.write(&*tree, start).map_err(|error| {
            let text = error.to_string();
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            text
        })
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let snapshot = store.create_snapshot("bench", "done", now())?;
    store.seal(snapshot.id).map(drop)
}

/// A file on its way into the store. As from an NFS client, several calls for it may be under way at once: whoever is
/// first makes it, whoever is last commits it.
struct File<'a> {
    number: usize,
    content: &'a Bytes,
    made: OnceLock<Inode>,
    making: Mutex<()>,
    left: AtomicUsize,
}

impl<'a> File<'a> {
    fn new(number: usize, content: &'a Bytes) -> Self {
        let left = AtomicUsize::new(content.len().div_ceil(WRITE_BYTES).max(1));
        File { number, content, made: OnceLock::new(), making: Mutex::default(), left }
    }

    /// Where its calls begin; an empty one has one, too.
    fn starts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.content.len().max(1)).step_by(WRITE_BYTES)
    }

    fn inode(&self, tree: &dyn FileTree, call: &Call) -> narrowboat_storage::Result<Inode> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inode) = self.made.get() {
            return Ok(*inode);
        }
        let how = Create::Unchecked(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
        let made = tree.create(call, Inode::ROOT, format!("{:06}", self.number).as_bytes(), &how)?.file.inode;
        Ok(*self.made.get_or_init(|| made))
    }

    fn write(&self, tree: &dyn FileTree, start: usize) -> narrowboat_storage::Result<()> {
        let caller = Credentials::ROOT;
        let call = Call { caller: &caller, now: now(), tag: None };
        let inode = self.inode(tree, &call)?;
        let piece = self.content.slice(start..self.content.len().min(start + WRITE_BYTES));
        if !piece.is_empty() {
            tree.write(&call, inode, start as u64, piece)?;
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(());
        }
        let committed = tree.commit(inode)?;
        if self.number.is_multiple_of(COMMITS_TOGETHER) { tree.make_stable(committed.lsn) } else { Ok(()) }
    }
}

fn load(dir: &Path) -> Result<Vec<Bytes>> {
    let paths: Vec<PathBuf> = regular_files(dir).map_err(|error| error.to_string())?;
    let read =
        |path: &PathBuf| std::fs::read(path).map(Bytes::from).map_err(|error| format!("{}: {error}", path.display()));
    paths.iter().map(read).collect()
}

/// Does `work` for every number below `count`; the first failure ends it.
fn on_all_processors(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(());
                }
                work(index)?;
            }
        };
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(worker)).collect();
        let ended =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err("a thread ended early".into())));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn measure(bytes: usize, work: impl FnOnce() -> Result<()>) -> Result<Took> {
    let (began, before) = (Instant::now(), processor_seconds()?);
    work()?;
    let (seconds, processor) = (began.elapsed().as_secs_f64(), processor_seconds()? - before);
    Ok(Took { mb_per_second: bytes as f64 / 1e6 / seconds, processor_seconds_per_gb: processor / (bytes as f64 / 1e9) })
}

/// User and system time of this process so far, from /proc: a hundredth of a second is fine enough here.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) / 100.0),
        _ => Err("/proc/self/stat is not as expected".into()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(since.as_secs() as i64, since.subsec_nanos())
}
