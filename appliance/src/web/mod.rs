//! The page worker: the process that speaks TLS and HTTP with whoever finds the box, and holds no keys to it.
//!
//! `narrowboat serve` starts it with three things: a socket that listens, a certificate with its key, and one end of a socket pair, the *door*
//! (`docs/decisions/0038-the-page-is-a-process-of-its-own.md`). It gives everything else away ([`confine`]) before it reads a byte from
//! anybody. What a page shows it asks for through the door, each time with what the browser showed to prove who it is; the
//! box decides. So there is nothing here to steal but what passes by.
//!
//! - It never keeps a password, a code or a session beyond the request that brought it, and logs none of them, nor what stands behind a `?`.
//! - It is one thread: a page is rendered in less time than a thread takes to wake.
//! - Whatever a stranger holds is bounded: connections, and those of one address; bytes and time of a request; requests to the box.
//! - Every page works without scripts; `page.js` only saves reloading, typing and selecting.

mod api;
pub(crate) mod assessment;
mod assets;
mod chart;
mod confine;
mod cookies;
mod door;
mod download;
mod form;
mod guard;
mod headers;
mod live;
mod pages;
mod server;
mod show;
pub mod start;
mod tls;
mod visitor;
mod week;

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::net::{SocketType, sockopt::socket_type};
use tracing_subscriber::EnvFilter;

pub(crate) use pages::protection::{Mark, problems};
pub(crate) use show::sentence;

/// Serves the page until the box ends. What it needs comes as descriptors: see [`inherited`].
pub fn run() -> ExitCode {
    let filter = EnvFilter::try_from_env("NARROWBOAT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logging = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).try_init();
    match logging.map_err(io::Error::other).and_then(|()| work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("narrowboat page-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> io::Result<()> {
    let (door, listener) = inherited()?;
    let start = start::receive(door.as_fd())?;
    // The last look at a file: the clock on the wall of this place.
    show::know_zone();
    let tls = tls::Tls::new(&start.shown)?;
    confine::confine(&start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(server::serve(listener, door, tls, start.name))
}

/// The door and the listener, as the box gave them: as standard input and output, where nothing is ever printed to.
fn inherited() -> io::Result<(OwnedFd, TcpListener)> {
    let is = |socket: &OwnedFd, kind| socket_type(socket).is_ok_and(|found| found == kind);
    let (door, listener) = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    if !is(&door, SocketType::SEQPACKET) || !is(&listener, SocketType::STREAM) {
        return Err(io::Error::other("this command is for `narrowboat serve`, which starts it with sockets"));
    }
    Ok((door, TcpListener::from(listener)))
}
