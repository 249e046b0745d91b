//! A network in memory under the real quinn: one seed, one world.
//!
//! Hosts are sockets (`AsyncUdpSocket`); between two of them run two lines, one each way, each with a bottleneck rate, a
//! delay, a tail-drop queue, random and bursty loss, jitter, reordering, duplication, outages and holes of the path MTU. Time is tokio's paused clock. Each
//! line counts what was put into it, in a log of its own that owes nothing to the code under test.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, Sleep};

use crate::HEADERS;
use crate::ledger::Ledger;

/// How packets get lost, besides a full queue.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Each by itself, with this probability.
    Random(f64),
    /// In bursts (Gilbert 1960, Elliott 1963).
    Bursts {
        /// Probability per packet that a good line turns bad.
        worsens: f64,
        /// Probability per packet that a bad line turns good.
        recovers: f64,
        /// Probability per packet of loss while the line is bad.
        loses: f64,
    },
}

/// One direction between two hosts.
#[derive(Clone, Debug)]
pub struct Line {
    /// The bottleneck.
    pub bits_per_second: u64,
    /// One way.
    pub delay: Duration,
    /// Tail drop behind so many bytes.
    pub queue_bytes: u64,
    /// Besides what the queue drops.
    pub loss: Loss,
    /// Probability that a packet is held back by up to `delay / 4`.
    pub reorder: f64,
    /// Packets come later by up to this, in their order: a busy host, or radio.
    pub jitter: Duration,
    /// Probability that a packet arrives twice.
    pub duplicate: f64,
    /// From the start of the world: nothing passes.
    pub outages: Vec<Range<Duration>>,
    /// From the start of the world: what is longer than so many bytes, headers included, vanishes, and nobody says so. The
    /// last that has begun counts.
    pub holes: Vec<(Duration, u64)>,
}

impl Line {
    /// A line with a queue of one bandwidth-delay product (at least 20 full packets).
    pub fn new(bits_per_second: u64, round_trip: Duration, loss: f64) -> Line {
        let bdp = bits_per_second * round_trip.as_micros() as u64 / 8_000_000;
        Line {
            bits_per_second,
            delay: round_trip / 2,
            queue_bytes: bdp.max(30_000),
            loss: Loss::Random(loss),
            reorder: 0.0,
            jitter: Duration::ZERO,
            duplicate: 0.0,
            outages: Vec::new(),
            holes: Vec::new(),
        }
    }
}

/// What was put into a line.
#[derive(Clone, Debug, Default)]
pub struct Wire {
    /// With headers, whatever became of them.
    pub bytes: u64,
    /// Datagrams.
    pub packets: u64,
    /// Of them, those that found the queue full.
    pub dropped_by_queue: u64,
    /// Of them, those that were lost on their way.
    pub lost: u64,
    log: Ledger<Duration>,
}

impl Wire {
    /// The most bytes in any second, wherever it begins.
    pub fn worst_second(&self) -> u64 {
        self.log.worst_second()
    }

    /// The most bytes in any time of this length, wherever it begins.
    pub fn worst(&self, length: Duration) -> u64 {
        self.log.worst(length)
    }

    /// The most bytes in any time of this length that lies between two moments.
    pub fn worst_within(&self, when: Range<Duration>, length: Duration) -> u64 {
        self.log.between(when).worst(length)
    }

    /// Each packet that was put in between two moments, with its bytes.
    pub fn packets_within(&self, when: Range<Duration>) -> Vec<(Duration, u64)> {
        self.log.all_within(when)
    }

    /// Bytes put in between two moments.
    pub fn bytes_within(&self, when: Range<Duration>) -> u64 {
        self.log.bytes_within(when)
    }
}

