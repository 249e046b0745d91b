//! Addresses that a box may have, and gateways that it may use.

use std::fmt::{Debug, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address that somebody said, in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed<A> {
    /// The address.
    pub address: A,
    /// How many bits of it are the network's.
    pub prefix: u8,
    /// Where goes what is for other networks; nowhere where nothing is said.
    pub gateway: Option<A>,
}

/// What both families have in common.
pub trait Address: Copy + PartialEq + Display + Debug + FromStr + Into<IpAddr> {
    /// Bits of an address.
    const BITS: u8;
    /// An example, with its prefix.
    const EXAMPLE: &'static str;
    /// How the family is called.
    const NAME: &'static str;
    /// The address as a number.
    fn number(self) -> u128;
    /// The prefix that a text behind the slash stands for.
    fn prefix(text: &str) -> Option<u8>;
    /// True where the last address of a network is for all hosts in it.
    const BROADCASTS: bool;
    /// True where a gateway may have this address whatever the network is.
    fn is_of_the_wire(self) -> bool;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    const EXAMPLE: &'static str = "192.168.7.10/24";
    const NAME: &'static str = "IPv4";
    const BROADCASTS: bool = true;

    fn number(self) -> u128 {
        u128::from(u32::from(self))
    }

    /// A number, or a mask as in 255.255.255.0.
    fn prefix(text: &str) -> Option<u8> {
        if let Ok(mask) = text.parse::<Ipv4Addr>() {
            let mask = u32::from(mask);
            return (mask.leading_ones() + mask.trailing_zeros() == 32).then_some(mask.leading_ones() as u8);
        }
        plain_number(text)
    }

    fn is_of_the_wire(self) -> bool {
        false
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    const EXAMPLE: &'static str = "2001:db8:7::10/64";
    const NAME: &'static str = "IPv6";
    const BROADCASTS: bool = false;

    fn number(self) -> u128 {
        u128::from(self)
    }

    fn prefix(text: &str) -> Option<u8> {
        plain_number(text)
    }

    fn is_of_the_wire(self) -> bool {
        self.is_unicast_link_local()
    }
}

/// Digits alone: `+24` is a number for Rust, and a slip of the hand here.
fn plain_number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads an address with its prefix that a box may have.
pub fn read<A: Address>(text: &str) -> Result<Fixed<A>, String> {
    if text.is_empty() {
        return Err(format!("write the address and how large its network is, as in {}", A::EXAMPLE));
    }
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let no_address = || format!("{address:?} is no {} address: write it as in {}", A::NAME, A::EXAMPLE);
    let address: A = address.trim().parse().map_err(|_| no_address())?;
    let Some(prefix) = prefix else {
        return Err(format!("write how large the network is, too, behind a slash, as in {}", A::EXAMPLE));
    };
    // A network of one address has no room for a gateway or a client.
    let most = A::BITS - 1;
    let prefix = A::prefix(prefix.trim()).filter(|prefix| (1..=most).contains(prefix));
    let Some(prefix) = prefix else {
        return Err(format!("what stands behind the slash is a number from 1 to {most}, as in {}", A::EXAMPLE));
    };
    is_a_hosts(address.into())?;
    if address.is_of_the_wire() {
        return Err(format!("{address} counts on its own wire alone: every box has such a one by itself"));
    }
    not_the_networks(address, prefix)?;
    Ok(Fixed { address, prefix, gateway: None })
}

/// Reads a gateway for this address.
pub fn gateway<A: Address>(text: &str, of: &Fixed<A>) -> Result<A, String> {
    let gateway: A = text.parse().map_err(|_| match text.contains('/') {
        true => "a gateway is an address alone, without what stands behind a slash".to_owned(),
        false => format!("{text:?} is no {} address", A::NAME),
    })?;
    if gateway == of.address {
        return Err(format!("{gateway} is the box itself: the gateway is another machine, mostly the router"));
    }
    if gateway.is_of_the_wire() {
        return Ok(gateway);
    }
    is_a_hosts(gateway.into())?;
    let host_bits = u32::from(A::BITS - of.prefix);
    if gateway.number() >> host_bits != of.address.number() >> host_bits {
        return Err(format!(
            "{gateway} is not in the network of {}/{}: the box could not reach it",
            of.address, of.prefix
        ));
    }
    not_the_networks(gateway, of.prefix)?;
    Ok(gateway)
}

/// Refuses what stands for a network itself, or for all hosts in it.
fn not_the_networks<A: Address>(address: A, prefix: u8) -> Result<(), String> {
    let host_bits = u32::from(A::BITS - prefix);
    // Two hosts at the ends of one line (RFC 3021, RFC 6164).
    if host_bits < 2 {
        return Ok(());
    }
    let mask = (1u128 << host_bits) - 1;
    match address.number() & mask {
        0 => Err(format!("{address}/{prefix} is the network itself: the box needs an address in it")),
        host if A::BROADCASTS && host == mask => Err(format!(
            "{address}/{prefix} is the broadcast address, for all machines of the network: take another one"
        )),
        _ => Ok(()),
    }
}

/// Refuses what no host in a network has.
pub fn is_a_hosts(address: IpAddr) -> Result<(), String> {
    let why = match address {
        _ if address.is_unspecified() => "stands for no address at all",
        _ if address.is_loopback() => "is every machine for itself",
        _ if address.is_multicast() => "is for groups of machines",
        IpAddr::V4(four) if four.is_broadcast() => "is for all machines",
        IpAddr::V4(four) if four.octets()[0] == 0 || four.octets()[0] >= 240 => "is reserved",
        IpAddr::V4(four) if four.is_link_local() => "is what machines take that found no address",
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => "is an IPv4 address in the clothes of IPv6",
        _ => return Ok(()),
    };
    Err(format!("{address} {why}: it can't stand here"))
}
