//! How fast a volume takes writes and gives them back, with one thread that drains beside it.
//!
//! `cargo run --release -p narrowboat-storage --example volume_speed -- [MiB] [folder]`
//!
//! Prints wall-clock and processor time for each step; on a machine that does other work, believe the processor's.
//! The data is noise, unknown at first and known when it is written again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::BlockDevice;
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Result, Store, StoreOptions};

/// A clock that counts calls.
static CLOCK: AtomicI64 = AtomicI64::new(1);

fn now() -> Timestamp {
    Timestamp(CLOCK.fetch_add(1, Ordering::Relaxed))
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mib: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(512);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from).join("narrowboat-volume-speed");
    let _ = std::fs::remove_dir_all(&folder);
    let (store, _) = Store::open(Arc::new(FileMedia::open(&folder)?), StoreOptions::default())?;
    let size = mib << 20;
    for name in ["disk", "windowed"] {
        store.create_volume(name, size, Policy::Inline, now())?;
    }
    let window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };
    store.set_window("windowed", Some(window), now())?;
    let store = &store;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while store.wait_for_work(Duration::from_millis(100)) {
                while store.drain_step(now()).unwrap_or(false) {}
            }
        });
        let outcome = steps(store, size);
        store.stop_waiting();
        outcome
    });
    println!("{:?}", store.stats()?);
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

fn steps(store: &Store, size: u64) -> Result<()> {
    let noise = noise(size as usize + (1 << 20));
    let device = |name: &str| store.volume(store.dataset_named(name)?.row.id);
    let disk = device("disk")?;
    let all = |disk: &dyn BlockDevice, len: u64, shift: u64| -> Result<()> {
        for offset in (0..size).step_by(len as usize) {
            let at = (offset + shift) as usize;
            let lsn = disk.write(now(), offset, noise.slice(at..at + len as usize))?;
            disk.write_out(lsn)?;
        }
        disk.flush()
    };
    measure("1 MiB in order, unknown", size, || all(&*disk, 1 << 20, 0))?;
    measure("drained", size, || store.drain_all(now()))?;
    measure("1 MiB in order, known", size, || all(&*disk, 1 << 20, 0))?;
    measure("256 KiB in order, other bytes", size, || all(&*disk, 256 << 10, 4096))?;
    measure("drained", size, || store.drain_all(now()))?;
    measure("read, 1 MiB", size, || (0..size).step_by(1 << 20).try_for_each(|at| disk.read(at, 1 << 20).map(drop)))?;
    let blocks = size / 4096;
    let at_random = move |nth: u64| nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) % blocks * 4096;
    let random = |disk: &dyn BlockDevice, count: u64, flush: u64| -> Result<()> {
        for nth in 0..count {
            let from = (nth * 4096) as usize % size as usize + 1234;
            let lsn = disk.write(now(), at_random(nth), noise.slice(from..from + 4096))?;
            if flush > 0 && nth % flush == 0 { disk.make_stable(lsn) } else { disk.write_out(lsn) }?;
        }
        disk.flush()
    };
    for (name, disk) in [("", &disk), (", with a window", &device("windowed")?)] {
        let count = blocks / 2;
        measure(&format!("4 KiB at random{name}"), count * 4096, || random(&**disk, count, 0))?;
        measure("  drained", count * 4096, || store.drain_all(now()))?;
    }
    measure("4 KiB at random, each flushed", 500 * 4096, || random(&*disk, 500, 1))?;
    measure("the same by 16 threads", 16 * 500 * 4096, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| random(&*disk, 500, 1))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })
    })?;
    measure("read, 4 KiB at random", blocks / 4 * 4096, || {
        (0..blocks / 4).try_for_each(|nth| disk.read(at_random(nth), 4096).map(drop))
    })?;
    let then = Timestamp(CLOCK.load(Ordering::Relaxed));
    random(&*device("windowed")?, 20_000, 0)?;
    measure("a clone at a moment, 20,000 writes on", size, || {
        store.clone_at("windowed", &Moment::Time(then), "clone", now()).map(drop)
    })
}

fn measure(what: &str, bytes: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (start, before) = (Instant::now(), cpu_times());
    work()?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_times() - before);
    let gib = bytes as f64 / f64::from(1 << 30);
    println!("{what:38} {wall:7.2} s {:7.0} MiB/s, {:6.2} CPU s/GiB", gib * 1024.0 / wall, cpu.as_secs_f64() / gib);
    Ok(())
}

/// Processor time of this process so far, its own and the kernel's for it, in steps of 10 ms: fields 14 and 15 of
/// proc(5)'s stat.
fn cpu_times() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.map(|field| Duration::from_millis(10 * field.parse::<u64>().unwrap_or_default())).sum()
}

fn noise(len: usize) -> Bytes {
    let mut noise = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise.into()
}
