//! The real UDP socket, which marks datagrams by class: below [`super::socket`], directly above the kernel.
//!
//! quinn-udp sets the whole octet of TOS or traffic class from the ECN bits of each packet, so a mark that the socket was given before does
//! not survive. Datagrams of a class with a mark are therefore sent by a `sendmsg` of our own, with mark and ECN in one octet, with
//! segmentation offload and the source address that quinn asks for. Everything else is quinn-udp's: datagrams without a mark,
//! receiving, and sending again without a mark where a system refuses ours.
//!
//! It neither shapes nor counts.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;

use crate::shape::Class;
use crate::shape::mark::{Dscp, Marks};

/// What is asked of the kernel for its own buffers: a second of 32 Mbit/s, or 32 ms of 1 Gbit/s, so that a receiver that is
/// scheduled late loses nothing.
const KERNEL_BUFFER: usize = 8 << 20;

/// A UDP socket that marks.
#[derive(Debug)]
pub struct MarkingSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    marks: Marks,
    /// The system has refused a mark once: none is asked for again.
    refused: AtomicBool,
}

impl MarkingSocket {
    /// Opens a UDP socket with kernel buffers of 8 MiB as far as the system grants them (without privileges: up to
    /// `net.core.rmem_max` and `wmem_max`). Must be called within a tokio runtime.
    pub fn bind(address: SocketAddr, marks: Marks) -> io::Result<Arc<MarkingSocket>> {
        use rustix::net::sockopt;
        let socket = std::net::UdpSocket::bind(address)?;
        // Bounded by the system's limits where we may not force it; less is slower, never wrong.
        if sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, KERNEL_BUFFER);
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, KERNEL_BUFFER).is_err() {
            let _ = sockopt::set_socket_send_buffer_size(&socket, KERNEL_BUFFER);
        }
        let state = UdpSocketState::new((&socket).into())?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Arc::new(MarkingSocket { io, state, marks, refused: AtomicBool::new(false) }))
    }

    /// Sends as a class.
    pub fn try_send_as(&self, class: Class, transmit: &Transmit<'_>) -> io::Result<()> {
        let mark = self.marks.of(class);
        self.io.try_io(Interest::WRITABLE, || {
            if mark == Dscp::NONE || self.refused.load(Ordering::Relaxed) {
                return self.state.send((&self.io).into(), transmit);
            }
            match self.send_marked(mark, transmit) {
                Ok(()) => Ok(()),
                Err(Errno::EAGAIN) => Err(io::ErrorKind::WouldBlock.into()),
                // A probe of the path that is too large: lost, as it would be further on.
                Err(Errno::EMSGSIZE) => Ok(()),
                Err(error) => {
                    // No such control message, or no segmentation offload here: quinn-udp finds out which, and says what else fails.
                    if error == Errno::EINVAL && transmit.segment_size.is_none() {
                        tracing::warn!("this system does not let datagrams be marked with a DSCP");
                        self.refused.store(true, Ordering::Relaxed);
                    }
                    self.state.send((&self.io).into(), transmit)
                }
            }
        })
    }

    fn send_marked(&self, mark: Dscp, transmit: &Transmit<'_>) -> Result<(), Errno> {
        let octet = mark.octet(transmit.ecn.map_or(0, |ecn| ecn as u8));
        let wide = i32::from(octet);
        // Also to a mapped address of a socket for both families, the datagram is one of IPv4.
        let v4 = transmit.destination.ip().to_canonical().is_ipv4();
        let segment = transmit.segment_size.and_then(|size| u16::try_from(size).ok());
        let from_v4 = in_pktinfo_of(transmit.src_ip);
        let from_v6 = in6_pktinfo_of(transmit.src_ip);
        let mut said = Vec::with_capacity(3);
        said.push(if v4 { ControlMessage::Ipv4Tos(&octet) } else { ControlMessage::Ipv6TClass(&wide) });
        said.extend(segment.as_ref().map(ControlMessage::UdpGsoSegments));
        said.extend(from_v4.as_ref().map(ControlMessage::Ipv4PacketInfo));
        said.extend(from_v6.as_ref().map(ControlMessage::Ipv6PacketInfo));
        let to = SockaddrStorage::from(transmit.destination);
        loop {
            let contents = [IoSlice::new(transmit.contents)];
            match sendmsg(self.io.as_raw_fd(), &contents, &said, MsgFlags::empty(), Some(&to)) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn in_pktinfo_of(from: Option<IpAddr>) -> Option<in_pktinfo> {
    let Some(IpAddr::V4(from)) = from else { return None };
    let nowhere = in_addr { s_addr: 0 };
    let from = in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
    Some(in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: nowhere })
}

fn in6_pktinfo_of(from: Option<IpAddr>) -> Option<in6_pktinfo> {
    let Some(IpAddr::V6(from)) = from else { return None };
    Some(in6_pktinfo { ipi6_addr: in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 })
}

impl AsyncUdpSocket for MarkingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.try_send_as(Class::Normal, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let received = self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), bufs, meta));
            // An error of an earlier datagram's receiver is no error of this socket; the next call waits.
            if let Ok(count) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }
}

/// Waits until the kernel takes more. Each connection has its own, for the socket's own registration has room for one waker only.
struct Writable {
    socket: Arc<MarkingSocket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.socket.clone();
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(async move { socket.io.writable().await }));
        let writable = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(writable)
    }
}

impl std::fmt::Debug for Writable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writable").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