#[derive(Debug)]
struct Channel {
    line: Line,
    free_at: Duration,
    /// When the last packet arrives.
    last_at: Duration,
    bad: bool,
    wire: Wire,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    at: Duration,
    number: u64,
    from: SocketAddr,
    to: IpAddr,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inbox {
    packets: BinaryHeap<Reverse<Packet>>,
    waker: Option<Waker>,
    /// Which socket of the address it belongs to; earlier ones are dead.
    life: u64,
}

#[derive(Debug)]
struct World {
    began: Instant,
    rng: SmallRng,
    channels: BTreeMap<(SocketAddr, SocketAddr), Channel>,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    /// Further addresses of hosts.
    aliases: BTreeMap<SocketAddr, SocketAddr>,
    /// As what the others see a host behind a NAT.
    outside: BTreeMap<SocketAddr, SocketAddr>,
    packets: u64,
}

/// The network.
#[derive(Clone, Debug)]
pub struct SimNet(Arc<Mutex<World>>);

impl SimNet {
    /// An empty network whose chances come from this seed. To be made within the runtime whose time it is.
    pub fn new(seed: u64) -> SimNet {
        SimNet(Arc::new(Mutex::new(World {
            began: Instant::now(),
            rng: SmallRng::seed_from_u64(seed),
            channels: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            aliases: BTreeMap::new(),
            outside: BTreeMap::new(),
            packets: 0,
        })))
    }

    /// A host at this address. Of one that was there before, as before a power cut, nothing is heard any more.
    pub fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let life = self.silence(address);
        Arc::new(SimSocket { net: self.clone(), address, life, sleep: Mutex::new(None) })
    }

    /// The host at this address is dead: it sends nothing and hears nothing.
    pub fn silence(&self, address: SocketAddr) -> u64 {
        let mut world = self.world();
        let life = world.inboxes.get(&address).map_or(0, |inbox| inbox.life + 1);
        world.inboxes.insert(address, Inbox { life, ..Inbox::default() });
        life
    }

    /// Another address, with the same port, of the host at `address`. It answers from the address that it was sent to.
    pub fn alias(&self, another: SocketAddr, address: SocketAddr) {
        assert_eq!(another.port(), address.port());
        self.world().aliases.insert(another, address);
    }

    /// A NAT in front of the host at `address` gives it this port: others see what it sends come from there. What is sent to a port
    /// that it had before goes to it still; its lines stay.
    pub fn renumber(&self, address: SocketAddr, port: u16) {
        let outside = SocketAddr::new(address.ip(), port);
        let mut world = self.world();
        world.aliases.insert(outside, address);
        world.outside.insert(address, outside);
    }

    /// The same line in both directions.
    pub fn connect(&self, a: SocketAddr, b: SocketAddr, line: Line) {
        for ends in [(a, b), (b, a)] {
            self.set_line(ends, line.clone());
        }
    }

    /// Makes or changes one direction; what was counted stays.
    pub fn set_line(&self, ends: (SocketAddr, SocketAddr), line: Line) {
        let mut world = self.world();
        match world.channels.get_mut(&ends) {
            Some(channel) => channel.line = line,
            None => {
                let (free_at, last_at) = (Duration::ZERO, Duration::ZERO);
                let channel = Channel { line, free_at, last_at, bad: false, wire: Wire::default() };
                world.channels.insert(ends, channel);
            }
        }
    }

    /// What was put into one direction so far.
    pub fn wire(&self, from: SocketAddr, to: SocketAddr) -> Wire {
        self.world().channels[&(from, to)].wire.clone()
    }

    /// Since the start of the world.
    pub fn now(&self) -> Duration {
        self.world().began.elapsed()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the world")
    }
}

