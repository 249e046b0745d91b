//! The side of a probe that is asked.

use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream};

use super::super::Inner;
use super::super::peers::Peer;
use super::{CALM, ROW_PAYLOAD, Side, TAKES_MAX, TRAIN_PAYLOAD, Unmeasured, cap, header_bytes};
use crate::probe::{ROW_INTERVAL_MAX, ROW_INTERVAL_MIN, ROW_PACKETS_MAX, Row, TRAIN_BYTES_MAX, TRAIN_PACKETS_MAX};
use crate::wire::ProbeMessage;

/// Answers one probe, behind the preface of its stream.
pub(in crate::link) async fn answer(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: Connection,
    (mut send, recv): (SendStream, RecvStream),
    session: u64,
) {
    let wait =
        inner.probes.rest(peer.id).map(|rest| u16::try_from(rest.as_millis().div_ceil(1000)).unwrap_or(u16::MAX));
    let running = if wait.is_none() { inner.probes.begin(peer.id, false, session) } else { None };
    let Some(running) = running else {
        let wait = ProbeMessage::Wait(wait.unwrap_or(CALM.as_secs() as u16));
        // Who is gone need not know.
        let _ = send.write_all(&wait.encode()).await;
        return;
    };
    let in_use = peer.begin_use(&connection);
    let _ = send.set_priority(2);
    let header_bytes = header_bytes(inner, &connection);
    let side = Side { connection, ear: running.ear.clone(), session, by_asker: false, header_bytes, send, recv };
    let answering = tokio::time::timeout(TAKES_MAX, serve(side, ProbeMessage::Ready(cap(inner, peer))));
    tokio::select! {
        outcome = answering => {
            tracing::debug!(peer = %peer.name(), ?outcome, "a probe has ended");
            if let Ok(Err(Unmeasured::Nonsense)) = outcome {
                inner.refused(peer, "it probed the line: it said what is no message there, or asked for more than a probe may".to_owned()).await;
            }
        }
        () = inner.closing.cancelled() => {}
    }
    drop(in_use);
}

/// Does as the asker says, within bounds, until it ends the stream.
async fn serve(mut side: Side, ready: ProbeMessage) -> Result<(), Unmeasured> {
    side.say(ready).await?;
    let wire = side.wire_bytes(TRAIN_PAYLOAD);
    // Of payload: what lies around it may be counted otherwise over there.
    let mut left_bytes = TRAIN_BYTES_MAX;
    let mut rowed = false;
    loop {
        match side.hear().await? {
            ProbeMessage::Sent { train, packets } if packets <= TRAIN_PACKETS_MAX && train > 0 => {
                side.ear.wait(train, packets, side.grace()).await;
                let seen = side.ear.train(train, packets, wire);
                side.say(ProbeMessage::Heard { train, seen }).await?;
            }
            ProbeMessage::Send { train, size, packets } => {
                let bytes = u64::from(packets) * TRAIN_PAYLOAD as u64;
                if usize::from(size) != TRAIN_PAYLOAD || packets > TRAIN_PACKETS_MAX || bytes > left_bytes {
                    return Err(Unmeasured::Nonsense);
                }
                left_bytes -= bytes;
                side.train(train, packets).await?;
            }
            ProbeMessage::Row { size, packets, interval } => {
                let calm = (ROW_INTERVAL_MIN..=ROW_INTERVAL_MAX).contains(&interval);
                if rowed || usize::from(size) != ROW_PAYLOAD || packets > ROW_PACKETS_MAX || !calm {
                    return Err(Unmeasured::Nonsense);
                }
                rowed = true;
                side.row(Row { packets, interval }).await?;
                // The asker's end of its row has come meanwhile, or comes now.
                if side.hear().await? != (ProbeMessage::Sent { train: 0, packets }) {
                    return Err(Unmeasured::Nonsense);
                }
                side.ear.wait(0, packets, side.grace()).await;
                side.say(ProbeMessage::Sent { train: 0, packets }).await?;
                let (lost, _) = side.ear.row(packets);
                side.say(ProbeMessage::Lost(lost)).await?;
            }
            _ => return Err(Unmeasured::Nonsense),
        }
    }
}
