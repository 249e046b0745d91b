use super::secrets::Secret;
use super::typed::{KEEP, Typed, problems, set_up, set_up_with};
use super::*;

/// The page of the format, with its example.
#[test]
fn the_example_of_the_page_is_read_and_written() {
    let page = include_str!("../../../docs/formats/set-up.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let read = SetUp::read(example).expect("sound");
    assert_eq!((read.name.as_deref(), read.dataset.len()), (Some("office-bonn"), 2));
    assert_eq!(read.dataset[0].keep.as_ref().map(|rules| (rules.daily, rules.monthly)), Some((14, 12)));
    assert_eq!(read.settings["scrub.every"], "14d");
    let network = read.network.as_ref().expect("one");
    assert_eq!((network.vlan.as_deref(), network.address4.as_deref()), (Some("30"), Some("192.168.7.10/24")));
    assert_eq!(SetUp::read(&read.write().expect("text")).expect("sound"), read);
    let settings = read.all_settings();
    let said = |key: &str| settings[key].clone().expect("a value");
    assert_eq!(said("name"), "office-bonn");
    assert_eq!(said("nfs.allow"), serde_json::json!(["192.168.7.0/24", "127.0.0.0/8", "::1/128"]));
    assert_eq!(
        (said("notices.mail.to"), said("notices.syslog.server")),
        (serde_json::json!(["it@example.org"]), "log.example.org:514".into())
    );
    assert!(!settings.values().flatten().any(|value| value.to_string().contains("knows it")), "no secret is a setting");
    let doors: Vec<&str> = read.doors().iter().map(|(key, _)| *key).collect();
    assert_eq!(doors, ["nfs.listen", "iscsi.listen", "wan.listen"]);
}

#[test]
fn what_makes_no_sense_is_refused_and_says_where() {
    let cases = [
        ("", ""),
        ("set_up = 2", "set_up"),
        ("set_up = 1\nnmae = 'typing error'", ""),
        ("set_up = 1\nname = 'no/name'", "name"),
        ("set_up = 1\ntime_zone = 'Europe/Bonn'", "time_zone"),
        ("set_up = 1\nnetworks = ['192.168.7.0/33']", "networks"),
        ("set_up = 1\nnetworks = ['office']", "networks"),
        ("set_up = 1\n[[dataset]]\nname = 'a@b'", "dataset.name"),
        ("set_up = 1\n[[dataset]]\nname = ''", "dataset.name"),
        ("set_up = 1\n[[dataset]]\nname = 'a'\nsize = 'large'", "dataset.size"),
        ("set_up = 1\n[[dataset]]\nname = 'a'\nsize = '0'", "dataset.size"),
        ("set_up = 1\n[[dataset]]\nname = 'a'\nevery = 'now and then'", "dataset.every"),
        ("set_up = 1\n[[dataset]]\nname = 'a'\nevery = '0s'", "dataset.every"),
        ("set_up = 1\n[[dataset]]\nname = 'a'\ndedup = 'sometimes'", "dataset.dedup"),
        ("set_up = 1\n[head_office]\naddress = 'hub'\ncode = '417-528-361'", "head_office.address"),
        ("set_up = 1\n[head_office]\naddress = 'hub:4433'\ncode = '417-528-362'", "head_office.code"),
        ("set_up = 1\n[line]\nrate = 'fast'", "line.rate"),
        ("set_up = 1\n[line]\ncalendar = 'mondays quick'", "line.calendar"),
        ("set_up = 1\n[network]\nipv4 = 'fixed'\naddress4 = '10.0.0.0/8'", "network.address4"),
        ("set_up = 1\n[network]\nvlan = 4095", "network.vlan"),
        ("set_up = 1\n[network]\ndns = ['a.example']", "network.dns"),
        ("set_up = 1\n[settings]\n'hook.a.freeze' = 'rm'", "hook.a.freeze"),
        ("set_up = 1\n[settings]\n'scrub.every' = 'often'", "scrub.every"),
        ("set_up = 1\n[notices.mail]\nserver = 'mail.d.de:465'", "notices.mail.to"),
        ("set_up = 1\n[notices.mail]\nto = ['a@b.de']\nserver = 'mail.d.de:465'", "notices.mail.from"),
        ("set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'", "notices.mail.server"),
        ("set_up = 1\n[notices.mail]\nto = ['nobody']\nfrom = 'c@d.de'\nserver = 'mail.d.de:465'", "notices.mail.to"),
        ("set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.d.de'", "notices.mail.server"),
        (
            "set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.d.de:465'\nuser = 'c'",
            "notices.mail.password",
        ),
        (
            "set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.d.de:465'\nuser = 'c'\npassword = \"a\\nb\"",
            "notices.mail.password",
        ),
        ("set_up = 1\n[notices.webhook]\naddress = 'http://a.de/'", "notices.webhook.address"),
        ("set_up = 1\n[notices.syslog]\nserver = 'log'", "notices.syslog.server"),
        ("set_up = 1\n[settings]\n'notices.mail.password_file' = '/etc/shadow'", "notices.mail.password_file"),
        ("set_up = 1\n[administrator]\nuser = 'anna'\npassword_hash = 'secret'", "administrator.password_hash"),
    ];
    for (text, field) in cases {
        let failed = SetUp::read(text).expect_err(text);
        assert_eq!(
            (failed.kind.as_str(), failed.field.as_deref().unwrap_or_default()),
            ("refused", field),
            "{text}: {failed}"
        );
    }
    assert!(SetUp::read(&format!("set_up = 1 #{}", "x".repeat(FILE_BYTES_MAX))).is_err());
}

#[test]
fn secrets_are_in_no_debug_output() {
    let text = "set_up = 1\n[head_office]\naddress = 'hub:4433'\ncode = '417-528-361'";
    assert!(!format!("{:?}", SetUp::read(text).expect("sound")).contains("528"));
    let text = "set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'mail.d.de:465'\nuser = 'c'\npassword = 'seven barges'\n\
                [notices.webhook]\naddress = 'https://alerts.example.org/hidden'\nsecret = 'signed by it'\n";
    let read = SetUp::read(text).expect("sound");
    let debug = format!("{read:?}");
    assert!(["seven", "hidden", "signed"].iter().all(|secret| !debug.contains(secret)), "{debug}");
    let others = SetUp { notices: read.notices.clone().and_then(Notices::for_others), ..read };
    let file = others.write().expect("text");
    assert!(
        file.contains("mail.d.de:465") && ["seven", "hidden", "signed"].iter().all(|secret| !file.contains(secret))
    );
    SetUp::read(&file).expect("another box takes it");
}

fn none(_: Secret) -> Option<String> {
    None
}

fn typed(fields: &[(&str, &str)]) -> Typed {
    fields.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_is_typed_is_a_set_up() {
    assert_eq!(set_up(&typed(&[])), SetUp::default());
    let all = typed(&[
        ("name", " office-bonn "),
        ("networks", "192.168.7.0/24, 10.0.0.0/8\n2001:db8::/64"),
        ("dataset_kind", "volume"),
        ("dataset_name", "server 1"),
        ("dataset_size", "1,500 GB"),
        ("dataset_every", "1h"),
        ("dataset_keep", "usual"),
        ("head_office_address", "hub:4433"),
        ("head_office_code", "417 528 361"),
        ("line", "hours"),
        ("line_rate", "20Mbit"),
        ("line_calendar", "mon-fri 08:00-18:00 4Mbit"),
    ]);
    let read = set_up(&all);
    assert_eq!(problems(&all, none), BTreeMap::new());
    assert_eq!(read.networks.len(), 3);
    assert_eq!(read.dataset[0].bytes(), Ok(Some(1_500_000_000_000)));
    assert_eq!(read.dataset[0].keep, Some(KEEP));
    assert_eq!(SetUp::read(&read.write().expect("text")).expect("sound"), read);
    let wrong = |field: &str, value: &str| {
        let mut typed = all.clone();
        typed.insert(field.into(), value.into());
        problems(&typed, none).into_keys().collect::<Vec<_>>()
    };
    for (field, value) in [
        ("name", "a b"),
        ("time_zone", "Bonn"),
        ("networks", "everybody"),
        ("dataset_name", " "),
        ("dataset_size", ""),
        ("dataset_size", "二"),
        ("head_office_address", ""),
        ("head_office_code", "no"),
        ("line_rate", "-1"),
        ("line_calendar", "'; drop table"),
    ] {
        assert_eq!(wrong(field, value), [field], "{value}");
    }
    let network = typed(&[
        ("network", "own"),
        ("network_ipv4", "fixed"),
        ("network_address4", "192.168.7.10/24"),
        ("network_gateway4", "192.168.8.1"),
        ("network_ipv6", "off"),
        ("network_address6", "what stays although it does not count"),
        ("network_dns", "192.168.7.1; 10.0.0.1"),
        ("network_vlan", "5000"),
    ]);
    assert_eq!(problems(&network, none).into_keys().collect::<Vec<_>>(), ["network_gateway4", "network_vlan"]);
    let as_it_is = network.iter().map(|(field, value)| (field.clone(), value.clone()));
    let as_it_is: Typed = as_it_is.chain([("network".to_owned(), "as-is".to_owned())]).collect();
    assert_eq!((problems(&as_it_is, none).len(), set_up(&as_it_is).network), (0, None));
    let wanted = set_up(&network).network.expect("one");
    assert_eq!((wanted.dns.len(), wanted.address6), (2, None));
    let both: Typed = typed(&[("name", "a b"), ("networks", "x"), ("line", "rate"), ("line_rate", "fast")]);
    assert_eq!(problems(&both, none).into_keys().collect::<Vec<_>>(), ["line_rate", "name", "networks"]);
}

#[test]
fn who_is_told_is_typed_and_what_is_secret_of_it_comes_from_elsewhere() {
    let mut all = typed(&[
        ("notices_mail_to", "anna@example.org; Otto <otto@example.org>"),
        ("notices_mail_server", "mail.example.org:465"),
        ("notices_mail_user", "box"),
        ("notices_webhook_address", "https://alerts.example.org/box"),
        ("notices_syslog_server", "log.example.org:514"),
    ]);
    let secret = |secret: Secret| Some(format!("{secret:?}"));
    assert_eq!(problems(&all, secret), BTreeMap::new());
    let notices = set_up_with(&all, secret).notices.expect("somebody is told");
    let mail = notices.mail.clone().expect("mail");
    assert_eq!(
        (mail.to.len(), mail.from.as_deref(), mail.password.as_deref()),
        (2, Some("anna@example.org"), Some("MailPassword"))
    );
    assert_eq!(notices.secrets().len(), 2);
    assert_eq!(problems(&all, none).into_keys().collect::<Vec<_>>(), ["notices_mail_password"]);
    all.remove("notices_mail_user");
    assert_eq!(problems(&all, none), BTreeMap::new());
    let unsaid = set_up_with(&all, secret).notices.expect("somebody is told");
    assert_eq!(unsaid.mail.and_then(|mail| mail.password), None, "nobody signs in");
    for (field, value) in [
        ("notices_mail_to", "everybody"),
        ("notices_mail_server", "mail"),
        ("notices_mail_from", "me"),
        ("notices_webhook_address", "http://a.de"),
        ("notices_syslog_server", "log"),
    ] {
        let typed: Typed = all.clone().into_iter().chain([(field.to_owned(), value.to_owned())]).collect();
        assert_eq!(problems(&typed, none).into_keys().collect::<Vec<_>>(), [field], "{value}");
    }
}
