//! What is shown live is asked for once for all who look: the status, by what they may see, and who they are.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex as Plain, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::guard;
use super::visitor::{Signed, Visitor};
use crate::control::door::{Ask, Person};
use crate::control::reports::Status;
use crate::control::{Failed, Request};
use crate::trends::{Report, Span};

/// How old a status may be.
const STATUS: Duration = Duration::from_secs(2);
/// How old trends may be: there is something new every minute.
const TRENDS: Duration = Duration::from_secs(60);
/// For how long nobody asks again who somebody is who only looks.
const PERSON: Duration = Duration::from_secs(10);
/// Of how many that is known.
const PEOPLE_MAX: usize = 1024;

type Known<T> = Option<(Instant, T)>;

/// What is known for a moment.
#[derive(Default)]
pub(super) struct Live {
    /// By role.
    status: [Mutex<Known<Arc<Status>>>; 3],
    /// Of each span. They are the same for all who may look.
    trends: [Mutex<Known<Arc<Report>>>; 3],
    /// Counts changes: what was asked for before one is not kept after it.
    changes: AtomicU64,
    /// By the hash that stands in forms, not by the session itself.
    people: Plain<HashMap<[u8; 32], (Instant, Person)>>,
}

impl Live {
    /// The status, a few seconds old at most. Whoever comes while it is asked for gets the same.
    pub(super) async fn status(&self, visitor: &Visitor, person: &Person) -> Result<Arc<Status>, Failed> {
        let mut known = self.status[person.role as usize].lock().await;
        let changes = self.changes.load(Relaxed);
        if let Some((_, status)) = known.as_ref().filter(|(when, _)| when.elapsed() < STATUS) {
            return Ok(status.clone());
        }
        let status: Arc<Status> = Arc::new(visitor.request(Request::Status).await?);
        if self.changes.load(Relaxed) == changes {
            *known = Some((Instant::now(), status.clone()));
        }
        Ok(status)
    }

    /// How the box did, for somebody who is signed in.
    pub(super) async fn trends(&self, visitor: &Visitor, span: Span) -> Result<Arc<Report>, Failed> {
        let mut known = self.trends[span as usize].lock().await;
        if let Some((_, report)) = known.as_ref().filter(|(when, _)| when.elapsed() < TRENDS) {
            return Ok(report.clone());
        }
        let report: Arc<Report> = Arc::new(visitor.request(Request::Trends { span }).await?);
        *known = Some((Instant::now(), report.clone()));
        Ok(report)
    }

    /// Who a visitor is, where he only looks at what he has seen already.
    pub(super) async fn person(&self, visitor: &Visitor) -> Result<Person, Failed> {
        let session = visitor.session.as_deref().unwrap_or_default();
        let key = *guard::of_session(session).as_bytes();
        if let Some((when, person)) = self.people().get(&key)
            && when.elapsed() < PERSON
        {
            return Ok(person.clone());
        }
        let person: Person = visitor.ask(Ask::Whoami).await?;
        let mut people = self.people();
        people.retain(|_, (when, _)| when.elapsed() < PERSON);
        if people.len() < PEOPLE_MAX {
            people.insert(key, (Instant::now(), person.clone()));
        }
        Ok(person)
    }

    /// Has the next one who looks see what is so now.
    pub(super) fn forget(&self) {
        self.changes.fetch_add(1, Relaxed);
        self.people().clear();
        for known in &self.status {
            // Whoever holds it is asking right now, and will see that something changed.
            if let Ok(mut known) = known.try_lock() {
                *known = None;
            }
        }
    }

    /// The status for a page that is asked for anew.
    pub(super) async fn for_page(&self, signed: &Signed) -> Result<Arc<Status>, Failed> {
        self.status(&signed.visitor, &signed.person).await
    }

    fn people(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Instant, Person)>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
