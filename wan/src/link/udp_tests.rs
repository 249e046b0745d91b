//! What a receiver sees of marks, over real sockets.

use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, recvmsg, setsockopt, sockopt};
use quinn::udp::EcnCodepoint;

use super::*;

/// Receives datagrams and tells the octet (TOS, traffic class) of each, and its length.
struct Receiver(std::net::UdpSocket);

impl Receiver {
    fn bind(address: &str) -> Receiver {
        let socket = std::net::UdpSocket::bind(address).expect("a port of loopback");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        match socket.local_addr().expect("bound").is_ipv4() {
            true => setsockopt(&socket, sockopt::IpRecvTos, &true).expect("told TOS"),
            false => setsockopt(&socket, sockopt::Ipv6RecvTClass, &true).expect("told the traffic class"),
        }
        Receiver(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    fn next(&self) -> (u8, usize) {
        let mut bytes = [0; 4096];
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let mut said = nix::cmsg_space!(i32);
        let received = recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut buffers, Some(&mut said), MsgFlags::empty())
            .expect("a datagram in time");
        let octet = received.cmsgs().expect("whole").find_map(|message| match message {
            ControlMessageOwned::Ipv4Tos(octet) => Some(octet),
            ControlMessageOwned::Ipv6TClass(octet) => u8::try_from(octet).ok(),
            _ => None,
        });
        (octet.expect("the octet was asked for"), received.bytes)
    }
}

fn transmit(destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> Transmit<'_> {
    Transmit { destination, ecn: Some(EcnCodepoint::Ect0), contents, segment_size, src_ip: None }
}

async fn send(socket: &Arc<MarkingSocket>, class: Class, transmit: &Transmit<'_>) {
    socket.io.writable().await.expect("open");
    socket.try_send_as(class, transmit).expect("sent");
}

#[tokio::test]
async fn classes_are_told_apart_by_who_receives_them() {
    for (from, to) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0"), ("[::]:0", "127.0.0.1:0")] {
        let receiver = Receiver::bind(to);
        let mut destination = receiver.address();
        if from.starts_with("[::]") {
            // As a socket for both families sees a peer of IPv4.
            let std::net::IpAddr::V4(v4) = destination.ip() else { panic!("it is IPv4") };
            destination.set_ip(v4.to_ipv6_mapped().into());
        }
        let address: SocketAddr = from.parse().expect("an address");
        let marking = MarkingSocket::bind(address, Marks::default()).expect("bound");
        for (class, code) in Class::ALL.into_iter().zip([16, 18, 10, 0, 1]) {
            send(&marking, class, &transmit(destination, b"hello", None)).await;
            assert_eq!(receiver.next(), (code << 2 | 2, 5), "{class} from {from} to {to}: the mark, and ECN's ECT(0)");
        }
        let silent = MarkingSocket::bind(address, Marks::OFF).expect("bound");
        for class in Class::ALL {
            send(&silent, class, &transmit(destination, b"hello", None)).await;
            assert_eq!(receiver.next(), (2, 5), "{class} without marks");
        }
    }
}

#[tokio::test]
async fn every_segment_of_a_batch_is_marked() {
    let receiver = Receiver::bind("127.0.0.1:0");
    let marking = MarkingSocket::bind("127.0.0.1:0".parse().expect("an address"), Marks::default()).expect("bound");
    if marking.max_transmit_segments() < 3 {
        // No segmentation offload on this system: then quinn sends one by one, as the test above does.
        return;
    }
    let batch = transmit(receiver.address(), &[7; 2500], Some(1000));
    send(&marking, Class::Scavenger, &Transmit { src_ip: Some("127.0.0.1".parse().expect("an address")), ..batch })
        .await;
    assert_eq!([receiver.next(), receiver.next(), receiver.next()], [(6, 1000), (6, 1000), (6, 500)]);
}
