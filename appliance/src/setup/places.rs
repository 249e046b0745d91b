//! Where the box is: its addresses, the networks that it is in, and what clocks there are.

use std::net::IpAddr;

/// An address of this machine, and the network that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address.
    pub address: IpAddr,
    /// The network, as in `192.168.7.0/24`.
    pub network: String,
}

/// Addresses that others may know: no loopback, nothing that counts on its own wire alone.
pub fn places() -> Vec<Place> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of this machine can't be read");
        Vec::new()
    });
    let of = |interface: if_addrs::Interface| match interface.addr {
        _ if interface.is_loopback() || interface.is_link_local() => None,
        if_addrs::IfAddr::V4(address) => {
            Some(Place { address: address.ip.into(), network: network(address.ip.into(), address.prefixlen) })
        }
        if_addrs::IfAddr::V6(address) => {
            Some(Place { address: address.ip.into(), network: network(address.ip.into(), address.prefixlen) })
        }
    };
    let mut places: Vec<Place> = interfaces.into_iter().filter_map(of).collect();
    places.sort_by_key(|place| place.address);
    places
}

/// The network of an address.
fn network(address: IpAddr, prefix: u8) -> String {
    let keep = |bits: u32, width: u32| if bits == 0 { 0 } else { u128::MAX << (width - bits.min(width)) };
    match address {
        IpAddr::V4(address) => {
            let bits = u32::from(prefix).min(32);
            let masked = u32::from(address) & (keep(bits, 32) as u32);
            format!("{}/{bits}", std::net::Ipv4Addr::from(masked))
        }
        IpAddr::V6(address) => {
            let bits = u32::from(prefix).min(128);
            format!("{}/{bits}", std::net::Ipv6Addr::from(u128::from(address) & keep(bits, 128)))
        }
    }
}

/// The time zones that people live in, by their names in the IANA database, and UTC; in order.
pub fn zones() -> Vec<String> {
    // Names of places are below these; what else there is are older names of the same, and rules without a place.
    const REGIONS: [&str; 10] = [
        "Africa/",
        "America/",
        "Antarctica/",
        "Arctic/",
        "Asia/",
        "Atlantic/",
        "Australia/",
        "Europe/",
        "Indian/",
        "Pacific/",
    ];
    let mut zones: Vec<String> = jiff::tz::db().available().map(|name| name.as_str().to_owned()).collect();
    zones.retain(|name| name == "UTC" || REGIONS.iter().any(|region| name.starts_with(region)));
    zones.sort();
    zones.dedup();
    zones
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_what_its_prefix_leaves() {
        let cases = [
            ("192.168.7.44", 24, "192.168.7.0/24"),
            ("10.1.2.3", 8, "10.0.0.0/8"),
            ("10.1.2.3", 32, "10.1.2.3/32"),
            ("10.1.2.3", 0, "0.0.0.0/0"),
            ("2001:db8::17", 64, "2001:db8::/64"),
            ("2001:db8::17", 128, "2001:db8::17/128"),
        ];
        for (address, prefix, expected) in cases {
            assert_eq!(network(address.parse().expect("an address"), prefix), expected);
        }
    }

    #[test]
    fn zones_are_places_that_the_config_takes() {
        let zones = zones();
        assert!(zones.len() > 300 && zones.iter().any(|zone| zone == "Europe/Berlin"));
        for zone in &zones {
            narrowboat_wan::shape::zone_named(zone).expect("a zone");
        }
    }
}
