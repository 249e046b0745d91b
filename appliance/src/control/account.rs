//! Accounts from the console: who may sign in to the page, for when nobody can, and the audit log.

use std::net::{IpAddr, SocketAddr};

use super::reports::{Acknowledged, Claim};
use super::{Failed, reports};
use crate::accounts::Role;
use crate::node::Node;
use crate::setup::places::places;

/// Most entries of the audit log in one answer.
const ENTRIES_MAX: u32 = 500;

/// The claim code, and where the page is.
pub(super) fn claim(node: &Node) -> Claim {
    let page = node.page.as_ref();
    Claim {
        code: node.accounts.claim_code(),
        claimed: node.accounts.claimed(),
        address: page.map(|page| page.address().to_string()),
        urls: page.map(|page| urls(page.address(), node.announcer.name())).unwrap_or_default(),
        fingerprint: page.map(|page| page.fingerprint()),
    }
}

/// How a browser reaches what listens there: by the name that neighbours find it by, and by addresses.
fn urls(listens: SocketAddr, name: Option<String>) -> Vec<String> {
    let port = if listens.port() == 443 { String::new() } else { format!(":{}", listens.port()) };
    let named = name.map(|name| format!("https://{name}{port}/"));
    named.into_iter().chain(numbered(listens)).collect()
}

fn numbered(listens: SocketAddr) -> Vec<String> {
    let url = |address: IpAddr| match (address, listens.port()) {
        (IpAddr::V4(address), 443) => format!("https://{address}/"),
        (IpAddr::V4(address), port) => format!("https://{address}:{port}/"),
        (IpAddr::V6(address), 443) => format!("https://[{address}]/"),
        (IpAddr::V6(address), port) => format!("https://[{address}]:{port}/"),
    };
    if !listens.ip().is_unspecified() {
        return vec![url(listens.ip())];
    }
    // `::` takes IPv4, too.
    let taken = places().into_iter().map(|place| place.address).filter(|own| listens.is_ipv6() || own.is_ipv4());
    taken.map(url).collect()
}

/// One more who may sign in.
pub(super) fn add(node: &Node, user: &str, role: Role, password: &str) -> Result<Acknowledged, Failed> {
    node.accounts.add_user(user, role, password)?;
    Ok(Acknowledged { message: format!("{user} can sign in to the page") })
}

/// One less.
pub(super) fn remove(node: &Node, user: &str) -> Result<Acknowledged, Failed> {
    node.accounts.remove_user(user)?;
    Ok(Acknowledged {
        message: format!("{user} can't sign in any more; sessions and tokens of that account have ended"),
    })
}

/// A new password for somebody who has forgotten his.
pub(super) fn reset(node: &Node, user: &str, password: &str) -> Result<Acknowledged, Failed> {
    node.accounts.reset_password(user, password)?;
    let message =
        format!("{user} has another password, and no second factor; sessions and tokens of that account have ended");
    Ok(Acknowledged { message })
}

/// The audit log, the newest first.
pub(super) fn audit(node: &Node, before: Option<u64>, limit: u32) -> Result<Vec<reports::AuditEntry>, Failed> {
    let entries = node.audit.newest(before, limit.min(ENTRIES_MAX) as usize);
    entries.map_err(|error| Failed::environment(format!("the audit log can't be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_is_told_is_an_address_that_it_takes() {
        let of = |listens: &str| urls(listens.parse().expect("an address"), None);
        assert_eq!(of("192.0.2.7:443"), ["https://192.0.2.7/"]);
        assert_eq!(of("127.0.0.1:8443"), ["https://127.0.0.1:8443/"]);
        assert_eq!(of("[2001:db8::1]:8443"), ["https://[2001:db8::1]:8443/"]);
        let named = urls("192.0.2.7:8443".parse().expect("an address"), Some("box-2.local".into()));
        assert_eq!(named, ["https://box-2.local:8443/", "https://192.0.2.7:8443/"]);
        assert!(of("0.0.0.0:443").iter().all(|url| !url.contains('[') && !url.contains("0.0.0.0")));
    }
}
