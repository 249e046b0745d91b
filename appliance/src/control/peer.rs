//! What is asked about peers.

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::link::{Link, PeerStatus, Probed};
use narrowboat_wan::peer::PeerAddress;
use narrowboat_wan::shape::Rate;

use super::reports::{Acknowledged, Invitation, Lag, Line, Measured, Peer, PeerPath, Refusal};
use super::{AddressChange, Failed};
use crate::backlog::on_the_wall;
use crate::caps::{Change, Way};
use crate::node::Node;
use crate::refusals::{Record, Refused};
use crate::units::rfc3339;
use crate::{clock, ledger, replicas};

/// What speaks with peers; refused where that is switched off.
pub(super) fn link(node: &Node) -> Result<&Link, Failed> {
    let off =
        || Failed::refused("replication is off on this box: set wan.listen in its config file and start it again");
    node.link.as_ref().ok_or_else(off)
}

/// Opens an invitation for another box.
pub(super) fn invite(node: &Node, name: Option<String>) -> Result<Invitation, Failed> {
    let link = link(node)?;
    let name = name.map(|name| name.parse()).transpose()?;
    let (code, good_for) = link.invite(name);
    let listen = link.local_address()?.to_string();
    Ok(Invitation { code: code.to_string(), seconds: good_for.as_secs(), listen })
}

/// Pairs with the box that gave out `code`.
pub(super) fn join(node: &Node, code: &str, address: &str) -> Result<Peer, Failed> {
    let link = link(node)?;
    let (code, address) = (code.parse()?, address.parse()?);
    let record = node.block_on(link.join(&code, &address))?;
    named(node, record.name.as_str())
}

/// All of them.
pub(super) fn all(node: &Node) -> Vec<Peer> {
    let Some(link) = &node.link else { return Vec::new() };
    link.peers().iter().map(|peer| report(node, peer)).collect()
}

/// How far a peer is behind with each dataset that it has something of.
fn lag(node: &Node, peer: &str) -> Vec<Lag> {
    let now = clock::wall();
    let rows = node.store.dataset_rows();
    // Replicas too, where they are passed on.
    let known = rows.iter().filter_map(|row| {
        let id = ledger::proof(&node.store, peer, &row.id)?.snapshot;
        let snapshots = node.store.snapshots(Some(row.id));
        let there = snapshots.iter().find(|snapshot| snapshot.id == id)?;
        Some(Lag {
            dataset: row.name.clone(),
            newest_there: there.name.clone(),
            time: rfc3339(there.time),
            seconds: now.0.saturating_sub(on_the_wall(node, there.time).0).max(0) as f64 / 1e9,
            snapshots_behind: snapshots.iter().filter(|snapshot| snapshot.time > there.time).count(),
        })
    });
    known.collect()
}

/// Changes where a peer is dialled, keeps that, and tells what is so then.
pub(super) fn addresses(node: &Node, peer: &str, change: Option<&AddressChange>) -> Result<Peer, Failed> {
    let link = link(node)?;
    let name = link.find(peer)?.name;
    if let Some(change) = change {
        let changed = changed(link.find(peer)?.addresses, change)?;
        let record = link.set_addresses(name.as_str(), changed)?;
        node.store.set_peer(record.name.as_str(), Some(&record.encode()), clock::now())?;
    }
    named(node, name.as_str())
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

/// Forgets a peer, and all that was said about it.
pub(super) fn remove(node: &Node, name: &str) -> Result<Acknowledged, Failed> {
    let record = link(node)?.remove(name)?;
    node.store.set_peer(record.name.as_str(), None, clock::now())?;
    node.caps.change(Way::Sent, Some(&record), Change::Forget)?;
    node.caps.change(Way::Received, Some(&record), Change::Forget)?;
    replicas::forget_publisher(&node.store, &record)?;
    let deleted = node.store.quarantined().into_iter().filter(|one| one.snapshot.is_none()).map(|one| one.dataset);
    for row in node.store.dataset_rows().into_iter().chain(deleted) {
        node.plans.set(row.id, &record, None)?;
    }
    // Another box may get this name one day, and has nothing of it.
    ledger::forget_all(&node.store, record.name.as_str(), clock::now())?;
    Ok(Acknowledged { message: format!("{} is no peer any more", record.name) })
}

/// What peers were refused, the latest of each first; those that are no peers any more included.
pub(super) fn all_refusals(node: &Node) -> Vec<Refusal> {
    node.refusals.all().iter().flat_map(|record| refusals(record).into_iter().rev()).collect()
}

/// Measures the line to a peer.
pub(super) fn probe(node: &Node, peer: &str) -> Result<Line, Failed> {
    let Probed { line, survey } = node.block_on(link(node)?.probe(peer))?;
    Ok(Line {
        peer: peer.to_owned(),
        round_trip_ms: line.round_trip.as_secs_f64() * 1e3,
        round_trip_min_ms: line.round_trip_min.as_secs_f64() * 1e3,
        sent_packets: line.sent_packets,
        lost_packets: line.lost_packets,
        mtu: line.mtu,
        bits_per_second: line.bits_per_second,
        unmeasured: survey.as_ref().err().map(ToString::to_string),
        measured: survey.ok().as_ref().map(Measured::from),
    })
}

/// The peer of this name, which was there just now.
fn named(node: &Node, name: &str) -> Result<Peer, Failed> {
    all(node).into_iter().find(|peer| peer.name == name).ok_or_else(|| Failed::refused("the peer was removed at once"))
}

/// The latest one last.
fn refusals(record: &Record) -> Vec<Refusal> {
    let report = |refused: &Refused| Refusal {
        peer: record.peer.clone(),
        first: rfc3339(Timestamp(refused.first)),
        last: rfc3339(Timestamp(refused.last)),
        count: refused.count,
        why: refused.why.clone(),
    };
    record.refused.iter().map(report).collect()
}

fn report(node: &Node, peer: &PeerStatus) -> Peer {
    let refused = node.refusals.of(&peer.record);
    Peer {
        name: peer.record.name.to_string(),
        id: peer.record.id.to_string(),
        addresses: peer.record.addresses.iter().map(ToString::to_string).collect(),
        paired: rfc3339(peer.record.paired_at),
        connected_from: peer.connected_from.map(|address| address.to_string()),
        path: peer.path.as_ref().map(|(path, used)| PeerPath {
            address: path.address.as_ref().map(ToString::to_string),
            why: path.why.to_string(),
            seconds: used.as_secs_f64(),
        }),
        last_error: peer.last_error.clone().filter(|_| peer.connected_from.is_none()),
        limit: peer.limit.map(Rate::bits),
        granted: peer.granted.map(Rate::bits),
        sending: peer.bits_per_second,
        receiving: peer.received_bits_per_second,
        round_trip_ms: peer.line.map(|line| line.round_trip.as_secs_f64() * 1e3),
        wire_bytes_sent: peer.counters.sent.bytes,
        wire_bytes_received: peer.counters.received.bytes,
        lag: lag(node, peer.record.name.as_str()),
        software: peer.greeting.as_ref().map(|greeting| greeting.software.clone()),
        proves: peer.greeting.as_ref().map(|greeting| greeting.proves),
        refusals: refused.count(),
        last_refusal: refusals(&refused).pop(),
    }
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
