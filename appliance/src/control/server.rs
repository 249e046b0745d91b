//! The control socket: a thread a connection, a request a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::audited::{Told, audited};
use super::{Failed, Message, Request, SocketPath, api, is_trusted, second_socket};
use crate::accounts::only_looks;
use crate::node::Node;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Requests at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take none of what it is told. One that was suspended for so long is gone: what it waited for is
/// broken off.
const UNHEARD: Duration = Duration::from_secs(60);
/// How long the acceptor may be kept by a client that is refused. What it is told fits into any socket's buffer.
const REFUSAL: Duration = Duration::from_millis(100);

/// A control socket that is being served.
pub struct ControlServer {
    socket: SocketPath,
    /// The same socket as the acceptor's.
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
    second: Option<Second>,
}

/// The same by another name, for when the disk does not answer.
struct Second {
    listener: UnixListener,
    acceptor: JoinHandle<()>,
}

impl Second {
    /// Somebody else may have taken the name. The box is none the worse for it as long as its disk answers.
    fn start(node: &Arc<Node>, data: &Path, stopping: &Arc<AtomicBool>) -> io::Result<Second> {
        let listener = UnixListener::bind_addr(&second_socket(data)?)?;
        let (accepting, node, stopping) = (listener.try_clone()?, node.clone(), stopping.clone());
        let body = move || accept(&accepting, &node, &stopping, Name::Second);
        let acceptor = std::thread::Builder::new().name("control-2".into()).spawn(body)?;
        Ok(Second { listener, acceptor })
    }
}

impl ControlServer {
    /// Serves requests in the data folder `data`, for its owner alone. A socket that an earlier run left is replaced: the
    /// data folder's lock has shown that no other box runs there.
    pub fn start(node: Arc<Node>, data: &Path) -> io::Result<ControlServer> {
        let socket = SocketPath::of(data)?;
        let path = socket.path();
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (flag, accepting) = (stopping.clone(), listener.try_clone()?);
        let second = Second::start(&node, data, &stopping)
            .inspect_err(|error| tracing::warn!(%error, "the control socket has no second name: it can't be reached while the disk fails"));
        let body = move || accept(&accepting, &node, &flag, Name::InFolder);
        let acceptor = std::thread::Builder::new().name("control".into()).spawn(body)?;
        Ok(ControlServer { socket, listener, stopping, acceptor, second: second.ok() })
    }

    /// Takes no more requests. Those under way are left to end.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        end(&self.listener, self.acceptor);
        if let Some(second) = self.second {
            end(&second.listener, second.acceptor);
        }
        if let Err(error) = std::fs::remove_file(self.socket.path()) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

/// Wakes an acceptor, also where somebody took the socket's file away so that nobody can connect to it, and waits for its end.
fn end(listener: &UnixListener, acceptor: JoinHandle<()>) {
    if let Err(error) = rustix::net::shutdown(listener, rustix::net::Shutdown::Both) {
        tracing::error!(%error, "the control socket could not be closed");
    }
    if acceptor.join().is_err() {
        tracing::error!("the control thread had panicked");
    }
}

/// A connection that counts until this is dropped, however its thread ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// By which of its names the control socket was found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Who may connect is what the file's mode says.
    InFolder,
    /// Whoever shares the network of the box may connect: a container with root in it that sees none of its files, too. So it is for
    /// what a person needs while the disk fails, and nothing else.
    Second,
}

impl Name {
    fn admits(self, stream: &UnixStream) -> bool {
        self == Name::InFolder || is_trusted(stream)
    }

    fn takes(self, request: &Request) -> bool {
        self == Name::InFolder || matches!(request, Request::Status | Request::Stop)
    }
}

fn accept(listener: &UnixListener, node: &Arc<Node>, stopping: &AtomicBool, name: Name) {
    let open = Arc::new(AtomicUsize::new(0));
    for connection in listener.incoming() {
        if stopping.load(Ordering::Acquire) {
            return;
        }
        let stream = match connection {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket could not accept");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !name.admits(&stream) {
            continue;
        }
        let before = open.fetch_add(1, Ordering::AcqRel);
        let (node, counted) = (node.clone(), Counted(open.clone()));
        if before >= CONNECTIONS_MAX {
            if let Err(error) = refuse(&stream) {
                tracing::debug!(%error, "a control client left before it was refused");
            }
            continue;
        }
        let spawned = std::thread::Builder::new().name("request".into()).spawn(move || {
            let _counted = counted;
            if let Err(error) = serve(&stream, &node, name) {
                tracing::debug!(%error, "a control client left");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a control request");
        }
    }
}

fn refuse(stream: &UnixStream) -> io::Result<()> {
    limit(stream, REFUSAL, REFUSAL)?;
    let sentence = format!("the box answers {CONNECTIONS_MAX} requests already, which is all at once: try again later");
    send(stream, &Message::Failed(Failed::environment(sentence)))
}

/// Bounds how long a client may keep a thread: by saying nothing, by taking nothing.
fn limit(stream: &UnixStream, says: Duration, takes: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(says))?;
    stream.set_write_timeout(Some(takes))
}

fn serve(stream: &UnixStream, node: &Arc<Node>, name: Name) -> io::Result<()> {
    limit(stream, PATIENCE, UNHEARD)?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let gone = AtomicBool::new(false);
    let mut tell = |progress| {
        if send(stream, &Message::Progress(progress)).is_err() {
            gone.store(true, Ordering::Relaxed);
        }
    };
    let _tasks = node.enter();
    let outcome = match serde_json::from_str::<Request>(&line) {
        Ok(request) if !name.takes(&request) => Err(Failed::environment(
            "the disk with the control socket does not answer: until it does, the box tells its status and can be stopped",
        )),
        Ok(Request::Stop) => {
            node.say_farewell(stream.try_clone()?);
            let stop = |tell: &mut dyn FnMut(_)| api::handle(node, Request::Stop, &gone, tell);
            match name {
                Name::InFolder => audited(node, &Told::of_console(&Request::Stop), || stop(&mut tell)),
                // The disk of the log does not answer.
                Name::Second => stop(&mut tell),
            }
        }
        Ok(Request::QuarantineEmpty { dry_run: false, .. }) if !is_root(stream) => Err(Failed::refused(
            "only root can give up what was deleted before its time: it can't be had back by anybody then",
        )),
        Ok(request) if only_looks(&request) => api::handle(node, request, &gone, &mut tell),
        Ok(request) => {
            let told = Told::of_console(&request);
            audited(node, &told, || api::handle(node, request, &gone, &mut tell))
        }
        Err(error) => Err(Failed::refused(format!("this is no request: {error}"))),
    };
    send(stream, &outcome.map_or_else(Message::Failed, Message::Done))
}

/// True where the kernel says that root is at the other end. The data folder's owner may be somebody else.
fn is_root(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root())
}

fn send(mut stream: &UnixStream, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let moment = Duration::from_millis(50);
        limit(&ours, moment, moment).expect("a socket takes limits");
        let answer = Message::Done(serde_json::Value::String("x".repeat(64 << 20)));
        let error = send(&ours, &answer).expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
    }

    #[test]
    fn the_name_outside_the_folder_takes_what_a_dead_disk_leaves_possible() {
        let create = Request::ShareCreate { name: "bureau".into(), dedup: "inline".into() };
        for (request, second) in [(Request::Status, true), (Request::Stop, true), (create, false)] {
            assert!(Name::InFolder.takes(&request));
            assert_eq!(Name::Second.takes(&request), second, "{request:?}");
        }
    }
}
