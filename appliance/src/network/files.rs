//! The files by which systemd-networkd gets a set-up (docs/formats/network.md). Made of values that were understood, never of what was typed.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use super::wanted::{Family, Sound};

/// The first line of each: whoever finds it knows whose it is.
const OURS: &str = "# Written by Narrowboat, which owns this file: what is changed here is lost.\n";
/// What names of files begin with: those of a trial come first, and so hide the others.
const KEPT: &str = "10-narrowboat";
const TRIAL: &str = "09-narrowboat-trial";
/// What devices of VLANs begin with; the number follows.
pub const DEVICE: &str = "narrowboat";

/// Files by name.
pub type Files = BTreeMap<String, String>;

/// All that is to be there, and nothing else of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// In `/etc`: what outlives a power cut.
    pub kept: Files,
    /// In `/run`: what does not.
    pub trial: Files,
    /// The device of the VLAN that is in use, if one is.
    pub device: Option<String>,
}

impl Layout {
    /// What is to be there while `kept` counts and `trial` is tried, on an interface.
    pub fn of(interface: &str, kept: Option<&Sound>, trial: Option<&Sound>) -> Layout {
        Layout {
            kept: kept.map(|sound| files(KEPT, interface, sound)).unwrap_or_default(),
            trial: trial.map(|sound| files(TRIAL, interface, sound)).unwrap_or_default(),
            device: trial.or(kept).and_then(|sound| sound.vlan).map(device),
        }
    }
}

/// All names that files of ours may have, in each of the two folders.
pub fn names() -> [String; 6] {
    let of = |stem: &str| [network(stem), vlan_network(stem), vlan_device(stem)];
    let ([a, b, c], [d, e, f]) = (of(KEPT), of(TRIAL));
    [a, b, c, d, e, f]
}

/// The device of a VLAN.
pub fn device(vlan: u16) -> String {
    format!("{DEVICE}{vlan}")
}

fn network(stem: &str) -> String {
    format!("{stem}.network")
}

fn vlan_network(stem: &str) -> String {
    format!("{stem}-vlan.network")
}

fn vlan_device(stem: &str) -> String {
    format!("{stem}-vlan.netdev")
}

fn files(stem: &str, interface: &str, sound: &Sound) -> Files {
    let Some(vlan) = sound.vlan else { return [(network(stem), addressed(interface, sound))].into() };
    let device = device(vlan);
    let mut carrier = Text::of(interface);
    carrier.section("Network");
    carrier.line("VLAN", &device);
    carrier.line("LinkLocalAddressing", "no");
    carrier.line("IPv6AcceptRA", "no");
    let mut made = Text(OURS.into());
    made.section("NetDev");
    made.line("Name", &device);
    made.line("Kind", "vlan");
    made.section("VLAN");
    made.line("Id", vlan);
    [
        (network(stem), carrier.0),
        (vlan_device(stem), made.0.replacen("\n\n", "\n", 1)),
        (vlan_network(stem), addressed(&device, sound)),
    ]
    .into()
}

/// The file with the addresses.
fn addressed(interface: &str, sound: &Sound) -> String {
    let (four, six) = (&sound.ipv4, &sound.ipv6);
    let mut text = Text::of(interface);
    text.section("Network");
    if *four == Family::Asked {
        text.line("DHCP", "ipv4");
    }
    text.line("LinkLocalAddressing", if *six == Family::Off { "no" } else { "ipv6" });
    text.line("IPv6AcceptRA", if *six == Family::Asked { "yes" } else { "no" });
    sound.dns.iter().for_each(|server| text.line("DNS", server));
    sound.ntp.iter().for_each(|server| text.line("NTP", server));
    if let Family::Fixed(fixed) = four {
        text.fixed(fixed.address, fixed.prefix, fixed.gateway);
    }
    if let Family::Fixed(fixed) = six {
        text.fixed(fixed.address, fixed.prefix, fixed.gateway);
    }
    let asked = [(*four == Family::Asked, "DHCPv4"), (*six == Family::Asked, "DHCPv6")];
    for (_, section) in asked.into_iter().filter(|(asked, _)| *asked) {
        text.own_servers(section, sound, true);
    }
    // Router advertisements name no time servers.
    if *six == Family::Asked {
        text.own_servers("IPv6AcceptRA", sound, false);
    }
    text.0
}

/// A file that grows.
struct Text(String);

impl Text {
    /// One that is about a device.
    fn of(device: &str) -> Text {
        Text(format!("{OURS}[Match]\nName={device}\n"))
    }

