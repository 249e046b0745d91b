//! One way at work: what it has to tell, a try, and what comes of it.

use std::sync::PoisonError;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::core::{self, Item, Notice};
use super::text::Speaker;
use super::ways::{Telling, Trouble, Way};
use super::{ENTRIES, EVERY, Known, Notices, State, TRY, now};
use crate::accounts::audit::{Audit, Chained};

/// How long is waited after the first try that failed, and at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3600)];
/// What was refused so often is given up.
pub(super) const REFUSALS_MAX: u32 = 20;

/// What a way has to do.
pub(super) enum Task {
    Tell(Telling),
    PassOn(Vec<Chained>),
}

/// What became of a try.
pub(super) enum Waited {
    Ended(Result<(), Trouble>),
    Late,
    Stopping,
}

pub(super) fn late() -> Trouble {
    Trouble { why: "it took too long and was left".into(), refused: false }
}

impl Notices {
    /// Tells by one way, until the box ends.
    pub(crate) fn serve(&self, index: usize, audit: &Audit) {
        let Some(way) = self.ways.get(index) else { return };
        // A try that never ended is the only one, until it does.
        let mut hanging = None;
        while let Some(task) = self.task(index, audit) {
            let (task, answer) = hanging.take().unwrap_or_else(|| {
                let answer = attempt(way, &self.speaker, &task);
                (task, answer)
            });
            match self.wait_for(&answer, TRY) {
                Waited::Stopping => return,
                Waited::Ended(outcome) => self.note(index, &task, outcome),
                Waited::Late => {
                    self.note(index, &task, Err(late()));
                    hanging = Some((task, answer));
                }
            }
        }
    }

    /// The next thing that a way has to do; `None` once the box ends.
    fn task(&self, index: usize, audit: &Audit) -> Option<Task> {
        let way = &self.ways[index];
        loop {
            let known = self.lock();
            if known.stopping {
                return None;
            }
            let rests = known.states[index].next.map(|next| next.saturating_duration_since(Instant::now()));
            let rests = rests.filter(|rests| !rests.is_zero());
            if rests.is_none() {
                if let Some(telling) = known.telling(way) {
                    return Some(Task::Tell(telling));
                }
                let sent = known.sent(way);
                drop(known);
                if way.takes_audit()
                    && let Some(entries) = self.to_pass_on(way, audit, sent.audit)
                {
                    return Some(Task::PassOn(entries));
                }
            } else {
                drop(known);
            }
            let known = self.lock();
            if !known.stopping {
                let patience = rests.unwrap_or(EVERY).min(EVERY);
                drop(self.woken.wait_timeout(known, patience).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    fn to_pass_on(&self, way: &Way, audit: &Audit, sent: u64) -> Option<Vec<Chained>> {
        match audit.after(sent, ENTRIES) {
            Ok(Some(entries)) => Some(entries).filter(|entries| !entries.is_empty()),
            Ok(None) => {
                // It is shorter than it was, which is told elsewhere: whoever has the older one sees it.
                self.lock().sent_mut(way).audit = 0;
                None
            }
            Err(_) => None,
        }
    }

    /// Waits for the end of a try.
    pub(super) fn wait_for(&self, answer: &Receiver<Result<(), Trouble>>, patience: Duration) -> Waited {
        let begun = Instant::now();
        loop {
            match answer.recv_timeout(Duration::from_millis(100)) {
                Ok(outcome) => return Waited::Ended(outcome),
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "a mistake of the program ended it".into();
                    return Waited::Ended(Err(Trouble { why, refused: false }));
                }
                Err(RecvTimeoutError::Timeout) if self.lock().stopping => return Waited::Stopping,
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= patience => return Waited::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Notes what came of a try.
    pub(super) fn note(&self, index: usize, task: &Task, outcome: Result<(), Trouble>) {
        let way = &self.ways[index];
        let mut known = self.lock();
        let now = now();
        match outcome {
            Ok(()) => {
                if known.states[index].since.is_some() {
                    tracing::info!(way = way.name(), "notices are told again this way");
                }
                known.states[index] = State::default();
                let sent = known.sent_mut(way);
                match task {
                    Task::Tell(telling) => (sent.notice, sent.skipped, sent.at) = (telling.notice.n, 0, Some(now)),
                    Task::PassOn(entries) => sent.audit = entries.last().map_or(sent.audit, |last| last.entry.n),
                }
            }
            Err(trouble) => {
                let state = &mut known.states[index];
                if state.since.is_none() {
                    tracing::warn!(way = way.name(), why = trouble.why, "notices can't be told this way");
                }
                state.since.get_or_insert(now);
                state.tries += 1;
                state.refusals = if trouble.refused { state.refusals + 1 } else { 0 };
                state.next = Some(Instant::now() + pause(state.tries));
                state.error = trouble.why;
                if state.refusals >= REFUSALS_MAX
                    && let Task::Tell(telling) = task
                {
                    state.refusals = 0;
                    let sent = known.sent_mut(way);
                    (sent.skipped, sent.notice) = (telling.skipped + 1, telling.notice.n);
                }
            }
        }
        self.keeper.keep(&known.kept);
    }
}

impl Known {
    /// What a way was not told of, as one: where it failed for long, it gets all of that at once.
    pub(super) fn telling(&self, way: &Way) -> Option<Telling> {
        let sent = self.sent(way);
        let behind: Vec<&Notice> = self.kept.notices.iter().filter(|notice| notice.n > sent.notice).collect();
        let first = behind.first()?;
        let skipped = sent.skipped + (first.n - sent.notice - 1);
        Some(Telling { notice: merged(&behind), skipped, test: false })
    }
}

/// Several notices as one, with the number of the last.
fn merged(notices: &[&Notice]) -> Notice {
    let mut items: Vec<Item> = notices.iter().flat_map(|notice| notice.items.iter().cloned()).collect();
    let too_many = items.len().saturating_sub(core::ITEMS_MAX);
    items.drain(..too_many);
    let (n, at) = notices.last().map_or((0, 0), |last| (last.n, last.at));
    let more = notices.iter().map(|notice| notice.more).sum::<u64>() + too_many as u64;
    let held = notices
        .iter()
        .filter_map(|notice| notice.held)
        .reduce(|first, next| core::Held { since: first.since.min(next.since), lost: first.lost + next.lost });
    Notice { n, at, items, more, held }
}

/// Begins a try, in a thread of its own: who asks waits as long as he likes.
pub(super) fn attempt(way: &Way, speaker: &Speaker, task: &Task) -> Receiver<Result<(), Trouble>> {
    let (answer, receiver) = mpsc::channel();
    let (way, speaker) = (way.clone(), speaker.clone());
    let name = format!("tell-{}", way.name());
    let work: Box<dyn FnOnce() -> Result<(), Trouble> + Send> = match task {
        Task::Tell(telling) => {
            let telling = telling.clone();
            Box::new(move || way.tell(&speaker, &telling))
        }
        Task::PassOn(entries) => {
            let entries = entries.clone();
            Box::new(move || way.pass_on(&speaker, &entries))
        }
    };
    // Nobody may wait for it any more; without a thread, who waits is told so by the end of the channel.
    let body = move || drop(answer.send(work()));
    if let Err(error) = std::thread::Builder::new().name(name).spawn(body) {
        tracing::warn!(%error, "no thread for a notice");
    }
    receiver
}

/// How long is waited after so many tries that failed.
pub(super) fn pause(tries: u32) -> Duration {
    PAUSES[0].saturating_mul(1 << tries.saturating_sub(1).min(20)).min(PAUSES[1])
}
