use super::*;

fn fixed() -> Wanted {
    let some = |text: &str| Some(text.to_owned());
    Wanted {
        ipv4: "fixed".into(),
        address4: some("192.168.7.10/24"),
        gateway4: some("192.168.7.1"),
        ipv6: "fixed".into(),
        address6: some("2001:db8:7::10/64"),
        gateway6: some("fe80::1"),
        dns: vec!["192.168.7.1".into(), "2001:db8::53".into()],
        ntp: vec!["NTP.example.com".into(), "192.168.7.1".into()],
        vlan: some("30"),
    }
}

#[test]
fn what_makes_sense_is_understood() {
    let sound = fixed().sound().expect("sound");
    assert_eq!(sound.fixed(), ["192.168.7.10", "2001:db8:7::10"].map(|text| text.parse::<IpAddr>().expect("one")));
    assert_eq!((sound.vlan, sound.ntp[0].as_str(), sound.dns.len()), (Some(30), "ntp.example.com", 2));
    let Family::Fixed(Fixed { prefix, gateway, .. }) = sound.ipv4 else { panic!("{sound:?}") };
    assert_eq!((prefix, gateway), (24, Some(Ipv4Addr::new(192, 168, 7, 1))));
    let by_default = Wanted::default().sound().expect("sound");
    assert_eq!((by_default.ipv4, by_default.ipv6, by_default.vlan), (Family::Asked, Family::Asked, None));
    // By its mask, with spaces, and two hosts at the ends of one line.
    for address in ["192.168.7.10/255.255.255.0", " 192.168.7.10 / 24 ", "192.168.7.0/31", "10.0.0.1/8"] {
        let gateway4 = None;
        let wanted = Wanted { address4: Some(address.into()), gateway4, ..fixed() };
        assert!(wanted.sound().is_ok(), "{address}: {:?}", wanted.problems());
    }
}

#[test]
fn what_makes_no_sense_is_refused_beside_its_field() {
    type Change = fn(&mut Wanted, &str);
    let address4: Change = |wanted, text| wanted.address4 = Some(text.into());
    let gateway4: Change = |wanted, text| wanted.gateway4 = Some(text.into());
    let address6: Change = |wanted, text| (wanted.address6, wanted.gateway6) = (Some(text.into()), None);
    let gateway6: Change = |wanted, text| wanted.gateway6 = Some(text.into());
    let dns: Change = |wanted, text| wanted.dns = text.split(' ').map(str::to_owned).collect();
    let ntp: Change = |wanted, text| wanted.ntp = text.split(' ').map(str::to_owned).collect();
    let vlan: Change = |wanted, text| wanted.vlan = Some(text.into());
    let ipv4: Change = |wanted, text| wanted.ipv4 = text.into();
    let nine = "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 10.0.0.9";
    let long = format!("{}.example", "a".repeat(64));
    let cases: &[(&str, Change, &[&str])] = &[
        (
            "address4",
            address4,
            &[
                "",
                "192.168.7.10",
                "192.168.7.10/",
                "192.168.7.10/0",
                "192.168.7.10/32",
                "192.168.7.10/33",
                "192.168.7.10/+24",
                "192.168.7.10/255.0.255.0",
                "192.168.7.0/24",
                "192.168.7.255/24",
                "192.168.7.256/24",
                "192.168.007.10/24",
                "127.0.0.1/8",
                "0.0.0.0/24",
                "224.0.0.5/24",
                "240.0.0.5/24",
                "169.254.3.4/16",
                "255.255.255.255/24",
                "2001:db8::1/64",
                "١٩٢.١٦٨.٧.١٠/24",
                "192.168.7.10/２４",
                "dhcp",
                "192.168.7.10/24\n[Match]\nName=*",
                "\u{202e}10.7.168.192/24",
                "<script>/24",
            ],
        ),
        (
            "gateway4",
            gateway4,
            &[
                "192.168.8.1",
                "192.168.7.10",
                "192.168.7.0",
                "192.168.7.255",
                "192.168.7.1/24",
                "fe80::1",
                "router",
                "网关",
            ],
        ),
        (
            "address6",
            address6,
            &[
                "2001:db8:7::10",
                "2001:db8:7::/64",
                "fe80::10/64",
                "::1/128",
                "ff02::1/64",
                "::/64",
                "::ffff:192.0.2.1/96",
                "192.168.7.10/24",
                "2001:db8:7::10/128",
                "2001:db8:7::10/129",
            ],
        ),
        ("gateway6", gateway6, &["2001:db8:8::1", "2001:db8:7::10", "2001:db8:7::", "192.168.7.1", "fe80::1%eth0"]),
        (
            "dns",
            dns,
            &[
                "192.168.7.1 192.168.7.1",
                "dns.example.com",
                "192.168.7.10",
                "0.0.0.0",
                "224.0.0.1",
                nine,
                "127.0.0.53",
                "8.8.8.8\nDNS=1.1.1.1",
            ],
        ),
        (
            "ntp",
            ntp,
            &[
                "ntp.example.com NTP.example.com",
                "-a.example",
                "a..b",
                "192.168.7",
                "ntp_1.example",
                "时间.example",
                &long,
                "a\nDNS=1.1.1.1",
                "0.0.0.0",
                nine,
            ],
        ),
        ("vlan", vlan, &["0", "4095", "-1", "30.5", "thirty", "٣٠", "+30", "70000"]),
        ("ipv4", ipv4, &["", "static", "DHCP ", "auto"]),
    ];
    for (field, change, texts) in cases {
        for text in *texts {
            let mut wanted = fixed();
            if *field == "ipv4" {
                (wanted.address4, wanted.gateway4) = (None, None);
            }
            change(&mut wanted, text);
            let problems = wanted.problems();
            assert_eq!(problems.len(), 1, "{field} {text:?}: {problems:?}");
            let expected = format!("network.{field}");
            assert_eq!(problems[0].field.as_deref(), Some(expected.as_str()), "{text:?}: {problems:?}");
        }
    }
}

#[test]
fn an_address_without_fixed_is_said_to_count_for_nothing() {
    let wanted = Wanted { ipv4: "dhcp".into(), ..fixed() };
    assert_eq!(wanted.problems()[0].field.as_deref(), Some("network.address4"));
    let none = Wanted { ipv4: "off".into(), ipv6: "off".into(), ..Wanted::default() };
    assert!(none.problems()[0].message.contains("nobody reaches the box"));
}

/// Whatever is typed is either refused or stands for itself alone in what is made of it.
#[test]
fn no_text_brings_a_line_of_its_own() {
    let hostile =
        ["a\nb", "10.0.0.2/24\nGateway=10.0.0.9", "[Match]", "\u{0}", "10.0.0.1\r\nNTP=evil", "%n", "$(reboot)"];
    for text in hostile {
        for place in 0..6 {
            let mut wanted = fixed();
            let text = text.to_owned();
            match place {
                0 => wanted.address4 = Some(text),
                1 => wanted.gateway4 = Some(text),
                2 => wanted.address6 = Some(text),
                3 => wanted.dns = vec![text],
                4 => wanted.ntp = vec![text],
                _ => wanted.vlan = Some(text),
            }
            assert!(wanted.sound().is_err(), "{wanted:?}");
        }
    }
}