    fn section(&mut self, name: &str) {
        self.add(format_args!("\n[{name}]\n"));
    }

    fn line(&mut self, key: &str, value: impl Display) {
        self.add(format_args!("{key}={value}\n"));
    }

    /// An address, and where goes what is for others.
    fn fixed(&mut self, address: impl Display, prefix: u8, gateway: Option<impl Display>) {
        self.section("Address");
        self.line("Address", format_args!("{address}/{prefix}"));
        self.line("DuplicateAddressDetection", "both");
        if let Some(gateway) = gateway {
            self.section("Route");
            self.line("Gateway", gateway);
        }
    }

    /// Servers that somebody named count instead of those that the network names.
    fn own_servers(&mut self, section: &str, sound: &Sound, time: bool) {
        let (dns, ntp) = (!sound.dns.is_empty(), time && !sound.ntp.is_empty());
        if dns || ntp {
            self.section(section);
        }
        if dns {
            self.line("UseDNS", "no");
        }
        if ntp {
            self.line("UseNTP", "no");
        }
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // A text takes whatever is written to it.
        let _ = self.0.write_fmt(text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::State;
    use super::*;
    use crate::network::wanted::Wanted;

    const PAGE: &str = include_str!("../../../docs/formats/network.md");

    fn example(language: &str) -> &'static str {
        let rest = PAGE.split_once(&format!("```{language}\n")).expect("an example").1;
        rest.split_once("```").expect("its end").0
    }

    #[test]
    fn the_examples_of_the_page_are_what_is_written() {
        let state = State::read(example("json").as_bytes()).expect("sound");
        let sound = |wanted: &Wanted| wanted.sound().expect("sound");
        let trial = state.trial.as_ref().expect("one");
        let kept = state.kept.as_ref().map(sound);
        let layout = Layout::of(&state.interface, kept.as_ref(), Some(&sound(&trial.wanted)));
        assert_eq!(layout.trial["09-narrowboat-trial-vlan.network"], example("ini"));
        assert_eq!(layout.device.as_deref(), Some("narrowboat30"));
        assert!(
            layout.trial["09-narrowboat-trial.network"]
                .contains("[Match]\nName=eth0\n\n[Network]\nVLAN=narrowboat30\n")
        );
        assert!(
            layout.trial["09-narrowboat-trial-vlan.netdev"]
                .ends_with("[NetDev]\nName=narrowboat30\nKind=vlan\n\n[VLAN]\nId=30\n")
        );
        let kept: Vec<&str> = layout.kept.keys().map(String::as_str).collect();
        assert_eq!(kept, ["10-narrowboat.network"]);
        assert!(
            layout.kept["10-narrowboat.network"].contains("DHCP=ipv4\nLinkLocalAddressing=ipv6\nIPv6AcceptRA=yes\n")
        );
    }

    #[test]
    fn a_trial_comes_before_what_is_kept_and_all_names_are_known() {
        let vlan = Wanted { vlan: Some("4094".into()), ..Wanted::default() }.sound().expect("sound");
        let layout = Layout::of("eth0", Some(&vlan), Some(&vlan));
        let (first, last) = (layout.trial.keys().last().expect("three"), layout.kept.keys().next().expect("three"));
        assert!(first < last, "{first} {last}");
        let known = names();
        assert!(layout.trial.keys().chain(layout.kept.keys()).all(|name| known.contains(name)));
        assert_eq!((layout.trial.len(), layout.kept.len()), (3, 3));
        assert!(device(4094).len() < 16, "the kernel's names of devices are that short");
        assert_eq!(Layout::of("eth0", None, None), Layout::default());
    }

    #[test]
    fn servers_that_somebody_named_count_alone() {
        let dns = vec!["192.168.7.1".to_owned()];
        let text = |wanted: Wanted| addressed("eth0", &wanted.sound().expect("sound"));
        let named = text(Wanted { dns: dns.clone(), ntp: vec!["a.example".into()], ..Wanted::default() });
        assert!(
            named.contains("[DHCPv4]\nUseDNS=no\nUseNTP=no\n") && named.contains("[IPv6AcceptRA]\nUseDNS=no\n"),
            "{named}"
        );
        assert!(!text(Wanted::default()).contains("Use"));
        let fixed = Wanted {
            ipv4: "fixed".into(),
            address4: Some("10.0.0.2/8".into()),
            ipv6: "off".into(),
            dns,
            ..Wanted::default()
        };
        assert!(!text(fixed).contains("Use"));
    }
}
