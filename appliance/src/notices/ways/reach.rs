//! Where notices may go. Who sets an address through the page must not have the box call itself, or what lies beside it unseen (SSRF): so it
//! is looked at what a name stands for, at the moment it is called.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::Trouble;

/// The addresses of a server that may be called.
pub(super) fn addresses(host: &str, port: u16, local: bool) -> Result<Vec<SocketAddr>, Trouble> {
    let found = (host, port).to_socket_addrs();
    let found = found.map_err(|_| Trouble::of(format!("{host}: this host is not known")))?;
    let mut all: Vec<SocketAddr> = found.collect();
    all.dedup();
    all.retain(|address| is_allowed(address.ip(), local));
    match all.is_empty() {
        true => Err(Trouble::of(format!("{host} {FORBIDDEN}"))),
        false => Ok(all),
    }
}

/// What is said of others.
pub(super) const FORBIDDEN: &str = "is this machine itself, or no address of a server: `local = true` below [notices] in the config file allows this machine";

/// Whether an address may be called; where `local`, this machine and the link it is on, too.
pub(super) fn is_allowed(address: IpAddr, local: bool) -> bool {
    let (nowhere, near) = match address.to_canonical() {
        IpAddr::V4(ip) => {
            let nowhere = ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast();
            (nowhere, ip.is_loopback() || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            let nowhere = ip.is_unspecified() || ip.is_multicast();
            (nowhere, ip.is_loopback() || ip.is_unicast_link_local())
        }
    };
    !nowhere && (local || !near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_stands_for() {
        for (text, open, near) in [
            ("192.168.7.4", true, true),
            ("10.0.0.1", true, true),
            ("2001:db8::1", true, true),
            ("fd00::1", true, true),
            ("127.0.0.1", false, true),
            ("127.9.9.9", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, true),
            ("::ffff:169.254.169.254", false, true),
            ("fe80::1", false, true),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("ff02::1", false, false),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!((is_allowed(address, false), is_allowed(address, true)), (open, near), "{text}");
        }
        assert!(addresses("localhost", 25, false).is_err_and(|trouble| trouble.why.contains("local = true")));
        assert!(addresses("localhost", 25, true).is_ok());
        // As resolvers write it who know old C.
        assert!(addresses("0x7f.1", 25, false).is_err() && addresses("2130706433", 25, false).is_err());
    }
}
