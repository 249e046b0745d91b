//! The control socket: a thread a connection, a request a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Failed, Message, Request, SocketPath, api};
use crate::node::Node;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 64 << 10;
/// Requests at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control socket that is being served.
pub struct ControlServer {
    socket: SocketPath,
    /// The same socket as the acceptor's.
    listener: UnixListener,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
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
        let acceptor =
            std::thread::Builder::new().name("control".into()).spawn(move || accept(&accepting, &node, &flag))?;
        Ok(ControlServer { socket, listener, stopping, acceptor })
    }

    /// Takes no more requests. Those under way are left to end.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor, also where somebody took the socket's file away so that nobody can connect to it.
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            tracing::error!(%error, "the control socket could not be closed");
        }
        if self.acceptor.join().is_err() {
            tracing::error!("the control thread had panicked");
        }
        if let Err(error) = std::fs::remove_file(self.socket.path()) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

/// A connection that counts until this is dropped, however its thread ends.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept(listener: &UnixListener, node: &Arc<Node>, stopping: &AtomicBool) {
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
        if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (node, counted) = (node.clone(), Counted(open.clone()));
        let spawned = std::thread::Builder::new().name("request".into()).spawn(move || {
            let _counted = counted;
            if let Err(error) = serve(&stream, &node) {
                tracing::debug!(%error, "a control client left");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a control request");
        }
    }
}

fn serve(stream: &UnixStream, node: &Arc<Node>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
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
        Ok(Request::Stop) => {
            node.say_farewell(stream.try_clone()?);
            api::handle(node, Request::Stop, &gone, &mut tell)
        }
        Ok(request) => api::handle(node, request, &gone, &mut tell),
        Err(error) => Err(Failed::refused(format!("this is no request: {error}"))),
    };
    send(stream, &outcome.map_or_else(Message::Failed, Message::Done))
}

fn send(mut stream: &UnixStream, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}
