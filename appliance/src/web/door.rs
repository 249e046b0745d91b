//! The worker's end of the door: each request to the box is a pair of sockets of its own, one of which goes through the door.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest, Take};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::start::START_BYTES_MAX;
use crate::control::door::{Call, Download};
use crate::control::{Failed, Message};

/// Requests to the box at once; others wait.
const CALLS_MAX: usize = 32;
/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(20);
/// How long the box may take. What takes longer goes on in the box; only nobody waits for it on a page.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest answer, in bytes: snapshots by the ten thousand fit.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Downloads at once, beside the requests. The box takes as many calls as both together, and more.
const DOWNLOADS_MAX: usize = 4;

/// What the box answers.
pub(super) type Answer = BufReader<Take<UnixStream>>;

/// The way to the box.
pub(super) struct Door {
    /// It is no stream, but keeps messages apart; only its readiness is asked for by this type.
    socket: UnixStream,
    turns: Semaphore,
    downloads: Arc<Semaphore>,
}

impl Door {
    /// Through the socket that the box gave.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Door> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let (turns, downloads) = (Semaphore::new(CALLS_MAX), Arc::new(Semaphore::new(DOWNLOADS_MAX)));
        Ok(Door { socket: UnixStream::from_std(socket)?, turns, downloads })
    }

    /// Asks the box, and waits for what it says in the end.
    pub(super) async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failed> {
        let busy = || Failed::of("busy", "the box has much to do: try again in a moment");
        let turn = timeout(TURN, self.turns.acquire()).await.map_err(|_| busy())?;
        let _turn = turn.map_err(|_| busy())?;
        let end = timeout(ANSWER, self.talk(call)).await.map_err(|_| slow())?;
        report(end.map_err(lost)?)
    }

    async fn talk(&self, call: &Call) -> io::Result<Message> {
        end_of(&mut self.begin(call).await?).await
    }

    /// Has the box begin a download, if it is not one too many; what follows are its frames. They come beside the requests: nobody waits for a page because somebody
    /// takes home a disk.
    pub(super) async fn download(&self, call: &Call) -> Result<(Download, Answer, OwnedSemaphorePermit), Failed> {
        let place = self.downloads.clone().try_acquire_owned().map_err(|_| {
            let sentence = format!("{DOWNLOADS_MAX} downloads are under way, which is all at once: wait until one of them is done, and try again");
            Failed::of("busy", sentence)
        })?;
        let begun = async {
            let mut answer = self.begin(call).await?;
            let head = end_of(&mut answer).await?;
            answer.get_mut().set_limit(u64::MAX);
            Ok((head, answer))
        };
        let (head, answer) = timeout(ANSWER, begun).await.map_err(|_| slow())?.map_err(lost)?;
        Ok((report(head)?, answer, place))
    }

    /// Asks the box; what it answers is still to be read.
    async fn begin(&self, call: &Call) -> io::Result<Answer> {
        // The box's end blocks: only ours is tokio's.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.pass(&theirs).await?;
        drop(theirs);
        let mut ours = UnixStream::from_std(ours)?;
        let mut line = serde_json::to_vec(call)?;
        line.push(b'\n');
        ours.write_all(&line).await?;
        Ok(BufReader::new(ours.take(ANSWER_BYTES_MAX)))
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

    /// Returns once the box has ended. `told` gets what it says before.
    pub(super) async fn ended(&self, told: impl Fn(&[u8])) {
        let mut message = vec![0; START_BYTES_MAX];
        loop {
            let look = || Ok(recv(&self.socket, message.as_mut_slice(), RecvFlags::DONTWAIT)?.0);
            match self.socket.async_io(Interest::READABLE, look).await {
                Ok(length) if length > 0 => told(&message[..length]),
                _ => return,
            }
        }
    }
}

/// The messages of an answer up to the one that ends it.
async fn end_of(answer: &mut Answer) -> io::Result<Message> {
    loop {
        let mut line = Vec::new();
        answer.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Err(io::Error::other(match answer.get_ref().limit() {
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

fn report<T: DeserializeOwned>(end: Message) -> Result<T, Failed> {
    match end {
        Message::Done(value) => serde_json::from_value(value)
            .map_err(|error| Failed::environment(format!("the box answered something else: {error}"))),
        Message::Failed(failed) => Err(failed),
        Message::Progress(_) => Err(Failed::environment("the box did not say how it ended")),
    }
}

fn slow() -> Failed {
    Failed::of("slow", "the box takes longer than a page waits; what was begun goes on: look again later")
}

fn lost(error: io::Error) -> Failed {
    Failed::environment(format!("the box did not answer: {error}"))
}
