//! The box's side of its page: the process that serves it is started here, and started again where it ends. Which certificate it shows is decided here, too.

pub mod acme;
mod certificate;
mod x509;

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
use crate::web::start::{START_BYTES_MAX, Shown, Start};
use acme::Acme;
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
    /// The authority that gives it certificates, where there is one.
    acme: Option<Acme>,
    /// What is shown where there is none that counts: the box's own, or the one that somebody gave.
    own: Arc<Certificate>,
    /// Whether somebody gave it.
    given: bool,
    worker: Mutex<Worker>,
}

/// The worker of now.
struct Worker {
    stopping: bool,
    /// What it shows.
    certificate: Arc<Certificate>,
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
        let own = Arc::new(match (&config.page.certificate_file, &config.page.key_file) {
            (Some(certificate), Some(key)) => Certificate::read(certificate, key)?,
            _ => Certificate::own(data, name)?,
        });
        let given = config.page.certificate_file.is_some();
        let acme = config.page.acme.as_ref().map(|acme| Acme::open(data, acme)).transpose()?;
        let certificate = acme.as_ref().and_then(Acme::good).unwrap_or_else(|| own.clone());
        let worker = Mutex::new(Worker { stopping: false, certificate, door: None, ended: 0 });
        Ok(Some(Page { address: listener.local_addr()?, listener, acme, own, given, worker }))
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        self.shown().fingerprint()
    }

    /// The authority that gives it certificates, where there is one.
    pub fn acme(&self) -> Option<&Acme> {
        self.acme.as_ref()
    }

    /// Has an authority give it certificates until the box ends, where there is one.
    pub(crate) fn serve_certificates(&self, node: &Node) {
        if let Some(acme) = &self.acme {
            acme.serve(node, self);
        }
    }

    fn shown(&self) -> Arc<Certificate> {
        self.lock().certificate.clone()
    }

    /// Has another certificate shown from the next connection on. Those that are open stay.
    fn show(&self, certificate: Arc<Certificate>) {
        let mut worker = self.lock();
        if worker.certificate.fingerprint() == certificate.fingerprint() {
            return;
        }
        worker.certificate = certificate;
        let Some(door) = worker.door.clone() else { return };
        let told = worker.certificate.told().and_then(|told| {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(send(&*door, &told, flags).map(drop)?)
        });
        if let Err(error) = told {
            // Another worker begins with it.
            tracing::warn!(%error, "the page worker can't be told of another certificate, and is exchanged");
            let _ = shutdown(&*door, Shutdown::Both);
        }
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
        let mut worker = self.lock();
        if worker.stopping {
            return Err(io::Error::other("the box is stopping"));
        }
        let start = serde_json::to_vec(&Start {
            name: node.name.clone(),
            shown: worker.certificate.shown(),
            user: is_root.then_some(NOBODY),
            group: is_root.then_some(NOBODY),
        })?;
        if start.len() > START_BYTES_MAX {
            return Err(io::Error::other("the certificate of the page is too long"));
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

impl Certificate {
    /// As the worker gets it.
    fn shown(&self) -> Shown {
        Shown { certificate_pem: self.certificate_pem.clone(), key_pem: self.key_pem.clone() }
    }

    /// The same as a message.
    fn told(&self) -> io::Result<Vec<u8>> {
        let told = serde_json::to_vec(&self.shown())?;
        match told.len() <= START_BYTES_MAX {
            true => Ok(told),
            false => Err(io::Error::other("the certificate of the page is too long")),
        }
    }
}
