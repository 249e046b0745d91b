//! What is counted, whose it is, and what a stranger may do.

use std::sync::Mutex;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::super::shaper::STRANGERS_MAX;
use super::*;
use crate::shape::{Rate, Tally};

/// Takes everything and keeps it.
#[derive(Debug, Default)]
struct Sink {
    sent: Mutex<Vec<(SocketAddr, usize)>>,
    full: std::sync::atomic::AtomicBool,
}

impl AsyncUdpSocket for Sink {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        #[derive(Debug)]
        struct Ready;
        impl UdpPoller for Ready {
            fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        Box::pin(Ready)
    }
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.sent.lock().expect("sole user").push((transmit.destination, transmit.contents.len()));
        Ok(())
    }
    fn poll_recv(&self, _: &mut Context<'_>, _: &mut [IoSliceMut<'_>], _: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(V4)
    }
    fn max_transmit_segments(&self) -> usize {
        64
    }
}

const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 7420);

fn v6() -> SocketAddr {
    "[2001:db8::1]:7420".parse().expect("an address")
}

fn transmit(destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size, src_ip: None }
}

fn shaped(limit: Option<Rate>, extra: u64) -> (Arc<Sink>, Arc<Shaper>, Arc<ShapedSocket>) {
    let (sink, shaper) = (Arc::new(Sink::default()), Shaper::new(limit, extra));
    let socket = ShapedSocket::new(sink.clone(), shaper.clone());
    (sink, shaper, socket)
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

/// Sends through a poller, as quinn's connections do: polled, tried, polled again where it was refused.
fn drive(
    poller: &mut Pin<Box<dyn UdpPoller>>,
    socket: &ShapedSocket,
    transmit: &Transmit<'_>,
    cx: &mut Context<'_>,
) -> bool {
    loop {
        if poller.as_mut().poll_writable(cx).is_pending() {
            return false;
        }
        match socket.try_send(transmit) {
            Ok(()) => return true,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_and_extras_are_counted_for_every_segment() {
    for (to, extra, headers) in [(V4, 0, 28), (v6(), 0, 48), (V4, 18, 46)] {
        let (_, shaper, socket) = shaped(None, extra);
        let peer = shaper.add_peer(None);
        shaper.route(to, peer);
        socket.try_send(&transmit(to, &[0; 3000], Some(1200))).expect("room");
        socket.try_send(&transmit(to, &[0; 100], None)).expect("room");
        let sent = shaper.counters(Some(peer)).sent;
        assert_eq!((sent.bytes, sent.datagrams), (3100 + 4 * headers, 4));
        assert_eq!(shaper.counters(None).sent, sent);
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_is_the_same_in_both_notations() {
    let (_, shaper, socket) = shaped(None, 0);
    let peer = shaper.add_peer(None);
    shaper.route(V4, peer);
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:7420".parse().expect("an address");
    socket.try_send(&transmit(mapped, &[0; 100], None)).expect("room");
    assert_eq!(shaper.counters(Some(peer)).sent.bytes, 128, "and its headers are those of IPv4");
}

#[tokio::test(start_paused = true)]
async fn what_a_stranger_took_is_charged_to_the_peer_it_turns_out_to_be() {
    let (_, shaper, socket) = shaped(None, 0);
    socket.try_send(&transmit(V4, &[0; 1172], None)).expect("room");
    shaper.received(&RecvMeta { addr: V4, len: 2400, stride: 1200, ecn: None, dst_ip: None });
    let peer = shaper.add_peer(rate("64kbit"));
    shaper.route(V4, peer);
    let counters = shaper.counters(Some(peer));
    assert_eq!((counters.sent.bytes, counters.sent.datagrams), (1200, 1));
    assert_eq!((counters.received.bytes, counters.received.datagrams), (2456, 2));
    // 1200 bytes are 150 ms of its cap: it is in debt for them.
    assert!(socket.try_send(&transmit(V4, &[0; 100], None)).is_err());
    tokio::time::sleep(Duration::from_millis(170)).await;
    socket.try_send(&transmit(V4, &[0; 100], None)).expect("the debt is paid");
}

#[tokio::test(start_paused = true)]
async fn strangers_share_a_small_cap_and_little_memory() {
    let (sink, shaper, socket) = shaped(None, 0);
    for number in 0..5000_u16 {
        let stranger = SocketAddr::from(([172, 16, (number >> 8) as u8, number as u8], 1));
        let _ = socket.try_send(&transmit(stranger, &[0; 1172], None));
    }
    let sent = sink.sent.lock().expect("sole user").len();
    assert!(sent * 1200 * 8 <= 1_000_000, "{sent} answers within a second");
    assert!(shaper.lock().strangers.len() <= STRANGERS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_sleeps_until_credit_is_there_and_no_longer() {
    let (sink, shaper, socket) = shaped(rate("1Mbit"), 0);
    let peer = shaper.add_peer(None);
    shaper.route(V4, peer);
    let mut poller = socket.clone().create_io_poller();
    let payload = [0; 1222];
    let began = Instant::now();
    std::future::poll_fn(|cx| {
        while sink.sent.lock().expect("sole user").len() < 200 {
            if !drive(&mut poller, &socket, &transmit(V4, &payload, None), cx) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    })
    .await;
    // 200 datagrams of 10,000 bits are two seconds of the cap.
    let took = began.elapsed().as_secs_f64();
    assert!((1.95..2.15).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_stateless_answer_that_is_refused_stops_nobody_else() {
    let (_, shaper, socket) = shaped(None, 0);
    let peer = shaper.add_peer(None);
    shaper.route(V4, peer);
    shaper.set_limit(Some(NodeId::STRANGERS), Some(Rate::PAUSED));
    let stranger = SocketAddr::from(([172, 16, 0, 1], 1));
    assert!(socket.try_send(&transmit(stranger, &[0; 40], None)).is_err());
    let mut poller = socket.clone().create_io_poller();
    let sent =
        std::future::poll_fn(|cx| Poll::Ready(drive(&mut poller, &socket, &transmit(V4, &[0; 40], None), cx))).await;
    assert!(sent);
}

#[tokio::test(start_paused = true)]
async fn a_raised_cap_wakes_who_waits() {
    let (_, shaper, socket) = shaped(None, 0);
    let peer = shaper.add_peer(Some(Rate::PAUSED));
    shaper.route(V4, peer);
    let task_socket = socket.clone();
    let waiting = tokio::spawn(async move {
        let mut poller = task_socket.clone().create_io_poller();
        std::future::poll_fn(|cx| match drive(&mut poller, &task_socket, &transmit(V4, &[0; 1200], None), cx) {
            true => Poll::Ready(Instant::now()),
            false => Poll::Pending,
        })
        .await
    });
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!waiting.is_finished());
    let raised = Instant::now();
    shaper.set_limit(Some(peer), rate("1Mbit"));
    assert_eq!(waiting.await.expect("sent"), raised);
    assert!(shaper.lock().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_refuses_is_not_charged() {
    let (sink, shaper, socket) = shaped(rate("1Mbit"), 0);
    sink.full.store(true, Ordering::Relaxed);
    assert!(socket.try_send(&transmit(V4, &[0; 1200], None)).is_err());
    assert_eq!(shaper.counters(None).sent, Tally::default());
}

#[tokio::test(start_paused = true)]
async fn transmissions_are_short_under_a_cap_and_too_long_ones_are_dropped() {
    let (sink, shaper, socket) = shaped(None, 0);
    assert_eq!(socket.max_transmit_segments(), 64);
    let peer = shaper.add_peer(rate("20Mbit"));
    assert_eq!(socket.max_transmit_segments(), 3);
    shaper.set_limit(Some(peer), rate("64kbit"));
    assert_eq!(socket.max_transmit_segments(), 1);
    // One that was made before the cap fell: no second of 64 kbit/s holds it.
    shaper.route(V4, peer);
    socket.try_send(&transmit(V4, &[0; 14_000], Some(1400))).expect("dropped, as a queue would");
    assert_eq!(sink.sent.lock().expect("sole user").len(), 0);
    assert_eq!(shaper.counters(None).sent.bytes, 0);
    shaper.remove_peer(peer);
    assert_eq!(socket.max_transmit_segments(), 64);
}

#[tokio::test(start_paused = true)]
async fn the_newest_source_of_grants_counts_and_its_end_brings_back_the_one_before() {
    let (_, shaper, _) = shaped(None, 0);
    let peer = shaper.add_peer(rate("5Mbit"));
    let [first, second] = [(); 2].map(|()| shaper.begin_granting(peer));
    shaper.set_granted(first, rate("2Mbit"));
    assert_eq!((shaper.limit(Some(peer)), shaper.granted(peer)), (rate("2Mbit"), rate("2Mbit")));
    shaper.set_granted(second, rate("8Mbit"));
    assert_eq!((shaper.limit(Some(peer)), shaper.granted(peer)), (rate("5Mbit"), rate("8Mbit")), "the lower counts");
    shaper.set_granted(first, rate("1Mbit"));
    assert_eq!(shaper.granted(peer), rate("8Mbit"), "an older one has no word");
    shaper.end_granting(second);
    assert_eq!(shaper.limit(Some(peer)), rate("1Mbit"));
    shaper.set_limit(Some(peer), rate("500kbit"));
    assert_eq!(shaper.limit(Some(peer)), rate("500kbit"), "nor does a grant lift a cap");
    shaper.end_granting(first);
    assert_eq!((shaper.limit(Some(peer)), shaper.granted(peer)), (rate("500kbit"), None));
}

/// A NAT gives the peer another address: nothing has told the socket of it when the first datagram goes there.
#[tokio::test(start_paused = true)]
async fn a_connection_is_its_peers_whatever_its_address() {
    let (sink, shaper, socket) = shaped(None, 0);
    let peer = shaper.add_peer(rate("64kbit"));
    shaper.route(V4, peer);
    let (mut poller, lane) = lane::making(|| socket.clone().create_io_poller());
    let mut context = Context::from_waker(Waker::noop());
    let elsewhere = SocketAddr::new(V4.ip(), 40_001);
    let datagram = transmit(elsewhere, &[0; 1172], None);
    assert!(drive(&mut poller, &socket, &datagram, &mut context));
    assert_eq!(shaper.counters(Some(peer)).sent.bytes, 0, "it belongs to nobody yet, and the address is a stranger's");
    lane.belongs_to(peer);
    while drive(&mut poller, &socket, &datagram, &mut context) {}
    let sent = shaper.counters(Some(peer)).sent.bytes;
    assert!((1200..=8000).contains(&sent), "{sent} bytes at once under 64 kbit/s");
    // A paused peer gets nothing anywhere.
    shaper.set_limit(Some(peer), Some(Rate::PAUSED));
    let before = sink.sent.lock().expect("sole user").len();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!drive(&mut poller, &socket, &datagram, &mut context));
    assert_eq!(sink.sent.lock().expect("sole user").len(), before);
}
