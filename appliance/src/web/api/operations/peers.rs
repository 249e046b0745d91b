//! Peers: pairing, addresses, the line, and what they were refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accounts::Role::{Administrator, Operator, Viewer};
use crate::control::reports::{Acknowledged, Invitation, Line, Peer, Refusal};
use crate::control::{AddressChange, Request};
use crate::web::api::table::{Nothing, Operation, Place, Shape};

/// An invitation to be opened.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Invite {
    /// What the other box will be called here.
    name: Option<String>,
}

/// A box that gave out a code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Join {
    /// The code.
    code: String,
    /// `HOST:PORT`.
    address: String,
}

/// What becomes of an address.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// One more, behind the others.
    Add,
    /// One less.
    Remove,
    /// This one first; added where it is not there yet.
    Prefer,
}

/// A change of the addresses of a peer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// What becomes of it.
    change: What,
    /// `HOST:PORT`.
    address: String,
}

fn addresses(place: &Place, Change { change, address }: Change) -> Request {
    let change = match change {
        What::Add => AddressChange::Add(address),
        What::Remove => AddressChange::Remove(address),
        What::Prefer => AddressChange::Prefer(address),
    };
    Request::PeerAddresses { peer: place.text("peer"), change: Some(change) }
}

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Vec<Peer>, _>(
            "listPeers",
            Method::GET,
            "/peers",
            Viewer,
            "All peers: how they are reached, and how far they are behind.",
            |_, Nothing {}| Request::PeerList,
        )
        .list(&["name"]),
        Operation::new::<Join, Peer, _>(
            "joinPeer",
            Method::POST,
            "/peers",
            Administrator,
            "Pairs with a box that gave out a code.",
            |_, Join { code, address }| Request::PeerJoin { code, address },
        )
        .creates(),
        Operation::new::<Invite, Invitation, _>(
            "invitePeer",
            Method::POST,
            "/invitations",
            Administrator,
            "Opens an invitation for another box.",
            |_, Invite { name }| Request::PeerInvite { name },
        )
        .creates(),
        Operation::new::<Nothing, Vec<Peer>, _>(
            "getPeer",
            Method::GET,
            "/peers/{peer}",
            Viewer,
            "A peer.",
            |_, Nothing {}| Request::PeerList,
        )
        .shown(Shape::One("name", "peer")),
        Operation::new::<Nothing, Acknowledged, _>(
            "removePeer",
            Method::DELETE,
            "/peers/{peer}",
            Administrator,
            "Forgets a peer.",
            |place, Nothing {}| Request::PeerRemove { name: place.text("peer") },
        ),
        Operation::new::<Change, Peer, _>(
            "changePeerAddresses",
            Method::PATCH,
            "/peers/{peer}/addresses",
            Administrator,
            "Changes where a peer is dialled.",
            addresses,
        ),
        Operation::new::<Nothing, Line, _>(
            "probePeer",
            Method::POST,
            "/peers/{peer}/probe",
            Operator,
            "Measures the line to a peer with little traffic.",
            |place, Nothing {}| Request::Probe { peer: place.text("peer") },
        ),
        Operation::new::<Nothing, Vec<Refusal>, _>(
            "listRefusals",
            Method::GET,
            "/refusals",
            Viewer,
            "What peers were refused, those that are no peers any more included.",
            |_, Nothing {}| Request::PeerRefusals,
        )
        .list(&["peer", "first", "why"]),
    ]
}
