//! Traffic of the class scavenger beside others on a simulated line: what is left for it, and what it takes alone.

#[path = "common/node.rs"]
mod node;

use std::time::Duration;

use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_wan::link::transport::{transport, transport_of};
use narrowboat_wan::shape::Class;
use node::{Node, always_send, cubic};
use quinn::{Connection, TransportConfig};

/// A sender and a receiver with a line between them.
struct Office {
    a: Node,
    b: Node,
}

impl Office {
    fn new(line: Line) -> Office {
        let net = SimNet::new(9);
        let (a, b) = (Node::new(&net, 1, None), Node::new(&net, 2, None));
        net.connect(a.address, b.address, line);
        a.know(&b, None);
        b.know(&a, None);
        b.take_all();
        Office { a, b }
    }

    /// A connection that always has something to send.
    async fn sender(&self, transport: TransportConfig) -> Connection {
        let connection = self.a.dial_with(&self.b, transport).await;
        always_send(&connection).await;
        connection
    }
}

/// Megabits per second that each sends over a stretch of time.
async fn rates(connections: &[&Connection], time: Duration) -> Vec<f64> {
    let sent = || connections.iter().map(|connection| connection.stats().udp_tx.bytes).collect::<Vec<_>>();
    let before = sent();
    tokio::time::sleep(time).await;
    sent().iter().zip(before).map(|(now, before)| (now - before) as f64 * 8e-6 / time.as_secs_f64()).collect()
}

fn scavenger() -> TransportConfig {
    transport_of(Class::Scavenger)
}

fn line(mbit: u64, milli: u64, loss: f64, queue_bdp: f64) -> Line {
    let mut line = Line::new(mbit * 1_000_000, Duration::from_millis(milli), loss);
    line.queue_bytes = (line.queue_bytes as f64 * queue_bdp) as u64;
    line
}

const LINES: [(u64, u64, f64); 5] = [(20, 50, 1.0), (20, 50, 4.0), (20, 50, 0.3), (5, 200, 1.0), (100, 10, 1.0)];

async fn beside(mbit: u64, milli: u64, queue: f64, other: TransportConfig) -> (f64, f64, f64) {
    let office = Office::new(line(mbit, milli, 0.0, queue));
    let yields = office.sender(scavenger()).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let takes = office.sender(other).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let both = rates(&[&yields, &takes], Duration::from_secs(40)).await;
    takes.close(0_u32.into(), b"done");
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = rates(&[&yields], Duration::from_secs(20)).await;
    (both[0] / mbit as f64, both[1] / mbit as f64, after[0] / mbit as f64)
}

/// Some of the table on every run.
#[tokio::test(start_paused = true)]
async fn scavengers_yield_and_take_what_is_left() {
    for (name, other) in [("Cubic", cubic()), ("our normal class", transport())] {
        let office = Office::new(line(20, 50, 0.0, 1.0));
        let yields = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let alone = rates(&[&yields], Duration::from_secs(10)).await[0];
        assert!(alone > 12.0, "alone it takes {alone} of 20 Mbit/s");
        let takes = office.sender(other).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let both = rates(&[&yields, &takes], Duration::from_secs(15)).await;
        assert!(both[0] < 1.2 && both[1] > 17.0, "beside {name}: {both:?}");
        takes.close(0_u32.into(), b"done");
        tokio::time::sleep(Duration::from_secs(15)).await;
        let after = rates(&[&yields], Duration::from_secs(10)).await[0];
        assert!(after > 11.0, "after {name} it takes {after} of 20 Mbit/s");
    }
}

/// The table of docs/performance/wan.md.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement for docs/performance/wan.md"]
async fn table() {
    println!(
        "| line | scavenger alone | beside Cubic | Cubic | after it | beside our normal one | that one | after it | two of them |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let filter = std::env::var("NARROWBOAT_ROW").unwrap_or_default();
    for (mbit, milli, queue) in LINES {
        if !format!("{mbit}-{milli}-{queue}").contains(&filter) {
            continue;
        }
        let office = Office::new(line(mbit, milli, 0.0, queue));
        let first = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let alone = rates(&[&first], Duration::from_secs(30)).await[0] / mbit as f64;
        let second = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let two = rates(&[&first, &second], Duration::from_secs(60)).await;
        let of_cubic = beside(mbit, milli, queue, cubic()).await;
        let of_ours = beside(mbit, milli, queue, transport()).await;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        println!(
            "| {mbit} Mbit/s, {milli} ms, queue of {queue} BDP | {} | {} | {} | {} | {} | {} | {} | {:.1} and {:.1} Mbit/s |",
            percent(alone),
            percent(of_cubic.0),
            percent(of_cubic.1),
            percent(of_cubic.2),
            percent(of_ours.0),
            percent(of_ours.1),
            percent(of_ours.2),
            two[0],
            two[1],
        );
    }
}
