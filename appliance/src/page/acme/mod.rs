//! Certificates of an authority for the page, by ACME (RFC 8555): ordered by the box's own process, never by the page worker.
//!
//! ```text
//!   clock ──► plan: is it time? ──► order ──► calls    to the authority
//!                                     │ ───► answers  to its questions, while the order is under way
//!                                     ▼
//!                          kept ──► page ──► worker   shows it from the next connection on
//! ```
//!
//! - What the page shows is always something: where the authority gave nothing that counts, the box's own certificate.
//! - The account, the certificate and its key lie in the page's folder for their owner alone (docs/formats/page.md). The key never leaves it.
//! - What fails is tried again, later each time, also over restarts: authorities refuse who comes too often.

mod answers;
mod calls;
mod kept;
mod order;
pub(super) mod plan;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Page;
use super::certificate::Certificate;
use super::x509::Says;
use crate::accounts::audit::Entry;
use crate::clock;
use crate::config;
use crate::control::reports;
use crate::node::Node;
use crate::units::rfc3339;
use calls::Asked;
use kept::{Folder, Given, Kept};
use order::Refused;
use plan::Failing;

/// How often it is looked whether it is time.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the box ends, and what is to be shown, during an order.
const MEANWHILE: Duration = Duration::from_millis(200);

/// An authority, and what it gave.
pub struct Acme {
    config: config::Acme,
    folder: Folder,
    known: Mutex<Known>,
}

struct Known {
    kept: Kept,
    /// What was given last, and what it says.
    held: Option<(Arc<Certificate>, Says)>,
    /// Somebody wants one now.
    asked: bool,
    /// An order is under way.
    ordering: bool,
}

impl Acme {
    /// With what is kept in the data folder. Nothing is ordered before [`Acme::serve`].
    pub(super) fn open(data: &Path, config: &config::Acme) -> io::Result<Acme> {
        let folder = Folder::new(kept::folder(data)?);
        let kept = folder.read(&config.directory);
        let held = folder.certificate().and_then(|certificate| held(Arc::new(certificate)));
        let known = Known { kept, held, asked: false, ordering: false };
        Ok(Acme { config: config.clone(), folder, known: Mutex::new(known) })
    }

    /// The certificate that the authority gave, while it counts.
    pub(super) fn good(&self) -> Option<Arc<Certificate>> {
        let known = self.lock();
        let (certificate, says) = known.held.as_ref()?;
        says.life.is_good(now()).then(|| certificate.clone())
    }

    /// Has a certificate ordered when it is time, and the page show the one that counts, until the box ends.
    pub(super) fn serve(&self, node: &Node, page: &Page) {
        while !node.is_stopping() {
            self.show(page);
            match self.is_time(now()) {
                true => self.order(node, page),
                false => std::thread::park_timeout(EVERY),
            }
        }
    }

    fn show(&self, page: &Page) {
        page.show(self.good().unwrap_or_else(|| page.own.clone()));
    }

    /// Has one ordered now, whether it is time or not.
    pub fn ask(&self) {
        self.lock().asked = true;
    }

    fn is_time(&self, now: u64) -> bool {
        let mut known = self.lock();
        known.ordering = std::mem::take(&mut known.asked) || self.next(&known, now) <= now;
        known.ordering
    }

    /// When one is ordered next. What another authority gave, or what is for other names, wants to be exchanged at once.
    fn next(&self, known: &Known, now: u64) -> u64 {
        let wanted = Given { directory: self.config.directory.clone(), names: self.config.names() };
        let is_wanted = known.kept.given.as_ref() == Some(&wanted);
        let life = known.held.as_ref().filter(|_| is_wanted).map(|(_, says)| says.life);
        plan::next(life, known.kept.failing.as_ref(), now)
    }

    fn order(&self, node: &Node, page: &Page) {
        let asked = Asked::default();
        let account = self.lock().kept.account.clone();
        let mut keep = |account| self.change(|kept| kept.account = Some(account));
        // An order may take minutes, and what is shown end meanwhile.
        let meanwhile = async {
            while !node.is_stopping() {
                self.show(page);
                tokio::time::sleep(MEANWHILE).await;
            }
        };
        let ordered = until(meanwhile, order::order(&self.config, account, asked.clone(), &mut keep));
        let Some(ordered) = ordered else { return };
        let outcome = ordered.and_then(|given| self.take(&given));
        if let Err(refused) = &outcome {
            self.note(refused, asked.seconds());
        }
        self.lock().ordering = false;
        self.tell(node, outcome.err().as_ref());
    }

    /// Takes what was given, if it is what was ordered.
    fn take(&self, given: &order::Given) -> Result<(), Refused> {
        let remedy = "Look at the clock of the box, and at the authority.";
        let certificate = Certificate::of(given.chain_pem.clone(), given.key_pem.clone())
            .map_err(|what| Refused::of(format!("there is no {what} in what the authority gave"), remedy))?;
        let held = held(Arc::new(certificate))
            .ok_or_else(|| Refused::of("what the authority gave is no certificate of ours", remedy))?;
        let names = self.config.names();
        if !names.iter().all(|name| held.1.names.contains(name)) {
            return Err(Refused::of(format!("what the authority gave is for {}", held.1.names.join(", ")), remedy));
        }
        if !held.1.life.is_good(now()) {
            return Err(Refused::of("what the authority gave does not count now, by the clock of the box", remedy));
        }
        self.folder.keep(&given.chain_pem, &given.key_pem).map_err(|error| not_kept(&error))?;
        self.lock().held = Some(held);
        self.change(|kept| {
            kept.given = Some(Given { directory: self.config.directory.clone(), names });
            kept.failing = None;
        })
    }

