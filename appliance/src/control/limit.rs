//! What requests about caps do.

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::link::{Link, PeerStatus};
use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::shape::{Arrival, Calendar, Load, Override, Rate, Reason, Schedule, forecast, parse_limit};

use super::Failed;
use super::peer::link;
use super::reports::{CaughtUp, Explained, ExplainedPeer, Limit, Recovery};
use crate::backlog::{Backlog, backlog};
use crate::caps::{Change, Way};
use crate::clock;
use crate::node::Node;
use crate::units::rfc3339;

/// The longest override, in seconds: a year.
const OVERRIDE_MAX: u64 = 366 * 24 * 3600;

/// The cap of the whole box.
pub(super) fn whole(node: &Node, way: Way) -> Limit {
    report(way, None, &node.caps.schedule(way, None), clock::wall())
}

/// The cap of what is received, where anything was said about it.
pub(super) fn received(node: &Node, peer: Option<&PeerRecord>) -> Option<Limit> {
    let schedule = node.caps.schedule(Way::Received, peer);
    (schedule != Schedule { calendar: schedule.calendar.clone(), ..Schedule::plain(None) }
        || !schedule.calendar.rules().is_empty())
    .then(|| report(Way::Received, peer, &schedule, clock::wall()))
}

/// What is to be changed.
pub(super) struct Asked {
    pub(super) way: Way,
    pub(super) rate: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) calendar: Option<String>,
    pub(super) resume: bool,
    pub(super) as_configured: bool,
}

/// Shows or changes what was said about a cap.
pub(super) fn limit(node: &Node, peer: Option<String>, asked: &Asked) -> Result<Limit, Failed> {
    let link = link(node)?;
    let mut record = peer.as_deref().map(|name| link.find(name)).transpose()?;
    let changes = changes(node, asked)?;
    let changed = !changes.is_empty();
    for change in changes {
        if let Some(known) = record.as_ref().filter(|_| asked.way == Way::Sent) {
            record = Some(note(node, link, known, &change)?);
        }
        node.caps.change(asked.way, record.as_ref(), change)?;
    }
    if changed {
        node.caps.apply(link);
    }
    let schedule = node.caps.schedule(asked.way, record.as_ref());
    Ok(report(asked.way, record.as_ref(), &schedule, clock::wall()))
}

/// What is asked for, checked as a whole before any of it is done.
fn changes(node: &Node, asked: &Asked) -> Result<Vec<Change>, Failed> {
    let mut changes = Vec::new();
    if asked.as_configured {
        changes.push(Change::Forget);
    }
    if let Some(text) = &asked.calendar {
        Calendar::parse(text, node.caps.zone())?;
        changes.push(Change::Calendar(text.clone()));
    }
    if asked.resume {
        changes.push(Change::Override(None));
    }
    match (asked.rate.as_deref().map(parse_limit).transpose()?, asked.seconds) {
        (Some(limit), Some(seconds @ 1..=OVERRIDE_MAX)) => {
            let from = clock::wall();
            let until = Timestamp(from.0.saturating_add(seconds as i64 * 1_000_000_000));
            changes.push(Change::Override(Some(Override { limit, from, until })));
        }
        (_, Some(0)) | (Some(_), Some(_)) => {
            let why = "an override lasts from a second to a year: write --for 90s, 30min, 2h or 3d";
            return Err(Failed::refused(format!("{why}; for ever is --rate without --for")));
        }
        (None, Some(_)) => return Err(Failed::refused("--for says how long a rate counts: say --rate as well")),
        (Some(limit), None) => changes.push(Change::Plain(limit)),
        (None, None) => {}
    }
    Ok(changes)
}

/// Keeps the plain rate in the peer's record, too, where earlier versions look for it.
fn note(node: &Node, link: &Link, peer: &PeerRecord, change: &Change) -> Result<PeerRecord, Failed> {
    let limit = match change {
        Change::Plain(limit) => *limit,
        Change::Forget => None,
        Change::Calendar(_) | Change::Override(_) => return Ok(peer.clone()),
    };
    let record = link.note_limit(peer.name.as_str(), limit)?;
    node.store.set_peer(record.name.as_str(), Some(&record.encode()), clock::now())?;
    Ok(record)
}

