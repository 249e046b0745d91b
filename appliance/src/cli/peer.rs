//! `peer` and `probe`.

use std::process::ExitCode;

use clap::Subcommand;

use super::limit::limit_text;
use super::show::{or_dash, size, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Invitation, Line, Peer};
use crate::units::{bit_rate, duration};

#[derive(Subcommand)]
pub(super) enum PeerCommand {
    /// Let one other box pair with this one: prints a code to be read out over the telephone.
    Invite {
        /// What the other box will be called here [default: what it calls itself]
        #[arg(long)]
        name: Option<String>,
    },
    /// Pair with the box that gave out a code.
    Join {
        /// The code.
        code: String,
        /// Where the other box listens, HOST:PORT.
        address: String,
    },
    /// List all peers, and how each is reached.
    List,
    /// Forget a peer. Its replicas here stay.
    Remove {
        /// Its name.
        name: String,
    },
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
        let state = match (&peer.connected_from, &peer.last_error) {
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
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    table(&["PEER", "LINE", "CAP", "SENDING", "RECEIVING", "ROUND TRIP", "SENT", "RECEIVED"], &rows);
}

pub(super) fn probe(context: &Context, peer: String) -> Outcome {
    if let Some(line) = context.ask::<Line>(&Request::Probe { peer })? {
        let lost = 100.0 * line.lost_packets as f64 / line.sent_packets.max(1) as f64;
        say!("the line to {}", line.peer);
        say!("  round trip  {:.1} ms, at best {:.1} ms", line.round_trip_ms, line.round_trip_min_ms);
        say!("  loss        {lost:.2} % ({} of {} packets)", line.lost_packets, line.sent_packets);
        say!("  packets     up to {} bytes", line.mtu);
        match line.bits_per_second {
            0 => say!("  rate        not known yet: nothing was sent"),
            bits => say!("  rate        {} at most, lately", bit_rate(bits as f64)),
        }
    }
    Ok(ExitCode::SUCCESS)
}
