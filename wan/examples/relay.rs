//! A bad line between two boxes on one machine.
//!
//! ```text
//! cargo run -p narrowboat-wan --example relay -- LISTEN UPSTREAM [--rate 20Mbit] [--rtt 100] [--loss 1] [--queue 250000] [--seed 1]
//! ```
//!
//! Datagrams that come to LISTEN go to UPSTREAM and the answers back, at most at the rate each way, half a round trip (ms)
//! late, lost with the probability (percent), dropped where more than the queue (bytes) waits. Every second it prints
//! what came in, and in the end of each line the most bits in any second so far: a count that owes nothing to the boxes.

use std::process::ExitCode;
use std::time::Duration;

use narrowboat_wan::shape::Rate;

use narrowboat_lines::relay::{Path, Relay};

fn main() -> ExitCode {
    match start() {
        Ok(relay) => report(&relay),
        Err(error) => {
            eprintln!(
                "{error}\nusage: relay LISTEN UPSTREAM [--rate R] [--rtt MS] [--loss PERCENT] [--queue BYTES] [--seed N]"
            );
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<Relay, Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().ok_or(format!("{what} is missing"));
    let (listen, upstream) = (next("LISTEN")?.parse()?, next("UPSTREAM")?.parse()?);
    let mut path = Path::PLAIN;
    let (mut queue, mut seed) = (None, 1);
    while let Some(option) = words.next() {
        let value = words.next().ok_or(format!("{option} needs a value"))?;
        match option.as_str() {
            "--rate" => path.bits_per_second = Some(value.parse::<Rate>()?.bits()),
            "--rtt" => path.delay = Duration::from_secs_f64(value.parse::<f64>()? / 2000.0),
            "--loss" => path.loss = value.parse::<f64>()? / 100.0,
            "--queue" => queue = Some(value.parse()?),
            "--seed" => seed = value.parse()?,
            _ => return Err(format!("{option} is not an option").into()),
        }
    }
    let bdp = path.bits_per_second.map(|rate| (rate as f64 / 4.0 * path.delay.as_secs_f64()) as u64);
    path.queue_bytes = queue.or(bdp.map(|bdp| bdp.max(30_000))).unwrap_or(u64::MAX);
    let relay = Relay::start(listen, upstream, path, path, seed)?;
    println!("{} to {upstream}: {path:?}", relay.address);
    Ok(relay)
}

fn report(relay: &Relay) -> ExitCode {
    let mut before = [0, 0];
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let counts = [relay.up(), relay.down()];
        for (index, name) in ["up", "down"].iter().enumerate() {
            let count = &counts[index];
            print!(
                "{name}: {} Mbit/s, {} bytes, {} dropped, worst second {} Mbit/s   ",
                (count.bytes - before[index]) as f64 * 8e-6,
                count.bytes,
                count.dropped,
                count.worst_second() as f64 * 8e-6
            );
            before[index] = count.bytes;
        }
        println!();
    }
}
