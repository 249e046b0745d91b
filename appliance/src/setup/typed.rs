//! A set-up as it is typed on the page: texts by the names of fields. What is typed stays, whatever sense it makes; a [`SetUp`] is made of it when
//! somebody goes on.

use std::collections::BTreeMap;

use super::notices::{Mail, Notices, Syslog, Webhook};
use super::secrets::Secret;
use super::{Dataset, HeadOffice, Line, SetUp};
use crate::network::Wanted;
use crate::retention::Rules;

/// What was typed, by field.
pub type Typed = BTreeMap<String, String>;

/// What a dataset keeps if nobody says otherwise: two weeks by days, two months by weeks, a year by months.
pub const KEEP: Rules =
    Rules { last: 0, hourly: 24, daily: 14, weekly: 8, monthly: 12, yearly: 0, within: None, least: 0 };

/// The fields of the network.
pub const NETWORK: [&str; 9] = [
    "network_ipv4",
    "network_address4",
    "network_gateway4",
    "network_ipv6",
    "network_address6",
    "network_gateway6",
    "network_dns",
    "network_ntp",
    "network_vlan",
];

/// Those of them in which mostly nothing is typed.
pub const SELDOM: &[&str] = &["network_address6", "network_gateway6", "network_dns", "network_ntp", "network_vlan"];

/// The network set-up in fields. Addresses count where fixed ones were asked for.
pub fn network(owned: &impl Fn(&str) -> Option<String>) -> Wanted {
    let fixed = |family: &str, field: &str| owned(field).filter(|_| owned(family).as_deref() == Some("fixed"));
    let servers = |field: &str| owned(field).as_deref().map(list).unwrap_or_default();
    Wanted {
        ipv4: owned("network_ipv4").unwrap_or_default(),
        address4: fixed("network_ipv4", "network_address4"),
        gateway4: fixed("network_ipv4", "network_gateway4"),
        ipv6: owned("network_ipv6").unwrap_or_default(),
        address6: fixed("network_ipv6", "network_address6"),
        gateway6: fixed("network_ipv6", "network_gateway6"),
        dns: servers("network_dns"),
        ntp: servers("network_ntp"),
        vlan: owned("network_vlan"),
    }
}

/// A network set-up as it stands in its fields.
pub fn of_network(wanted: &Wanted) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let values = [
        wanted.ipv4.clone(),
        text(&wanted.address4),
        text(&wanted.gateway4),
        wanted.ipv6.clone(),
        text(&wanted.address6),
        text(&wanted.gateway6),
        wanted.dns.join(", "),
        wanted.ntp.join(", "),
        text(&wanted.vlan),
    ];
    NETWORK.into_iter().zip(values).collect()
}

/// The set-up that was typed. What is left empty is not said.
pub fn set_up(typed: &Typed) -> SetUp {
    let text = |field: &str| typed.get(field).map(|text| text.trim()).filter(|text| !text.is_empty());
    let owned = |field: &str| text(field).map(str::to_owned);
    SetUp {
        name: owned("name"),
        time_zone: owned("time_zone"),
        networks: text("networks").map(list).unwrap_or_default(),
        dataset: dataset(&text, &owned).into_iter().collect(),
        head_office: head_office(&owned),
        line: line(&text, &owned),
        notices: notices(&text, &owned),
        network: (text("network") == Some("own")).then(|| network(&owned)),
        ..SetUp::default()
    }
}

/// The same with what is secret of it.
pub fn set_up_with(typed: &Typed, secret: impl Fn(Secret) -> Option<String>) -> SetUp {
    let set_up = set_up(typed);
    SetUp { notices: set_up.notices.clone().map(|notices| notices.with_typed(secret)), ..set_up }
}

/// What is wrong with what was typed, by the name of its field on the page.
pub fn problems(typed: &Typed, secret: impl Fn(Secret) -> Option<String>) -> BTreeMap<String, String> {
    let problems = set_up_with(typed, secret).problems().into_iter();
    problems.map(|failed| (failed.field.unwrap_or_default().replace('.', "_"), failed.message)).collect()
}

/// Who is told. What is secret of it is not here: [`super::secrets`].
fn notices<'t>(text: &impl Fn(&str) -> Option<&'t str>, owned: &impl Fn(&str) -> Option<String>) -> Option<Notices> {
    let to: Vec<String> = text("notices_mail_to")
        .map(|to| to.split([',', ';', '\n']).map(str::trim).filter(|to| !to.is_empty()).map(str::to_owned).collect())
        .unwrap_or_default();
    let (server, user) = (owned("notices_mail_server"), owned("notices_mail_user"));
    // Most servers want to know the sender, and know whoever gets it.
    let from = owned("notices_mail_from").or_else(|| to.first().cloned());
    let mail = (!to.is_empty() || server.is_some() || user.is_some()).then_some(Mail {
        to,
        from,
        server,
        user,
        password: None,
    });
    let webhook = owned("notices_webhook_address").map(|address| Webhook { address, secret: None });
    let syslog = owned("notices_syslog_server").map(|server| Syslog { server });
    let any = mail.is_some() || webhook.is_some() || syslog.is_some();
    any.then_some(Notices { mail, webhook, syslog })
}

/// Texts between commas, semicolons or spaces.
fn list(text: &str) -> Vec<String> {
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn dataset<'t>(text: &impl Fn(&str) -> Option<&'t str>, owned: &impl Fn(&str) -> Option<String>) -> Option<Dataset> {
    let volume = match text("dataset_kind")? {
        "share" => false,
        "volume" => true,
        _ => return None,
    };
    Some(Dataset {
        name: owned("dataset_name").unwrap_or_default(),
        // An empty one is refused beside its field.
        size: volume.then(|| owned("dataset_size").unwrap_or_else(|| "0".into())),
        dedup: owned("dataset_dedup"),
        every: owned("dataset_every").filter(|every| every != "never"),
        keep: (text("dataset_keep") == Some("usual")).then_some(KEEP),
    })
}

fn head_office(owned: &impl Fn(&str) -> Option<String>) -> Option<HeadOffice> {
    let (address, code) = (owned("head_office_address"), owned("head_office_code"));
    (address.is_some() || code.is_some())
        .then(|| HeadOffice { address: address.unwrap_or_default(), code: code.unwrap_or_default() })
}

fn line<'t>(text: &impl Fn(&str) -> Option<&'t str>, owned: &impl Fn(&str) -> Option<String>) -> Option<Line> {
    match text("line")? {
        "rate" => Some(Line { rate: Some(owned("line_rate").unwrap_or_default()), calendar: None }),
        "hours" => Some(Line { rate: owned("line_rate"), calendar: Some(owned("line_calendar").unwrap_or_default()) }),
        _ => None,
    }
}
