//! The box's side of its page: the process that serves it is started here, and started again where it ends.

mod certificate;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};

use crate::config::Config;
use crate::control::doorkeeper;
use crate::node::Node;
use crate::web::start::{START_BYTES_MAX, Start};
use certificate::Certificate;

/// Whom the worker becomes where the box is root: nobody.
const NOBODY: u32 = 65534;
/// How long is waited before a worker that ended is started again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// A worker that lasted for so long has not failed at its start.
const LASTED: Duration = Duration::from_secs(60);
/// How long a worker has to end when the box does.
const FAREWELL: Duration = Duration::from_secs(3);

/// A page that is, or will be, served.
pub struct Page {
    address: SocketAddr,
    listener: TcpListener,
    certificate: Certificate,
    worker: Mutex<Worker>,
}

/// The worker of now.
#[derive(Default)]
struct Worker {
    stopping: bool,
    /// Our end of its door.
    door: Option<Arc<OwnedFd>>,
    /// How often one has ended that should not have.
    ended: u64,
}

impl Page {
    /// Opens the page's port; nothing where it is off, or where nobody asked for it and the port of old is taken.
    pub fn open(data: &Path, config: &Config, name: &str) -> io::Result<Option<Page>> {
        let Some(address) = config.page.address() else { return Ok(None) };
        let listener = match TcpListener::bind(address) {
            Err(error) if config.page.listen.is_none() => {
                tracing::warn!(%address, %error, "there is no page; `[page] listen` in the config gives it another port");
                return Ok(None);
            }
            listener => listener?,
        };
        let certificate = match (&config.page.certificate_file, &config.page.key_file) {
            (Some(certificate), Some(key)) => Certificate::read(certificate, key)?,
            _ => Certificate::own(data, name)?,
        };
        Ok(Some(Page { address: listener.local_addr()?, listener, certificate, worker: Mutex::default() }))
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        self.certificate.fingerprint()
    }

    /// Has a worker serve it until [`Page::stop`].
    pub(crate) fn serve(&self, node: &Arc<Node>) {
        let mut pause = PAUSES[0];
        while !self.lock().stopping {
            let begun = Instant::now();
            match self.begin(node) {
                Ok((mut child, door)) => {
                    doorkeeper::keep(node, &door);
                    self.end(&mut child);
                }
                Err(error) => tracing::error!(%error, "the page worker could not be started"),
            }
            if self.lock().stopping {
                return;
            }
            pause = if begun.elapsed() > LASTED { PAUSES[0] } else { (pause * 2).min(PAUSES[1]) };
            std::thread::park_timeout(pause);
        }
    }

    /// Ends the worker, and lets nobody start another one.
    pub(crate) fn stop(&self) {
        let mut worker = self.lock();
        worker.stopping = true;
        if let Some(door) = worker.door.take()
            && let Err(error) = shutdown(&*door, Shutdown::Both)
        {
            tracing::warn!(%error, "the door of the page worker could not be closed");
        }
    }

    fn begin(&self, node: &Arc<Node>) -> io::Result<(Child, Arc<OwnedFd>)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let is_root = rustix::process::geteuid().is_root();
        let start = serde_json::to_vec(&Start {
            name: node.name.clone(),
            certificate_pem: self.certificate.certificate_pem.clone(),
            key_pem: self.certificate.key_pem.clone(),
            user: is_root.then_some(NOBODY),
            group: is_root.then_some(NOBODY),
        })?;
        if start.len() > START_BYTES_MAX {
            return Err(io::Error::other("the certificate of the page is too long"));
        }
        let mut worker = self.lock();
        if worker.stopping {
            return Err(io::Error::other("the box is stopping"));
        }
        // Also where the program was exchanged since: the worker is of the same version as the box.
        let mut command = Command::new("/proc/self/exe");
        command.arg("page-worker").env_clear().env("NARROWBOAT_LOG", &node.config.log.level);
        if let Some(zone) = node.config.time_zone.clone().or_else(|| std::env::var("TZ").ok()) {
            command.env("TZ", zone);
        }
        command.stdin(theirs).stdout(OwnedFd::from(self.listener.try_clone()?)).stderr(Stdio::inherit());
        // Before there is a worker: one that was begun and can't be told anything would have to be seen off here.
        send(&ours, &start, SendFlags::NOSIGNAL)?;
        let child = command.spawn()?;
        let ours = Arc::new(ours);
        worker.door = Some(ours.clone());
        Ok((child, ours))
    }

    /// Sees a worker off whose door is closed.
    fn end(&self, child: &mut Child) {
        let deadline = Instant::now() + FAREWELL;
        let status = loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    let _ = child.kill();
                    break child.wait().map(Some);
                }
                status => break status,
            }
        };
        let mut worker = self.lock();
        worker.door = None;
        if !worker.stopping {
            worker.ended += 1;
            tracing::error!(?status, ended = worker.ended, "the page worker has ended; another one is started");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Worker> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
