//! Text requests: which targets there are, and where (RFC 7143 sections 11.10 and appendix C).
//!
//! A list that is longer than the initiator takes at once goes in pieces, each asked for with the tag of the one before.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;

use super::Output;
use super::full::Full;
use crate::ingest::iscsi::login::Context;
use crate::ingest::iscsi::target::{PORTAL_GROUP, Target};
use crate::ingest::iscsi::text::{Collector, Writer};
use crate::ingest::iscsi::wire::{Bhs, NO_TAG, Pdu, RejectReason, opcode};

/// Text requests that are under way.
#[derive(Default)]
pub(super) struct Texts {
    asked: Collector,
    /// The rest of an answer, by the tag under which it is to be asked for.
    rest: Option<(u32, Bytes)>,
}

impl Full {
    /// Takes a text request.
    pub(super) fn text_request(&mut self, context: &Context, pdu: &Pdu, out: &mut Output) {
        let (more, transfer_tag) = (pdu.bhs.0[1] & 0x40 != 0, pdu.bhs.word(20));
        if transfer_tag != NO_TAG && self.text.rest.as_ref().is_some_and(|(tag, _)| *tag == transfer_tag) {
            let rest = self.text.rest.take().map(|(_, rest)| rest).unwrap_or_default();
            self.text_response(pdu, rest, out);
            return;
        }
        if self.text.asked.push(&pdu.data).is_err() {
            self.text.asked = Collector::default();
            self.reject(RejectReason::NegotiationReset, &pdu.bhs, out);
            return;
        }
        if more {
            let tag = self.transfer_tag();
            let bhs = text_header(pdu, 0).with_word(20, tag);
            self.send(bhs, Vec::new(), true, out);
            return;
        }
        let Ok(pairs) = self.text.asked.finish() else {
            self.reject(RejectReason::ProtocolError, &pdu.bhs, out);
            return;
        };
        let mut answer = Writer::default();
        for (key, value) in pairs {
            match key.as_str() {
                "SendTargets" => self.send_targets(context, &value, &mut answer),
                // What an initiator takes may be changed at any time; the rest only at login.
                "MaxRecvDataSegmentLength" => drop(self.params.negotiate(&key, &value, false)),
                _ => answer.pair(&key, "NotUnderstood"),
            }
        }
        self.text_response(pdu, answer.finish().into(), out);
    }

    /// Lists targets: all that the initiator's network may see, or one, or in a session the session's own.
    fn send_targets(&self, context: &Context, wanted: &str, answer: &mut Writer) {
        let targets = match (&self.normal, wanted) {
            (None, "All") => context.targets.list(),
            (None, "") => Vec::new(),
            (None, name) => context.targets.by_name(name).into_iter().collect(),
            (Some(normal), "" | "All") => vec![normal.target.clone()],
            (Some(normal), name) => Some(normal.target.clone()).filter(|own| own.name == name).into_iter().collect(),
        };
        let here = |target: &Target| {
            let networks = &target.access.networks;
            networks.is_empty() || networks.iter().any(|network| network.contains(context.peer.ip()))
        };
        for target in targets.iter().filter(|target| here(target)) {
            answer.pair("TargetName", &target.name);
            for portal in portals(context) {
                answer.pair("TargetAddress", format_args!("{portal},{PORTAL_GROUP}"));
            }
        }
    }

    fn text_response(&mut self, pdu: &Pdu, mut text: Bytes, out: &mut Output) {
        let now = text.split_to(text.len().min(self.params.send_bytes as usize));
        let (flags, tag) = if text.is_empty() {
            (0x80, NO_TAG)
        } else {
            let tag = self.transfer_tag();
            self.text.rest = Some((tag, text));
            (0x40, tag)
        };
        let data = if now.is_empty() { Vec::new() } else { vec![now] };
        self.send(text_header(pdu, flags).with_word(20, tag), data, true, out);
    }
}

/// Where the initiator reaches the targets: the address that it came to first. Those of the box's own loopback interface
/// are of use only to those who came that way.
fn portals(context: &Context) -> BTreeSet<SocketAddr> {
    let local = SocketAddr::new(context.local.ip().to_canonical(), context.local.port());
    let named = |portal: SocketAddr| match portal.ip() {
        any if any.is_unspecified() => SocketAddr::new(local.ip(), portal.port()),
        own => SocketAddr::new(own.to_canonical(), portal.port()),
    };
    let others = context.targets.portals().into_iter().map(named);
    others.filter(|portal| local.ip().is_loopback() || !portal.ip().is_loopback()).chain([local]).collect()
}

fn text_header(pdu: &Pdu, flags: u8) -> Bhs {
    Bhs::new(opcode::TEXT_RESPONSE, flags).with_bytes(8, &pdu.bhs.lun()).with_word(16, pdu.bhs.task_tag())
}