/// What counts of what was said about one cap.
fn report(way: Way, peer: Option<&PeerRecord>, schedule: &Schedule, now: Timestamp) -> Limit {
    let ruling = schedule.at(now);
    let (reason, rule) = match ruling.reason {
        Reason::Override => ("override", None),
        Reason::Rule(rule) => ("rule", Some(rule.to_string())),
        Reason::Plain => ("rate", None),
    };
    Limit {
        receive: way == Way::Received,
        peer: peer.map(|peer| peer.name.to_string()),
        limit: ruling.limit.map(Rate::bits),
        reason: reason.into(),
        rule,
        zone: schedule.calendar.zone().iana_name().map(str::to_owned),
        until: ruling.until.map(rfc3339),
        then: ruling.until.and_then(|until| schedule.limit_at(until)).map(Rate::bits),
        rate: schedule.plain.map(Rate::bits),
        calendar: schedule.calendar.rules().iter().map(ToString::to_string).collect(),
    }
}

/// Which caps count now, why, until when, and when peers will have caught up.
pub(super) fn explain(node: &Node, peer: Option<&str>) -> Result<Explained, Failed> {
    let link = link(node)?;
    let chosen = peer.map(|name| link.find(name)).transpose()?;
    let now = clock::wall();
    let whole = node.caps.schedule(Way::Sent, None);
    // All peers flow together, also where only one is asked about: they share the box's cap.
    let peers = link.peers();
    let gathered = peers
        .iter()
        .map(|peer| Ok((peer, node.caps.schedule(Way::Sent, Some(&peer.record)), backlog(node, &peer.record)?)))
        .collect::<Result<Vec<_>, Failed>>()?;
    let loads: Vec<Load> = gathered
        .iter()
        .map(|(peer, schedule, backlog)| {
            let pace = node.caps.pace(&peer.record).and_then(|pace| pace.rate);
            let line = line_of(peer, in_force(peer, schedule, &whole, pace, now));
            let line = [line, pace.map(Rate::bits), peer.granted.map(Rate::bits)].into_iter().flatten().min();
            Load { bytes: backlog.left_bytes, schedule, line }
        })
        .collect();
    let arrivals = forecast(now, &whole, &loads);
    let explained = gathered.iter().zip(arrivals).map(|((peer, schedule, backlog), arrival)| {
        let pace = node.caps.pace(&peer.record);
        let in_force = in_force(peer, schedule, &whole, pace.and_then(|pace| pace.rate), now);
        ExplainedPeer {
            cap: report(Way::Sent, Some(&peer.record), schedule, now),
            received: received(node, Some(&peer.record)),
            granted: peer.granted.map(Rate::bits),
            receiving: peer.received_bits_per_second,
            in_force: in_force.map(Rate::bits),
            recovery: pace.zip(node.caps.recovery_point(&peer.record)).map(|(pace, seconds)| Recovery {
                seconds,
                deadline: rfc3339(pace.deadline),
                pace: pace.rate.map(Rate::bits),
                misses_bytes: pace.misses_bytes,
            }),
            line: line_of(peer, in_force),
            sending: peer.bits_per_second,
            behind: backlog.datasets.clone(),
            under_way: backlog.under_way,
            left_bytes: backlog.left_bytes,
            caught_up: caught_up(backlog, arrival, now),
        }
    });
    let asked = |explained: &ExplainedPeer| {
        chosen.as_ref().is_none_or(|chosen| explained.cap.peer.as_deref() == Some(chosen.name.as_str()))
    };
    Ok(Explained {
        time: rfc3339(now),
        whole: report(Way::Sent, None, &whole, now),
        whole_received: received(node, None),
        peers: explained.filter(asked).collect(),
    })
}

/// The lowest of a peer's cap, the box's, its pace and what it grants.
fn in_force(peer: &PeerStatus, own: &Schedule, whole: &Schedule, pace: Option<Rate>, now: Timestamp) -> Option<Rate> {
    [own.limit_at(now), whole.limit_at(now), pace, peer.granted].into_iter().flatten().min()
}

/// What the line to a peer takes at most, as far as that shows: while something is sent, and a cap is not what bounds it.
fn line_of(peer: &PeerStatus, in_force: Option<Rate>) -> Option<u64> {
    let line = peer.line?.bits_per_second;
    let busy = peer.bits_per_second >= line / 2;
    let narrower = in_force.is_none_or(|limit| line < limit.bits() / 10 * 9);
    (line > 0 && busy && narrower).then_some(line)
}

fn caught_up(backlog: &Backlog, arrival: Arrival, now: Timestamp) -> CaughtUp {
    match arrival {
        _ if backlog.datasets.is_empty() => CaughtUp::Now,
        Arrival::At(time) => {
            let seconds = time.0.saturating_sub(now.0).max(0).unsigned_abs() / 1_000_000_000;
            CaughtUp::At { time: rfc3339(time), seconds }
        }
        Arrival::Never => CaughtUp::Never,
        Arrival::After(time) => CaughtUp::After { time: rfc3339(time) },
        Arrival::Unknown(time) => CaughtUp::Unknown { time: rfc3339(time) },
    }
}
