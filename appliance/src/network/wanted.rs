//! A network set-up as somebody says it: texts, so that nothing typed is lost, and what is wrong with each of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize};

use super::address::{self, Fixed};
use crate::control::Failed;

/// The VLANs that there are (IEEE 802.1Q): 0 and 4095 mean something else.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;
/// Most servers of a kind.
const SERVERS_MAX: usize = 8;
/// Longest name of a host (RFC 1035, 2.3.4), and of a part of it.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A network set-up. What is left out is asked of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    /// "dhcp", "fixed" or "off".
    pub ipv4: String,
    /// The fixed IPv4 address with its prefix, as in `192.168.7.10/24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address4: Option<String>,
    /// Where IPv4 goes that is for other networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway4: Option<String>,
    /// "auto" (router advertisements, and DHCPv6 where they name it), "fixed" or "off".
    pub ipv6: String,
    /// The fixed IPv6 address with its prefix, as in `2001:db8:7::10/64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
    /// Where IPv6 goes that is for other networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway6: Option<String>,
    /// DNS servers, by address. Where there is one, those of the network do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Time servers, by name or address; likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<String>,
    /// The number of the VLAN that all of this is in; as a number or a text.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "number_or_text")]
    pub vlan: Option<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            ipv4: "dhcp".into(),
            address4: None,
            gateway4: None,
            ipv6: "auto".into(),
            address6: None,
            gateway6: None,
            dns: Vec::new(),
            ntp: Vec::new(),
            vlan: None,
        }
    }
}

