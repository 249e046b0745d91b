//! Frames in and out of QUIC streams: one small task a stream, bounded queues between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::{Connection, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{Notify, mpsc, watch};

use crate::sync::Failure;
use crate::wire::{Channel, Frame, FrameDecoder, PREFACE_BYTES, Preface, RawFrame};

/// How much is taken from a stream at once.
const READ_BYTES: usize = 256 << 10;
/// A stream that was given up, as its peer sees it.
const ABANDONED: VarInt = VarInt::from_u32(1);

/// What came out of a stream.
#[derive(Debug)]
pub(super) enum Heard {
    /// A frame.
    Frame(Channel, RawFrame),
    /// Bytes of a frame that is not whole yet.
    Part,
    /// The stream carries nothing that can be understood any more.
    Broken(Failure),
}

/// Reads the preface of a stream that a peer opened. None where it is none, or the stream ends before.
pub(super) async fn read_preface(stream: &mut RecvStream) -> Option<Preface> {
    let mut bytes = [0; PREFACE_BYTES];
    stream.read_exact(&mut bytes).await.ok()?;
    Preface::decode(&bytes).ok()
}

/// Reads frames behind the preface until the stream ends. A control stream that ends breaks the session, unless that is
/// over; a data stream may end where a frame does.
pub(super) async fn read_frames(mut stream: RecvStream, channel: Channel, heard: mpsc::Sender<Heard>) {
    let mut decoder = FrameDecoder::new(channel);
    let broken = loop {
        let chunk = match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) if channel == Channel::Data && decoder.at_boundary() => return,
            Ok(None) | Err(_) => break Failure::Lost,
        };
        let mut input = &chunk.bytes[..];
        let mut whole = false;
        let failure = loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => {
                    whole = true;
                    if heard.send(Heard::Frame(channel, frame)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(Failure::Wire(error)),
            }
        };
        if let Some(failure) = failure {
            break failure;
        }
        // Only told where nobody is busy with what was heard before.
        if !whole {
            let _ = heard.try_send(Heard::Part);
        }
    };
    // Nobody listens any more once the session is over.
    let _ = heard.send(Heard::Broken(broken)).await;
}

/// Where frames go.
#[derive(Debug)]
pub(super) enum Way {
    /// A stream that is open, its preface written.
    Open(SendStream),
    /// A one-way stream that is opened for its first frame, and never without one: who finds out that nothing changed pays for
    /// no stream of data.
    Later(Connection, Preface),
}

/// Opens a one-way stream.
async fn open(connection: &Connection, preface: Preface) -> Result<SendStream, WriteError> {
    let mut stream = connection.open_uni().await?;
    stream.write_all(&preface.encode()).await?;
    Ok(stream)
}

/// The sending end of a stream: a queue and the task that empties it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Frame>,
    queued_bytes: Arc<AtomicUsize>,
}

/// What all writers of a session share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// Woken whenever a queue has room again.
    pub room: Arc<Notify>,
    /// Turns true when what is still queued shall not be sent.
    pub abandon: watch::Receiver<bool>,
    /// Where a broken stream is told.
    pub heard: mpsc::Sender<Heard>,
}

impl Writer {
    /// A queue of `capacity` frames for a stream, and the future that empties it into the stream. The future ends when
    /// the writer is dropped and everything is written and acknowledged, or abandoned.
    pub(super) fn new(way: Way, capacity: usize, shared: Shared) -> (Writer, impl Future<Output = ()>) {
        let (queue, frames) = mpsc::channel(capacity);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer { queue, queued_bytes: queued_bytes.clone() };
        (writer, write_frames(way, frames, queued_bytes, shared))
    }

    /// May a frame be queued?
    pub(super) fn has_room(&self) -> bool {
        self.queue.capacity() > 0 && !self.queue.is_closed()
    }

    /// Has the task that empties the queue ended?
    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Bytes that wait.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Queues a frame. Without room it is dropped, so ask [`Writer::has_room`] before; a closed queue means that the
    /// stream broke, which the session is told by another way.
    pub(super) fn push(&self, frame: Frame) {
        self.queued_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        let pushed = self.queue.try_send(frame);
        debug_assert!(!matches!(pushed, Err(mpsc::error::TrySendError::Full(_))), "asked for room before");
    }
}

async fn write_frames(way: Way, mut frames: mpsc::Receiver<Frame>, queued_bytes: Arc<AtomicUsize>, mut shared: Shared) {
    let mut abandon = shared.abandon.clone();
    let (mut stream, later) = match way {
        Way::Open(stream) => (Some(stream), None),
        Way::Later(connection, preface) => (None, Some((connection, preface))),
    };
    let write_all = async {
        while let Some(frame) = frames.recv().await {
            let len = frame.len();
            let mut parts = [frame.head, frame.body];
            let stream = match (&mut stream, &later) {
                (Some(stream), _) => stream,
                (none, Some((connection, preface))) => none.insert(open(connection, *preface).await?),
                (None, None) => return Ok(()),
            };
            stream.write_all_chunks(&mut parts).await?;
            queued_bytes.fetch_sub(len, Ordering::Relaxed);
            shared.room.notify_one();
        }
        Ok::<(), WriteError>(())
    };
    let written = tokio::select! {
        written = write_all => Some(written),
        _ = abandon.wait_for(|abandoned| *abandoned) => None,
    };
    let Some(mut stream) = stream else {
        if let Some(Err(_)) = written {
            let _ = shared.heard.send(Heard::Broken(Failure::Lost)).await;
        }
        return;
    };
    match written {
        Some(Ok(())) if stream.finish().is_ok() => {
            tokio::select! {
                _ = stream.stopped() => {}
                _ = shared.abandon.wait_for(|abandoned| *abandoned) => {
                    let _ = stream.reset(ABANDONED);
                }
            }
        }
        None => {
            let _ = stream.reset(ABANDONED);
        }
        // The peer wants no more, and says why on the control stream: that must not be overtaken.
        Some(Err(WriteError::Stopped(_))) => {}
        Some(_) => {
            let _ = shared.heard.send(Heard::Broken(Failure::Lost)).await;
        }
    }
}
