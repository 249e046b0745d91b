//! `peer` and `probe`.

use std::process::ExitCode;

use clap::Subcommand;

use super::limit::limit_text;
use super::show::{or_dash, size, table};
use super::{Context, Outcome};
use crate::control::reports::{Acknowledged, Invitation, Line, Measured, MeasuredWay, Peer, Refusal};
use crate::control::{AddressChange, Request};
use crate::units::{bit_rate, duration};

#[derive(Subcommand)]
pub(super) enum PeerCommand {
    /// Let one other box pair with this one: prints a code to be read out over the telephone.
    ///
    /// The code is good once, for some minutes. Nobody who listens on the line, or stands in it, learns anything from the pairing without the code; from then on
    /// the boxes know one another by their keys.
    Invite {
        /// What the other box will be called here [default: what it calls itself]
        #[arg(long)]
        name: Option<String>,
    },
    /// Pair with the box that gave out a code.
    ///
    /// From then on either may send to the other, over whichever connection there is: it is enough that one can reach the other. Both have to be of the same realm.
    Join {
        /// The code.
        code: String,
        /// Where the other box listens, HOST:PORT.
        address: String,
    },
    /// List all peers, and how each is reached.
    ///
    /// With the cap that counts now, what is sent and received now and in all since the box started, and whether the peer proves to have what it does
    /// not send (older software does not). What a peer was refused last stands below.
    List,
    /// Where a peer is dialled: several addresses, best first.
    #[command(subcommand)]
    Address(AddressCommand),
    /// What peers were refused: what was wrong, how often, since when, and when last.
    ///
    /// A peer is refused where it breaks the protocol, sends what is not what it says, claims what it does not have, or asks for what it may not: look at its
    /// software and its disks, or at who has its key. The list outlives restarts, and the peer's removal.
    Refusals,
    /// Forget a peer. Its replicas here stay.
    ///
    /// Its key counts for nothing any more: to send again, the boxes are paired anew. Plans that send to it go, and so does what was said about its cap.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(super) enum AddressCommand {
    /// Add an address, behind those that are there.
    Add {
        /// The peer's name.
        peer: String,
        /// HOST:PORT; an IPv6 address in brackets.
        address: String,
    },
    /// List the addresses of a peer, which one is in use, and why.
    List {
        /// The peer's name.
        peer: String,
    },
    /// Remove an address. A connection to it is used until there is a better one.
    Remove {
        /// The peer's name.
        peer: String,
        /// HOST:PORT, as it is listed.
        address: String,
    },
    /// Put an address first; it is added where it is not there yet.
    Prefer {
        /// The peer's name.
        peer: String,
        /// HOST:PORT.
        address: String,
    },
}

