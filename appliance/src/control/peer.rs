//! What is asked about the addresses of peers.

use narrowboat_wan::peer::PeerAddress;

use super::api::{link, peers};
use super::reports::Peer;
use super::{AddressChange, Failed};
use crate::clock;
use crate::node::Node;

/// Changes where a peer is dialled, keeps that, and tells what is so then.
pub(super) fn addresses(node: &Node, peer: &str, change: Option<&AddressChange>) -> Result<Peer, Failed> {
    let link = link(node)?;
    let name = link.find(peer)?.name;
    if let Some(change) = change {
        let changed = changed(link.find(peer)?.addresses, change)?;
        let record = link.set_addresses(name.as_str(), changed)?;
        node.store.set_peer(record.name.as_str(), Some(&record.encode()), clock::now())?;
    }
    let found = peers(node).into_iter().find(|peer| peer.name == name.as_str());
    found.ok_or_else(|| Failed::refused("the peer was removed at once"))
}

fn changed(mut addresses: Vec<PeerAddress>, change: &AddressChange) -> Result<Vec<PeerAddress>, Failed> {
    let (AddressChange::Add(text) | AddressChange::Remove(text) | AddressChange::Prefer(text)) = change;
    let address: PeerAddress = text.parse()?;
    let known = addresses.iter().position(|known| *known == address);
    match (change, known) {
        (AddressChange::Add(_), Some(_)) => return Err(Failed::refused(format!("{address} is one of them already"))),
        (AddressChange::Add(_), None) => addresses.push(address),
        (AddressChange::Remove(_), None) => return Err(Failed::refused(format!("{address} is none of them"))),
        (AddressChange::Remove(_), Some(at)) => drop(addresses.remove(at)),
        (AddressChange::Prefer(_), known) => {
            known.map(|at| addresses.remove(at));
            addresses.insert(0, address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_order() {
        let parse = |text: &str| text.split_whitespace().map(|one| one.parse().expect("an address")).collect();
        let after = |before: &str, change: AddressChange| {
            let after = changed(parse(before), &change).ok()?;
            Some(after.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let say = |text: &str| text.to_owned();
        assert_eq!(after("a:1 b:2", AddressChange::Add(say("c:3"))), Some(say("a:1 b:2 c:3")));
        assert_eq!(after("a:1 b:2", AddressChange::Add(say("b:2"))), None);
        assert_eq!(after("a:1 b:2", AddressChange::Remove(say("a:1"))), Some(say("b:2")));
        assert_eq!(after("a:1", AddressChange::Remove(say("b:2"))), None);
        assert_eq!(after("a:1 b:2", AddressChange::Prefer(say("b:2"))), Some(say("b:2 a:1")));
        assert_eq!(after("a:1", AddressChange::Prefer(say("c:3"))), Some(say("c:3 a:1")));
        assert_eq!(after("a:1", AddressChange::Add(say("nonsense"))), None);
    }
}