    /// Notes that nothing was given, and when the next order is.
    fn note(&self, refused: &Refused, asked: Option<u64>) {
        let (before, life) = {
            let known = self.lock();
            (known.kept.failing.clone(), known.held.as_ref().map(|(_, says)| says.life))
        };
        let (at, tries) = (now(), before.as_ref().map_or(0, |failing| failing.tries).saturating_add(1));
        let failing = Failing {
            tries,
            since: before.map_or(at, |failing| failing.since),
            at,
            next: at.saturating_add(plan::pause(tries, life, asked, rand::random())),
            why: refused.why.clone(),
            remedy: refused.remedy.clone(),
        };
        if let Err(refused) = self.change(|kept| kept.failing = Some(failing)) {
            tracing::error!(why = refused.why, "the certificate of the page");
        }
    }

    /// Changes what is kept; what can't be written counts until the box ends.
    fn change(&self, change: impl FnOnce(&mut Kept)) -> Result<(), Refused> {
        let mut known = self.lock();
        change(&mut known.kept);
        self.folder.write(&known.kept).map_err(|error| not_kept(&error))
    }

    /// Tells log and audit log how an order ended.
    fn tell(&self, node: &Node, refused: Option<&Refused>) {
        let names = self.config.names().join(", ");
        match refused {
            None => tracing::info!(names, "the page has a new certificate"),
            Some(refused) => tracing::warn!(names, why = refused.why, "no certificate for the page was had"),
        }
        let entry = Entry {
            at: rfc3339(clock::now()),
            who: "box".into(),
            by: "box".into(),
            what: "certificate-order".into(),
            with: serde_json::json!({ "directory": self.config.directory, "names": self.config.names() }),
            outcome: Some(refused.map_or_else(|| "done".into(), |refused| refused.why.clone())),
            ..Entry::default()
        };
        if let Err(error) = node.audit.add(entry) {
            tracing::error!(%error, "the order of a certificate can't be written to the audit log");
        }
    }

    /// How it is.
    fn report(&self) -> reports::Authority {
        let (known, now) = (self.lock(), now());
        let life = known.held.as_ref().map(|(_, says)| says.life);
        let failing = known.kept.failing.as_ref();
        reports::Authority {
            directory: self.config.directory.clone(),
            names: self.config.names(),
            until: life.map(|life| time(life.until)),
            short: life.is_none_or(|life| life.is_short(now)),
            ordering: known.ordering,
            next: time(self.next(&known, now).max(now)),
            failing_since: failing.map(|failing| time(failing.since)),
            tries: failing.map_or(0, |failing| failing.tries),
            error: failing.map(|failing| failing.why.clone()),
            remedy: failing.map(|failing| failing.remedy.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// Which certificate is shown, and how it stands with the one of an authority.
    pub fn certificate(&self) -> reports::PageCertificate {
        let shown = self.shown();
        let says = shown.says();
        let kind = match (&self.acme, shown.fingerprint() == self.own.fingerprint()) {
            (Some(_), false) => "authority",
            _ if self.given => "file",
            _ => "own",
        };
        reports::PageCertificate {
            kind: kind.into(),
            fingerprint: shown.fingerprint(),
            names: says.as_ref().map(|says| says.names.clone()).unwrap_or_default(),
            issuer: says.as_ref().map(|says| says.issuer.clone()),
            until: says.as_ref().map(|says| time(says.life.until)),
            authority: self.acme.as_ref().map(Acme::report),
        }
    }
}

/// A certificate that can be shown, with what it says.
fn held(certificate: Arc<Certificate>) -> Option<(Arc<Certificate>, Says)> {
    let says = certificate.says().filter(|_| certificate.is_whole())?;
    Some((certificate, says))
}

fn not_kept(error: &io::Error) -> Refused {
    Refused::of(
        format!("what the authority gave can't be kept: {error}"),
        "See to it that the box can write its data folder.",
    )
}

/// Runs an order until it ends; nothing where the other ends before.
fn until<T>(
    other: impl Future<Output = ()>,
    order: impl Future<Output = Result<T, Refused>>,
) -> Option<Result<T, Refused>> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Some(Err(Refused::of(format!("no runtime for the order: {error}"), ""))),
    };
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = order => Some(ended),
            () = other => None,
        }
    });
    // A call that is under way ends by itself, and nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// The time on the clock on the wall: by it, whoever connects sees whether a certificate counts.
fn now() -> u64 {
    u64::try_from(clock::wall().seconds()).unwrap_or_default()
}

fn time(seconds: u64) -> String {
    crate::notices::text::rfc3339(seconds)
}
