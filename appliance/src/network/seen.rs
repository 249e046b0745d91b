//! What the machine's network is, whoever set it up: read from the kernel, and from the resolver's files.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::files::DEVICE;

/// ARPHRD_ETHER: what cables and radios are.
const ETHERNET: &str = "1";
/// RTF_GATEWAY of /proc/net/route.
const BY_A_GATEWAY: u32 = 2;
/// Where systemd-resolved tells the servers that it asks, for its own address alone stands in the file that all read.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Interfaces of the machine.
const INTERFACES: &str = "/sys/class/net";

/// A way to other networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// By which interface.
    pub interface: String,
    /// By which router.
    pub gateway: IpAddr,
}

/// Routers that the machine uses.
pub fn routes() -> Vec<Route> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (four, six) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let mut routes: Vec<Route> = four.lines().filter_map(route4).chain(six.lines().filter_map(route6)).collect();
    routes.dedup();
    routes
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal digits, addresses as they lie in memory.
fn route4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (interface, to, gateway, flags, mask) =
        (words.first()?, words.get(1)?, words.get(2)?, words.get(3)?, words.get(7)?);
    let flags = u32::from_str_radix(flags, 16).ok()?;
    if *to != "00000000" || *mask != "00000000" || flags & BY_A_GATEWAY == 0 {
        return None;
    }
    let gateway = Ipv4Addr::from(u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes());
    Some(Route { interface: (*interface).to_owned(), gateway: gateway.into() })
}

/// `destination length source length next-hop metric references uses flags interface`.
fn route6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (to, length, gateway, interface) = (words.first()?, words.get(1)?, words.get(4)?, words.get(9)?);
    let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16).ok()?);
    let is_default = *length == "00" && to.bytes().all(|byte| byte == b'0');
    (is_default && !gateway.is_unspecified())
        .then(|| Route { interface: (*interface).to_owned(), gateway: gateway.into() })
}

/// DNS servers that the machine asks.
pub fn dns() -> Vec<IpAddr> {
    let read = |path: &str| servers(&fs::read_to_string(path).unwrap_or_default());
    let said = read("/etc/resolv.conf");
    match said.iter().all(IpAddr::is_loopback) {
        true if Path::new(RESOLVED).exists() => read(RESOLVED),
        _ => said,
    }
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.split_whitespace().next()?.parse().ok();
    text.lines().filter_map(server).collect()
}

/// The interface that a box of one cable is reached by: the one with the way to other networks, or the first there is.
pub fn usual_interface(routes: &[Route]) -> Option<String> {
    if let Some(route) = routes.first() {
        return Some(below(&route.interface).unwrap_or_else(|| route.interface.clone()));
    }
    let mut all: Vec<(bool, String)> = fs::read_dir(INTERFACES)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name().into_string().ok()?);
            let kind = fs::read_to_string(path.join("type")).ok()?;
            let ours = name.starts_with(DEVICE);
            // What has hardware behind it comes first.
            (kind.trim() == ETHERNET && !ours).then(|| (!path.join("device").exists(), name))
        })
        .collect();
    all.sort();
    all.into_iter().next().map(|(_, name)| name)
}

/// The interface that a VLAN of ours lies on.
fn below(device: &str) -> Option<String> {
    device.strip_prefix(DEVICE)?.parse::<u16>().ok()?;
    let entries = fs::read_dir(Path::new(INTERFACES).join(device)).ok()?;
    entries.flatten().find_map(|entry| Some(entry.file_name().to_str()?.strip_prefix("lower_")?.to_owned()))
}

/// Devices of VLANs that have our names.
pub fn devices() -> Vec<String> {
    let entries = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    let ours = |name: &String| name.strip_prefix(DEVICE).is_some_and(|rest| rest.parse::<u16>().is_ok());
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_those_to_other_networks() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let default =
            format!("eth0\t00000000\t{:08X}\t0003\t0\t0\t0\t00000000\t0\t0\t0", u32::from_ne_bytes([192, 168, 7, 1]));
        let own = "eth0\t0007A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        let expected = Route { interface: "eth0".into(), gateway: "192.168.7.1".parse().expect("one") };
        assert_eq!((route4(head), route4(&default), route4(own), route4("")), (None, Some(expected), None, None));
        let zeros = "0".repeat(32);
        let hop = "fe800000000000000000000000000001";
        let six = |to: &str, length: &str, hop: &str| {
            route6(&format!("{to} {length} {zeros} 00 {hop} 00000400 1 0 00000003 eth0"))
        };
        assert_eq!(six(&zeros, "00", hop).map(|route| route.gateway), Some("fe80::1".parse().expect("one")));
        assert_eq!((six(&zeros, "40", hop), six(&zeros, "00", &zeros)), (None, None));
    }

    #[test]
    fn servers_stand_in_lines_of_their_own() {
        let text = "# nameserver 1.2.3.4\nsearch example.com\nnameserver 192.168.7.1\n nameserver\t2001:db8::53 # two\nnameserver x\n";
        assert_eq!(servers(text), ["192.168.7.1", "2001:db8::53"].map(|text| text.parse::<IpAddr>().expect("one")));
    }
}