fn number_or_text<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    let said = Option::<Either>::deserialize(deserializer)?;
    Ok(said.map(|said| match said {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

/// How a family of addresses is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family<A> {
    /// Not at all.
    Off,
    /// The network is asked.
    Asked,
    /// One that somebody said.
    Fixed(Fixed<A>),
}

impl<A: Copy> Family<A> {
    /// The address that somebody said.
    pub fn fixed(&self) -> Option<A> {
        match self {
            Family::Fixed(fixed) => Some(fixed.address),
            Family::Off | Family::Asked => None,
        }
    }
}

/// A network set-up that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// IPv4.
    pub ipv4: Family<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Family<Ipv6Addr>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// Time servers.
    pub ntp: Vec<String>,
    /// The VLAN.
    pub vlan: Option<u16>,
}

impl Sound {
    /// The addresses that somebody said.
    pub fn fixed(&self) -> Vec<IpAddr> {
        let four = self.ipv4.fixed().map(IpAddr::from);
        four.into_iter().chain(self.ipv6.fixed().map(IpAddr::from)).collect()
    }
}

impl Wanted {
    /// In a line, for people.
    pub fn words(&self) -> String {
        let family = |name: &str, kind: &str, address: &Option<String>, gateway: &Option<String>| {
            let gateway = gateway.as_ref().map(|gateway| format!(" by {gateway}")).unwrap_or_default();
            format!("{name} {}{gateway}", address.as_deref().unwrap_or(kind))
        };
        let mut parts = vec![
            family("IPv4", &self.ipv4, &self.address4, &self.gateway4),
            family("IPv6", &self.ipv6, &self.address6, &self.gateway6),
        ];
        for (name, servers) in [("DNS", &self.dns), ("NTP", &self.ntp)] {
            if !servers.is_empty() {
                parts.push(format!("{name} {}", servers.join(" ")));
            }
        }
        parts.extend(self.vlan.as_ref().map(|vlan| format!("VLAN {vlan}")));
        parts.join(", ")
    }

    /// What makes no sense, each by its field below `network.`.
    pub fn problems(&self) -> Vec<Failed> {
        self.sound().err().unwrap_or_default()
    }

    /// The set-up with its values understood.
    pub fn sound(&self) -> Result<Sound, Vec<Failed>> {
        let mut problems = Vec::new();
        let mut note = |field: &str, sentence: String| {
            problems.push(Failed::about(&format!("network.{field}"), sentence));
        };
        let fields = [
            Fields { kind: "ipv4", asked: "dhcp", address: "address4", gateway: "gateway4" },
            Fields { kind: "ipv6", asked: "auto", address: "address6", gateway: "gateway6" },
        ];
        let ipv4 = family(&fields[0], [&Some(self.ipv4.clone()), &self.address4, &self.gateway4], &mut note);
        let ipv6 = family(&fields[1], [&Some(self.ipv6.clone()), &self.address6, &self.gateway6], &mut note);
        if matches!((&ipv4, &ipv6), (Some(Family::Off), Some(Family::Off))) {
            note("ipv4", "with neither IPv4 nor IPv6 nobody reaches the box: leave one of them on".into());
        }
        let own: Vec<IpAddr> = [
            ipv4.as_ref().and_then(Family::fixed).map(IpAddr::from),
            ipv6.as_ref().and_then(Family::fixed).map(IpAddr::from),
        ]
        .into_iter()
        .flatten()
        .collect();
        let dns = list("dns", &self.dns, |text| dns_server(text, &own), &mut note);
        let ntp = list("ntp", &self.ntp, time_server, &mut note);
        let vlan = self.vlan.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let vlan = vlan.and_then(|text| vlan_number(text).map_err(|sentence| note("vlan", sentence)).ok());
        match (ipv4, ipv6, problems.is_empty()) {
            (Some(ipv4), Some(ipv6), true) => Ok(Sound { ipv4, ipv6, dns, ntp, vlan }),
            _ => Err(problems),
        }
    }
}

/// How the fields of a family are called.
struct Fields {
    kind: &'static str,
    asked: &'static str,
    address: &'static str,
    gateway: &'static str,
}

/// One family: how it is had, its address and its gateway, as they were said.
fn family<A: address::Address>(
    fields: &Fields,
    [kind, own, gateway]: [&Option<String>; 3],
    note: &mut impl FnMut(&str, String),
) -> Option<Family<A>> {
    let said =
        |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let kind = kind.as_deref().unwrap_or_default();
    if kind == "fixed" {
        let own = said(own).unwrap_or_default();
        let fixed = address::read::<A>(&own).map_err(|sentence| note(fields.address, sentence)).ok()?;
        let gateway = match said(gateway) {
            None => None,
            Some(text) => {
                Some(address::gateway(&text, &fixed).map_err(|sentence| note(fields.gateway, sentence)).ok()?)
            }
        };
        return Some(Family::Fixed(Fixed { gateway, ..fixed }));
    }
    for (field, text) in [(fields.address, own), (fields.gateway, gateway)] {
        if said(text).is_some() {
            note(field, format!("this counts with {} = \"fixed\" alone: say that, or leave this out", fields.kind));
            return None;
        }
    }
    match kind {
        "off" => Some(Family::Off),
        kind if kind == fields.asked => Some(Family::Asked),
        other => {
            note(fields.kind, format!("{other:?} is none of {}, fixed and off", fields.asked));
            None
        }
    }
}

/// Several servers; what is wrong is said of the first that is.
fn list<T: PartialEq>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
    note: &mut impl FnMut(&str, String),
) -> Vec<T> {
    if texts.len() > SERVERS_MAX {
        note(field, format!("at most {SERVERS_MAX} of them, please"));
        return Vec::new();
    }
    let mut all = Vec::new();
    for text in texts {
        match read(text.trim()) {
            Ok(one) if all.contains(&one) => {
                note(field, format!("{text} stands there twice"));
                return all;
            }
            Ok(one) => all.push(one),
            Err(sentence) => {
                note(field, sentence);
                return all;
            }
        }
    }
    all
}

fn dns_server(text: &str, own: &[IpAddr]) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| format!("{text:?} is no address: DNS servers are written as in 192.168.7.1"))?;
    if own.contains(&address) {
        return Err(format!("{address} is the box itself, which answers no questions about names"));
    }
    address::is_a_hosts(address).map(|()| address)
}

fn time_server(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return address::is_a_hosts(address).map(|()| address.to_string());
    }
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    // A number at the end is an address that somebody mistyped (RFC 1123, 2.1).
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match text.len() <= NAME_BYTES_MAX && text.split('.').all(label) && !numeric {
        true => Ok(text.to_ascii_lowercase()),
        false if !text.is_ascii() => {
            Err(format!("{text:?}: write the name in Latin letters (as in xn--…), or the address"))
        }
        false => Err(format!("{text:?} is neither a name nor an address of a server, as in ntp.example.com")),
    }
}

fn vlan_number(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u16>().ok().filter(|number| digits && VLANS.contains(number));
    number.ok_or_else(|| format!("{text:?} is no VLAN: they have numbers from {} to {}", VLANS.start(), VLANS.end()))
}

#[cfg(test)]
#[path = "wanted_tests.rs"]
mod tests;
