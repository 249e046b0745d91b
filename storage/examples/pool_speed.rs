//! How fast the pool takes new data, known data, and gives it back, beside what its steps alone reach.
//!
//! `cargo run --release -p narrowboat-storage --example pool_speed -- [MiB] [threads] [folder] [million names]`
//!
//! With the last one the index has so many names of other things already, and their containers are empty files.
//!
//! Prints wall-clock and processor time for each step; on a machine that does other work, believe the processor's.
//! The data is half text-like, half noise, and never repeats. Known data is the same again after reopening.

mod synthetic;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use narrowboat_storage::Result;
use narrowboat_storage::chunk::{ChunkSizes, Cut, Cutter};
use narrowboat_storage::container::codec::{Patience, compress};
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::error::Environment;
use narrowboat_storage::id::StoreId;
use narrowboat_storage::index::{Index, IndexOptions};
use narrowboat_storage::media::{FileMedia, Media};
use narrowboat_storage::name::{Kind, Realm};
use narrowboat_storage::pool::{Pool, PoolOptions, StreamId};

/// Chunks are put in runs of about this many bytes.
const RUN_BYTES: usize = 1 << 20;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mib: usize = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(512);
    let threads: usize = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(2);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from).join("narrowboat-pool-speed");
    let data: Vec<_> = (0..threads as u64).map(|thread| sample(thread, (mib << 20) / threads)).collect();
    let million: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(0);
    let total = data.iter().map(Vec::len).sum();

    measure("steps alone, no store", total, || {
        each(&data, |_, data| {
            let (realm, patience, mut out) = (Realm::published(), Patience::default(), Vec::new());
            cut(data, |run| {
                for chunk in run {
                    std::hint::black_box(realm.name(Kind::Chunk, chunk));
                    compress(chunk, &mut out, &patience);
                }
                out.clear();
                Ok(())
            })
        })
    })?;
    let _ = std::fs::remove_dir_all(&folder);
    let open = || -> Result<Pool> {
        let options = PoolOptions::new(|_, _| Ok(Vec::new()));
        Ok(Pool::open(Arc::new(FileMedia::open(&folder)?), StoreId([1; 16]), Realm::published(), options)?.0)
    };
    let put_all = |pool: &Pool| {
        each(&data, |nth, data| cut(data, |run| pool.put_batch(StreamId(nth as u64), Kind::Chunk, run).map(drop)))
    };
    drop(open()?);
    if million > 0 {
        grow(&folder, million * 1_000_000)?;
    }
    let began = Instant::now();
    let pool = open()?;
    println!("opened in {:.2} s, {:.0} MB of memory", began.elapsed().as_secs_f64(), peak_bytes() / 1e6);
    while pool.warm()? {}
    println!("filter ready {:.2} s after that", began.elapsed().as_secs_f64());
    measure("new data, and into the index", total, || {
        put_all(&pool)?;
        pool.close()
    })?;
    println!("{:?}", pool.stats()?);
    if million > 0 {
        drop(pool);
        let began = Instant::now();
        let pool = open()?;
        println!("opened again in {:.2} s", began.elapsed().as_secs_f64());
        measure("known data", total, || put_all(&pool))?;
        println!("{:?}, {:.0} MB of memory at most", pool.stats()?.lookups, peak_bytes() / 1e6);
        drop(pool);
        let _ = std::fs::remove_dir_all(&folder);
        return Ok(());
    }
    measure("known data, names in memory", total, || put_all(&pool))?;
    drop(pool);
    let pool = open()?;
    measure("known data, after reopening", total, || put_all(&pool))?;
    println!("{:?}", pool.stats()?.lookups);
    measure("read back", total, || {
        each(&data, |_, data| {
            cut(data, |run| {
                for chunk in run {
                    assert_eq!(pool.read(Kind::Chunk, &pool.realm().name(Kind::Chunk, chunk))?, *chunk);
                }
                Ok(())
            })
        })
    })?;
    drop(pool);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

