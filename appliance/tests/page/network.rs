//! What the page of the network shows and does.

use narrowboat::control::Failed;

use crate::browser::Browser;
use crate::fake::{Page, SESSION, VIEWER};

const FIELDS: [(&str, &str); 9] = [
    ("network_ipv4", "fixed"),
    ("network_address4", "127.0.0.1/8"),
    ("network_gateway4", "<i>192.168.7.1"),
    ("network_ipv6", "off"),
    ("network_address6", "العربية"),
    ("network_gateway6", ""),
    ("network_dns", "192.168.7.1, 192.168.7.1"),
    ("network_ntp", "时间"),
    ("network_vlan", "4095"),
];

fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let value = |(name, value): (&'static str, &'static str)| {
        (name, changes.iter().find(|(changed, _)| *changed == name).map_or(value, |(_, value)| *value))
    };
    FIELDS.into_iter().map(value).collect()
}

#[test]
fn what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let form = browser.get("/network");
    assert!(form.body.contains("192.168.7.20/24") && form.body.contains("Try it"), "{}", form.body);
    let wrong = browser.submit(&form, "/network", &FIELDS);
    assert_eq!(wrong.status, 422);
    // The gateway is compared with an address that makes sense; this one makes none.
    for field in ["address4", "dns", "ntp", "vlan"] {
        assert!(wrong.body.contains(&format!("id=\"network_{field}-wrong\"")), "{field}: {}", wrong.body);
    }
    for typed in ["127.0.0.1/8", "&#60;i&#62;192.168.7.1", "العربية", "192.168.7.1, 192.168.7.1", "时间", "4095"]
    {
        assert!(wrong.body.contains(&format!("value=\"{typed}\"")), "{typed}: {}", wrong.body);
    }
    assert!(page.memory().tried.is_none());
}

#[test]
fn what_is_tried_says_where_it_is_kept() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let form = browser.get("/network");
    let good = [
        ("network_address4", "192.168.9.10/24"),
        ("network_gateway4", "192.168.9.1"),
        ("network_dns", ""),
        ("network_ntp", ""),
        ("network_vlan", "30"),
    ];
    let tried = browser.submit(&form, "/network", &with(&good));
    let link = format!("href=\"https://192.168.9.10:{}/network\"", page.address.port());
    assert!(tried.status == 200 && tried.body.contains(&link), "{}", tried.body);
    assert!(
        tried.body.contains("data-countdown=\"/network\">57<") && !tried.body.contains("Keep it</button>"),
        "{}",
        tried.body
    );
    // By DHCP it may be this address: the box says whether it is.
    page.memory().tried = None;
    let form = browser.get("/network");
    let tried = browser.submit(
        &form,
        "/network",
        &with(&[("network_ipv4", "dhcp"), ("network_dns", ""), ("network_ntp", ""), ("network_vlan", "")]),
    );
    assert!(tried.body.contains("Keep it</button>"), "{}", tried.body);
    page.memory().refuses = Some(Failed::refused("you came by 192.168.7.20, which shows nothing"));
    let refused = browser.submit(&tried, "/network/keep", &[("trial", "3")]);
    assert!(refused.status == 422 && refused.body.contains("You came by 192.168.7.20"), "{}", refused.body);
    page.memory().refuses = None;
    assert_eq!(browser.submit(&tried, "/network/keep", &[("trial", "3")]).header("location"), "/network");
    assert!(page.memory().asked.iter().any(|asked| asked["request"] == "network-confirm" && asked["trial"] == 3));
}

#[test]
fn who_only_looks_sees_the_network_and_changes_nothing() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, VIEWER);
    let seen = browser.get("/network");
    assert!(
        seen.status == 200 && seen.body.contains("192.168.7.20/24") && !seen.body.contains("Try it"),
        "{}",
        seen.body
    );
    let sent = browser.submit(&seen, "/network", &with(&[("network_ipv4", "dhcp")]));
    assert!(sent.status >= 400 && page.memory().tried.is_none(), "{}", sent.body);
}