fn address(context: &Context, command: AddressCommand) -> Outcome {
    let (peer, change) = match command {
        AddressCommand::Add { peer, address } => (peer, Some(AddressChange::Add(address))),
        AddressCommand::List { peer } => (peer, None),
        AddressCommand::Remove { peer, address } => (peer, Some(AddressChange::Remove(address))),
        AddressCommand::Prefer { peer, address } => (peer, Some(AddressChange::Prefer(address))),
    };
    let Some(peer) = context.ask::<Peer>(&Request::PeerAddresses { peer, change })? else {
        return Ok(ExitCode::SUCCESS);
    };
    if peer.addresses.is_empty() {
        say!("{} is not dialled: it has to call", peer.name);
    }
    let in_use = peer.path.as_ref().and_then(|path| path.address.clone());
    for address in &peer.addresses {
        say!("{address}{}", if Some(address) == in_use.as_ref() { "  in use" } else { "" });
    }
    if let (Some(path), Some(from)) = (&peer.path, &peer.connected_from) {
        say!("connected with {from} for {}: {}", duration(path.seconds), path.why);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn peer(context: &Context, command: PeerCommand) -> Outcome {
    match command {
        PeerCommand::Invite { name } => {
            if let Some(invitation) = context.ask::<Invitation>(&Request::PeerInvite { name })? {
                let minutes = duration(invitation.seconds as f64);
                say!("{}", invitation.code);
                eprintln!(
                    "good for {minutes}, once. On the other box: narrowboat peer join {} HOST:PORT",
                    invitation.code
                );
                eprintln!("HOST:PORT is where this box is reached; it listens on {}", invitation.listen);
            }
        }
        PeerCommand::Join { code, address } => {
            if let Some(peer) = context.ask::<Peer>(&Request::PeerJoin { code, address })? {
                say!("paired with {} ({})", peer.name, peer.id);
            }
        }
        PeerCommand::List => {
            if let Some(peers) = context.ask::<Vec<Peer>>(&Request::PeerList)? {
                show_peers(&peers);
            }
        }
        PeerCommand::Refusals => {
            if let Some(refusals) = context.ask::<Vec<Refusal>>(&Request::PeerRefusals)? {
                show_refusals(&refusals);
            }
        }
        PeerCommand::Address(command) => return address(context, command),
        PeerCommand::Remove { name } => {
            if let Some(done) = context.ask::<Acknowledged>(&Request::PeerRemove { name })? {
                say!("{}", done.message);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn show_peers(peers: &[Peer]) {
    let row = |peer: &Peer| {
        let several = peer.path.as_ref().filter(|path| peer.addresses.len() > 1 && path.address.is_some());
        let state = match (&peer.connected_from, &peer.last_error) {
            (Some(address), _) if several.is_some() => {
                format!("connected {address}, {}", several.map_or("", |path| path.why.as_str()))
            }
            (Some(address), _) => format!("connected {address}"),
            (None, Some(error)) => format!("away: {error}"),
            (None, None) => "away".into(),
        };
        vec![
            peer.name.clone(),
            state,
            limit_text(peer.limit),
            bit_rate(peer.sending as f64),
            bit_rate(peer.receiving as f64),
            or_dash(peer.round_trip_ms.map(|ms| format!("{ms:.1} ms"))),
            size(peer.wire_bytes_sent),
            size(peer.wire_bytes_received),
            or_dash(peer.proves.map(|proves| if proves { "yes" } else { "no" }.to_owned())),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    table(&["PEER", "LINE", "CAP", "SENDING", "RECEIVING", "ROUND TRIP", "SENT", "RECEIVED", "PROVES"], &rows);
    for (peer, last) in peers.iter().filter_map(|peer| Some((peer, peer.last_refusal.as_ref()?))) {
        say!("{} was refused {}, last at {}: {}", peer.name, times(peer.refusals), last.last, last.why);
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

fn show_refusals(refusals: &[Refusal]) {
    if refusals.is_empty() {
        say!("no peer was refused anything");
        return;
    }
    let row = |refusal: &Refusal| {
        vec![
            refusal.last.clone(),
            refusal.peer.clone(),
            times(refusal.count),
            refusal.first.clone(),
            refusal.why.clone(),
        ]
    };
    table(&["LAST", "PEER", "REFUSED", "FIRST", "WHY"], &refusals.iter().map(row).collect::<Vec<_>>());
}

fn show_way(name: &str, way: &MeasuredWay) {
    let rate = match (way.bits_per_second, way.held_by_cap, way.at_least) {
        (None, ..) => "not known: too little arrived".to_owned(),
        (Some(bits), true, _) => {
            let bits = bit_rate(bits as f64);
            format!("at least {bits}; the cap of {bits} holds it")
        }
        (Some(bits), _, true) => format!("at least {}", bit_rate(bits as f64)),
        (Some(bits), ..) => bit_rate(bits as f64),
    };
    let (low, high) = way.loss_percent_between;
    say!("  {name}");
    say!("    carries   {rate}");
    say!(
        "    loses     {:.1} % ({} of {} packets; {low:.1} to {high:.1} % is likely)",
        way.loss_percent,
        way.lost,
        way.packets
    );
    if way.lost > 0 {
        say!("    bursts    {:.1} packets in a row on average, {} at most", way.mean_burst, way.longest_burst);
    }
}

fn show_measured(line: &Line, measured: &Measured) {
    say!("the line to {}", line.peer);
    match &measured.round_trip {
        Some(trip) => {
            let (min, median, jitter) = (trip.min_ms, trip.median_ms, trip.jitter_ms);
            say!("  round trip  {median:.1} ms, at best {min:.1} ms, jitter {jitter:.1} ms");
        }
        None => say!("  round trip  not known: nothing came back"),
    }
    say!("  packets     up to {} bytes", line.mtu);
    show_way("there", &measured.there);
    show_way("back", &measured.back);
    let (sent, received) = (size(measured.sent_bytes), size(measured.received_bytes));
    say!("measured with {sent} sent and {received} received, in {}", duration(measured.seconds));
    if measured.busy {
        say!("other traffic with {} passed meanwhile: what it carries is what was left", line.peer);
    }
}

pub(super) fn probe(context: &Context, peer: String) -> Outcome {
    if let Some(line) = context.ask::<Line>(&Request::Probe { peer })? {
        if let Some(measured) = &line.measured {
            show_measured(&line, measured);
            return Ok(ExitCode::SUCCESS);
        }
        let lost = 100.0 * line.lost_packets as f64 / line.sent_packets.max(1) as f64;
        say!("the line to {}", line.peer);
        say!("  round trip  {:.1} ms, at best {:.1} ms", line.round_trip_ms, line.round_trip_min_ms);
        say!("  loss        {lost:.2} % ({} of {} packets)", line.lost_packets, line.sent_packets);
        say!("  packets     up to {} bytes", line.mtu);
        match line.bits_per_second {
            0 => say!("  rate        not known yet: nothing was sent"),
            bits => say!("  rate        {} at most, lately", bit_rate(bits as f64)),
        }
        if let Some(why) = &line.unmeasured {
            say!("this is what traffic has shown: {why}");
        }
    }
    Ok(ExitCode::SUCCESS)
}