impl World {
    fn send(&mut self, (host, life): (SocketAddr, u64), from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.inboxes.get(&host).is_none_or(|inbox| inbox.life != life) {
            return;
        }
        let now = self.began.elapsed();
        // A port of a NAT is at the end of its host's line; a further address has a line of its own.
        let inside = self.aliases.get(&to).copied().filter(|inside| inside.ip() == to.ip()).unwrap_or(to);
        let Some(channel) = self.channels.get_mut(&(from, inside)) else { return };
        let size = bytes.len() as u64 + HEADERS;
        channel.wire.bytes += size;
        channel.wire.packets += 1;
        channel.wire.log.note(now, size);
        let backlog = channel.free_at.saturating_sub(now);
        let queued = backlog.as_nanos() as u64 as f64 * channel.line.bits_per_second as f64 / 8e9;
        if queued as u64 + size > channel.line.queue_bytes {
            channel.wire.dropped_by_queue += 1;
            return;
        }
        let takes = Duration::from_nanos(size * 8_000_000_000 / channel.line.bits_per_second);
        channel.free_at = channel.free_at.max(now) + takes;
        let lost = match channel.line.loss {
            Loss::Random(probability) => self.rng.random_bool(probability),
            Loss::Bursts { worsens, recovers, loses } => {
                channel.bad = if channel.bad { !self.rng.random_bool(recovers) } else { self.rng.random_bool(worsens) };
                channel.bad && self.rng.random_bool(loses)
            }
        };
        let hole = channel.line.holes.iter().rev().find(|(begins, _)| *begins <= now);
        let swallowed = hole.is_some_and(|(_, longest)| size > *longest);
        if lost || swallowed || channel.line.outages.iter().any(|outage| outage.contains(&now)) {
            channel.wire.lost += 1;
            return;
        }
        let mut at = channel.free_at + channel.line.delay;
        if !channel.line.jitter.is_zero() {
            at = channel.last_at.max(at + channel.line.jitter.mul_f64(self.rng.random_range(0.0..1.0)));
            channel.last_at = at;
        }
        if channel.line.reorder > 0.0 && self.rng.random_bool(channel.line.reorder) {
            at += channel.line.delay.mul_f64(self.rng.random_range(0.0..0.25));
        }
        let copies = 1 + usize::from(channel.line.duplicate > 0.0 && self.rng.random_bool(channel.line.duplicate));
        let Some(inbox) = self.inboxes.get_mut(self.aliases.get(&to).unwrap_or(&to)) else { return };
        let from = self.outside.get(&from).copied().unwrap_or(from);
        for _ in 0..copies {
            self.packets += 1;
            let (number, bytes) = (self.packets, bytes.to_vec());
            inbox.packets.push(Reverse(Packet { at, number, from, to: to.ip(), bytes }));
        }
        inbox.waker.take().into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
struct SimSocket {
    net: SimNet,
    address: SocketAddr,
    life: u64,
    sleep: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut world = self.net.world();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let from = SocketAddr::new(transmit.src_ip.unwrap_or(self.address.ip()), self.address.port());
        for bytes in transmit.contents.chunks(segment) {
            world.send((self.address, self.life), from, transmit.destination, bytes);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut world = self.net.world();
            let (now, began) = (world.began.elapsed(), world.began);
            let inbox = world.inboxes.get_mut(&self.address).filter(|inbox| inbox.life == self.life);
            let Some(inbox) = inbox else { return Poll::Pending };
            let mut count = 0;
            while count < bufs.len().min(meta.len()) {
                let Some(Reverse(packet)) = inbox.packets.peek().filter(|Reverse(packet)| packet.at <= now) else {
                    break;
                };
                let len = packet.bytes.len();
                bufs[count][..len].copy_from_slice(&packet.bytes);
                meta[count] = RecvMeta::default();
                (meta[count].addr, meta[count].len, meta[count].stride) = (packet.from, len, len);
                meta[count].dst_ip = Some(packet.to);
                inbox.packets.pop();
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            inbox.waker = Some(cx.waker().clone());
            let Some(next) = inbox.packets.peek().map(|Reverse(packet)| began + packet.at) else {
                return Poll::Pending;
            };
            drop(world);
            let mut sleep = self.sleep.lock().expect("one receiver");
            let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            sleep.as_mut().reset(next);
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        10
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
