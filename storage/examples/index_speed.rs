//! What the index costs: time to insert names in batches, bytes a name, look-ups, opening.
//!
//! `cargo run --release -p narrowboat-storage --example index_speed -- [million names] [batch in thousands] [folder] [names in the database]`
//!
//! The last one is how many names stay in the database before they move into sorted files; 1000000000 measures redb alone.

mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use narrowboat_storage::Result;
use narrowboat_storage::id::StoreId;
use narrowboat_storage::index::{Index, IndexOptions};
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::name::Name;
use synthetic::name;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let million: u64 = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(4);
    let batch = 1000 * args.next().and_then(|arg| arg.parse().ok()).unwrap_or(256u64);
    let folder = args.next().map_or_else(std::env::temp_dir, PathBuf::from).join("narrowboat-index-speed");
    let fresh_max = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(1 << 20);
    let _ = std::fs::remove_dir_all(&folder);
    let options = IndexOptions {
        cache_bytes: 32 << 20,
        filter_bits_per_name: 10,
        filter_bytes_max: 256 << 20,
        verify_bytes_max: 0,
        fresh_max,
    };
    let open = || -> Result<Index> {
        Ok(Index::open(Arc::new(FileMedia::open(&folder)?), StoreId([1; 16]), &[2; 16], &options)?.0)
    };
    let index = open()?;
    while index.warm_filter()? {}
    let total = million * 1_000_000;
    for from in (0..total).step_by(batch as usize) {
        let start = Instant::now();
        synthetic::insert(&index, 0, from, (from + batch).min(total), 0)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{:9} names: batch in {seconds:6.2} s, {:5.1} bytes a name on disk, {:4.1} bits a name in the filter",
            index.len(),
            index.file_bytes()? as f64 / index.len() as f64,
            index.filter().bytes() as f64 * 8.0 / index.len() as f64,
        );
    }
    look_up("known", &index, |nth| name(nth * 7919 % total))?;
    look_up("new", &index, |nth| name(total + nth))?;
    index.save_filter()?;
    drop(index);
    let start = Instant::now();
    let index = open()?;
    println!(
        "opened in {:.2} s, filter {}",
        start.elapsed().as_secs_f64(),
        if index.filter().cold().is_none() { "loaded" } else { "cold" }
    );
    drop(index);
    let index = open()?;
    let start = Instant::now();
    while index.warm_filter()? {}
    println!("filter filled from the index in {:.2} s", start.elapsed().as_secs_f64());
    drop(index);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

fn look_up(what: &str, index: &Index, name: impl Fn(u64) -> Name) -> Result<()> {
    const LOOKUPS: u64 = 200_000;
    let (mut maybe, mut found) = (0, 0);
    let start = Instant::now();
    for nth in 0..LOOKUPS {
        let name = name(nth);
        if index.filter().may_have(name.prefix()) {
            maybe += 1;
            found += index.probe(&[name])?.iter().flatten().count();
        }
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64;
    println!("{LOOKUPS} {what} names: {micros:.2} µs each, {maybe} went to the index, {found} found");
    Ok(())
}