/// Puts names into the index that nobody asks for, and empty files in the place of their containers.
fn grow(folder: &Path, names: u64) -> Result<()> {
    const FIRST: u64 = 1 << 30;
    let media: Arc<dyn Media> = Arc::new(FileMedia::open(folder)?);
    let options = PoolOptions::new(|_, _| Ok(Vec::new()));
    let index_options = IndexOptions {
        cache_bytes: options.index_cache_bytes,
        filter_bits_per_name: options.filter_bits_per_name,
        filter_bytes_max: options.filter_bytes_max,
        verify_bytes_max: 0,
        fresh_max: options.index_fresh_max,
    };
    let (index, next) = Index::open(media.clone(), StoreId([1; 16]), &Realm::published().id(), &index_options)?;
    while index.warm_filter()? {}
    let (began, batch) = (Instant::now(), options.index_batch_max as u64);
    for from in (0..names).step_by(batch as usize) {
        let to = (from + batch).min(names);
        for id in synthetic::containers(FIRST, from, to) {
            let path = folder.join(path(id, Class::Data));
            path.parent()
                .map(std::fs::create_dir_all)
                .transpose()
                .and_then(|_| std::fs::File::create(path))
                .map_err(|source| Environment::Io { operation: "create", file: "a container".into(), source })?;
        }
        synthetic::insert(&index, FIRST, from, to, next)?;
        let seconds = began.elapsed().as_secs_f64();
        eprint!("\r{:4} million names, {:.0} a second  ", to / 1_000_000, to as f64 / seconds);
    }
    eprintln!();
    println!("{names} names in {:.0} s, {} MB on disk", began.elapsed().as_secs_f64(), index.file_bytes()? / 1_000_000);
    index.save_filter()
}

/// Most memory that this process had, in bytes: VmHWM of proc(5).
fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() * 1024.0
}

/// One thread for each part.
fn each(data: &[Vec<u8>], work: impl Fn(usize, &[u8]) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = data.iter().enumerate().map(|(nth, data)| scope.spawn(move || work(nth, data))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })
}

/// Cuts data and hands over runs of chunks.
fn cut(data: &[u8], mut work: impl FnMut(&[&[u8]]) -> Result<()>) -> Result<()> {
    let cutter = Cutter::new(ChunkSizes::default());
    let (mut at, mut run, mut run_bytes) = (0, Vec::new(), 0);
    while at < data.len() {
        match cutter.next(&data[at..], at as u64, false, true) {
            Cut::Chunk { len, .. } => {
                run.push(&data[at..at + len]);
                run_bytes += len;
                at += len;
            }
            Cut::Hole(len) => at += len,
            Cut::NeedMore => break,
        }
        if run_bytes >= RUN_BYTES {
            work(&run)?;
            run.clear();
            run_bytes = 0;
        }
    }
    work(&run)
}

fn measure(what: &str, bytes: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (start, before) = (Instant::now(), cpu_times());
    work()?;
    let (wall, after) = (start.elapsed(), cpu_times());
    let (user, system) = (after.0 - before.0, after.1 - before.1);
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9);
    let gb = bytes as f64 / 1e9;
    let (user, system) = (user.as_secs_f64() / gb, system.as_secs_f64() / gb);
    println!("{what:32} {:8.0} MB/s wall, CPU s/GB: {user:5.2} user {system:5.2} system", rate(wall));
    Ok(())
}

/// Processor time of this process so far, its own and the kernel's for it, in steps of 10 ms: fields 14 and 15 of
/// proc(5)'s stat.
fn cpu_times() -> (Duration, Duration) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut times = fields.map(|field| Duration::from_millis(10 * field.parse::<u64>().unwrap_or_default()));
    (times.next().unwrap_or_default(), times.next().unwrap_or_default())
}

/// Half words, half noise, in stretches of 4 KiB.
fn sample(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"lock ", b"towpath ", b"aqueduct ", b"tiller ", b"wharf ", b"coal\n", b"barge ", b"of "];
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    for stretch in noise.chunks_mut(8192) {
        let (text, rest) = stretch.split_at_mut(stretch.len() / 2);
        let (mut at, mut nth) = (0, 0);
        while at < text.len() {
            let pick = rest.get(nth / 2 % rest.len().max(1)).copied().unwrap_or_default() >> (4 * (nth % 2));
            let word = WORDS[usize::from(pick) % 8];
            let len = word.len().min(text.len() - at);
            text[at..at + len].copy_from_slice(&word[..len]);
            (at, nth) = (at + len, nth + 1);
        }
    }
    noise
}
