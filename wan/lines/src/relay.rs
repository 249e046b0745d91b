//! A bad line made of real sockets: datagrams that come in on one port go out to another box, later, fewer, in the
//! rhythm of a bottleneck. One thread a direction, no async, and a count of its own.
//!
//! What comes in is counted at the moment at which the kernel received it (`SO_TIMESTAMPNS`), not when a thread got round to
//! reading it: the count of a second holds on a busy machine, too.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::HEADERS;
use crate::ledger::Ledger;

const DATAGRAM_MAX: usize = 65_536;
/// No receive waits longer, so that what is due leaves in time and an end is seen.
const LOOK: Duration = Duration::from_millis(1);

/// One direction.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Bottleneck; None: none.
    pub bits_per_second: Option<u64>,
    /// One way.
    pub delay: Duration,
    /// Tail drop behind so many bytes.
    pub queue_bytes: u64,
    /// Probability for each datagram.
    pub loss: f64,
}

impl Path {
    /// A line that changes nothing, and counts.
    pub const PLAIN: Path = Path { bits_per_second: None, delay: Duration::ZERO, queue_bytes: u64::MAX, loss: 0.0 };
}

/// What came into one direction.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// With headers of IPv4, whatever became of them.
    pub bytes: u64,
    /// How many came.
    pub datagrams: u64,
    /// Of them, those that were not passed on.
    pub dropped: u64,
    /// By the kernel's clock, since 1970.
    log: Ledger<Duration>,
}

impl Count {
    /// The most bytes in any second, wherever it begins.
    pub fn worst_second(&self) -> u64 {
        self.log.worst_second()
    }
}

/// A running relay; it ends when dropped.
#[derive(Debug)]
pub struct Relay {
    /// Where it listens.
    pub address: SocketAddr,
    counts: [Arc<Mutex<Count>>; 2],
    over: Arc<AtomicBool>,
    dead: Arc<AtomicBool>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Relay {
    /// Passes on what comes to `listen` to `upstream` over `up`, and the answers back over `down`.
    ///
    /// # Errors
    /// `listen` can't be had.
    pub fn start(listen: SocketAddr, upstream: SocketAddr, up: Path, down: Path, seed: u64) -> io::Result<Relay> {
        let front = Arc::new(open(listen)?);
        let address = front.local_addr()?;
        let relay = Relay { address, counts: Default::default(), over: Arc::default(), dead: Arc::default() };
        let [up_count, down_count] = relay.counts.clone();
        let (over, dead) = (relay.over.clone(), relay.dead.clone());
        let down = move |back: Arc<UdpSocket>, client: SocketAddr, front: Arc<UdpSocket>, seed: u64| {
            let (count, over, dead) = (down_count.clone(), over.clone(), dead.clone());
            std::thread::spawn(move || {
                let mut line = Line::new(down, seed, count, dead);
                run(&back, &over, &mut line, |_| Ok((front.clone(), client)))
            });
        };
        let (over, dead) = (relay.over.clone(), relay.dead.clone());
        std::thread::spawn(move || {
            let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
            let mut line = Line::new(up, seed, up_count, dead);
            run(&front.clone(), &over, &mut line, |client| {
                let back = match backs.get(&client) {
                    Some(back) => back.clone(),
                    None => {
                        // From whichever address the way there begins at: as behind a NAT.
                        let any = if upstream.is_ipv4() {
                            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                        } else {
                            Ipv6Addr::UNSPECIFIED.into()
                        };
                        let back = Arc::new(open(SocketAddr::new(any, 0))?);
                        back.connect(upstream)?;
                        backs.insert(client, back.clone());
                        down(back.clone(), client, front.clone(), seed + backs.len() as u64);
                        back
                    }
                };
                Ok((back, upstream))
            })
        });
        Ok(relay)
    }

    /// Makes the line dead, or lets it live again: nothing passes, either way, as when a cable is pulled.
    pub fn cut(&self, dead: bool) {
        self.dead.store(dead, Ordering::Relaxed);
    }

    /// What came from the clients.
    pub fn up(&self) -> Count {
        self.counts[0].lock().expect("counted").clone()
    }

    /// What came from upstream.
    pub fn down(&self) -> Count {
        self.counts[1].lock().expect("counted").clone()
    }
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(LOOK))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20);
    Ok(socket)
}

struct Line {
    path: Path,
    rng: SmallRng,
    free_at: Instant,
    count: Arc<Mutex<Count>>,
    dead: Arc<AtomicBool>,
}

impl Line {
    fn new(path: Path, seed: u64, count: Arc<Mutex<Count>>, dead: Arc<AtomicBool>) -> Line {
        Line { path, rng: SmallRng::seed_from_u64(seed), free_at: Instant::now(), count, dead }
    }

    /// When a datagram that is read now leaves; None where it is lost. `came` is when the kernel received it.
    fn pass(&mut self, now: Instant, came: Duration, payload: usize) -> Option<Instant> {
        let size = payload as u64 + HEADERS;
        let mut count = self.count.lock().expect("counted");
        count.bytes += size;
        count.datagrams += 1;
        count.log.note(came, size);
        if self.dead.load(Ordering::Relaxed) {
            count.dropped += 1;
            return None;
        }
        if let Some(rate) = self.path.bits_per_second {
            let backlog = self.free_at.saturating_duration_since(now).as_secs_f64() * rate as f64 / 8.0;
            if backlog as u64 + size > self.path.queue_bytes {
                count.dropped += 1;
                return None;
            }
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(size as f64 * 8.0 / rate as f64);
        } else {
            self.free_at = now;
        }
        if self.rng.random_bool(self.path.loss) {
            count.dropped += 1;
            return None;
        }
        Some(self.free_at + self.path.delay)
    }
}

/// The next datagram: its length, its sender, and when the kernel received it.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Duration)> {
    let mut said = nix::cmsg_space!(TimeSpec);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut buffers, Some(&mut said), flags)?;
    let from = received.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    let stamped = received.cmsgs()?.find_map(|said| match said {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok((received.bytes, from, stamped.unwrap_or_else(now)))
}

fn address(kept: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = kept.as_sockaddr_in().map(|kept| SocketAddr::from((kept.ip(), kept.port())));
    v4.or_else(|| kept.as_sockaddr_in6().map(|kept| SocketAddr::from((kept.ip(), kept.port()))))
}

/// Passes datagrams on until it is over. `way` says through which socket, and where to, for a datagram's sender.
fn run(
    socket: &UdpSocket,
    over: &AtomicBool,
    line: &mut Line,
    mut way: impl FnMut(SocketAddr) -> io::Result<(Arc<UdpSocket>, SocketAddr)>,
) -> io::Result<()> {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut due: BTreeMap<(Instant, u64), (Vec<u8>, SocketAddr)> = BTreeMap::new();
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        // An error: nothing came, or an earlier datagram was refused, which says nothing about the next.
        if let Ok((len, from, came)) = receive(socket, &mut buffer)
            && let Some(at) = line.pass(Instant::now(), came, len)
        {
            due.insert((at, number), (buffer[..len].to_vec(), from));
            number += 1;
        }
        while let Some(entry) = due.first_entry().filter(|entry| entry.key().0 <= Instant::now()) {
            let (bytes, from) = entry.remove();
            let (out, to) = way(from)?;
            let _ = if out.peer_addr().is_ok() { out.send(&bytes) } else { out.send_to(&bytes, to) };
        }
    }
    Ok(())
}
