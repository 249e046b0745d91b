//! The worker's end of the door: each request to the box is a pair of sockets of its own, one of which goes through the door.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::control::door::Call;
use crate::control::{Failed, Message};

/// Requests to the box at once; others wait.
const CALLS_MAX: usize = 32;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(20);
/// How long the box may take. What takes longer goes on in the box; only nobody waits for it on a page.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer, in bytes: snapshots by the ten thousand fit.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// The way to the box.
pub(super) struct Door {
    /// It is no stream, but keeps messages apart; only its readiness is asked for by this type.
    socket: UnixStream,
    turns: Semaphore,
}

impl Door {
    /// Through the socket that the box gave.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Door> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Door { socket: UnixStream::from_std(socket)?, turns: Semaphore::new(CALLS_MAX) })
    }

    /// Asks the box, and waits for what it says in the end.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failed> {
        let busy = || Failed::of("busy", "the box has much to do: try again in a moment");
        let turn = timeout(TURN, self.turns.acquire()).await.map_err(|_| busy())?;
        let _turn = turn.map_err(|_| busy())?;
        let value = timeout(ANSWER, self.talk(call)).await.map_err(|_| {
            let sentence = "the box takes longer than a page waits; what was begun goes on: look again later";
            Failed::of("slow", sentence)
        })?;
        let lost = |error: io::Error| Failed::environment(format!("the box did not answer: {error}"));
        match value.map_err(lost)? {
            Message::Done(value) => serde_json::from_value(value)
                .map_err(|error| Failed::environment(format!("the box answered something else: {error}"))),
            Message::Failed(failed) => Err(failed),
            Message::Progress(_) => Err(Failed::environment("the box did not say how it ended")),
        }
    }

    async fn talk(&self, call: &Call) -> io::Result<Message> {
        // The box's end blocks: only ours is tokio's.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.pass(&theirs).await?;
        drop(theirs);
        let mut ours = UnixStream::from_std(ours)?;
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        ours.write_all(&line).await?;
        let mut answers = BufReader::new(ours.take(ANSWER_BYTES_MAX));
        loop {
            let mut line = Vec::new();
            answers.read_until(b'\n', &mut line).await?;
            if !line.ends_with(b"\n") {
                return Err(io::Error::other(match answers.get_ref().limit() {
                    0 => "what it has to say is too long for a page: the command line shows it",
                    _ => "it went away meanwhile",
                }));
            }
            match serde_json::from_slice(&line)? {
                Message::Progress(_) => {}
                end => return Ok(end),
            }
        }
    }

    /// Hands one end of a pair to the box, with one byte, for a message without any is none.
    async fn pass(&self, theirs: &impl AsFd) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let ends = [theirs.as_fd()];
            if !ancillary.push(SendAncillaryMessage::ScmRights(&ends)) {
                return Err(io::Error::other("no room for a descriptor"));
            }
            Ok(sendmsg(&self.socket, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::NOSIGNAL)?)
        };
        self.socket.async_io(Interest::WRITABLE, send).await.map(drop)
    }

    /// Returns once the box has ended.
    pub(super) async fn ended(&self) {
        let look = || {
            let mut message = [0; 64];
            Ok(recv(&self.socket, &mut message[..], RecvFlags::DONTWAIT)?.0)
        };
        // The box says nothing after its first message; whatever comes is passed over.
        while self.socket.async_io(Interest::READABLE, look).await.is_ok_and(|length| length > 0) {}
    }
}
