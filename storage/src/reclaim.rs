//! Stage 10: forgetting. What nobody needs gives its room back, while everybody goes on.
//!
//! ```text
//! watch ─▶ barrier ─▶ roots ─▶ walk ─▶ survey ─▶ grace ─▶ condemn nodes ─▶ let go of containers ─▶ end
//! └────────────── whoever asks for something keeps it: the pool's door notes it ─────────────┘
//! ```
//!
//! A run is a value that is stepped; each step is short, or reads a bounded number of bytes. It keeps nothing: dropped, or killed, it
//! is begun anew, and what it let go of is gone.
//!
//! Why nothing is lost:
//! * *Watch*: from now on whatever the pool says is present, and whatever is put, is needed, with all below it.
//! * *Barrier*: whoever was told so before has ended ([`crate::pool::Pool::in_use`]), so what he made of it is in a layer, a record or
//!   the catalogue.
//! * *Roots*: what these name ([`crate::store`], `roots.rs`). *Walk*: what is below. Where a node can't be read, nobody knows what is
//!   below it, so nothing may go: the walk goes on to its end to find all such nodes, looks at them once more, for somebody may have brought
//!   them meanwhile, and the run ends there. [`Store::in_the_way`] says whose they are.
//! * *Grace*: whoever held a name from before the roots were looked at, to read it or to build on it, has ended, too. What is
//!   neither reached nor noted by now is named by nothing that anybody can see.
//! * *Condemn*: with the door shut for a moment, every node that is present is either needed, and then all below it is, or hidden; those
//!   leave the index in one durable transaction. At every crash whatever is found is whole.
//! * *Let go*: chunks, container by container. Who asks for one before its container is looked at keeps it; who asks later stores it again.
//!
//! What it never does: delete what it could not read, wait for anybody while it holds a lock, or hold up writing for longer than a
//! look at a set in memory takes. `docs/concurrency.md` has the table, `docs/decisions/0023-reclaim.md` the reasons.

use std::sync::Arc;

use crate::catalogue::HistoryFile;
use crate::error::{Damage, Environment, Error, Result};
use crate::id::{ContainerId, DatasetId};
use crate::pool::{Condemned, LetGo, LetGoStep, Obstacles, Pool, Survey, Watch, Wound};
use crate::store::{Needed, Quarantined, Store, Without};
use crate::units::{Lsn, Timestamp};

/// Nodes that are walked in one step: what lies together of them is read together.
const NODES_PER_STEP: usize = 1024;
/// Names that are looked at in one step, at the least.
const NAMES_PER_STEP: u64 = 50_000;
/// Containers that are looked at in one step, at most.
const CONTAINERS_PER_STEP: usize = 16;
/// Bytes that are moved in one step, about: a container of them.
const MOVED_BYTES_PER_STEP: u64 = 16 << 20;

/// So many nodes in the way are told one by one; where there are more, the walk ends.
pub const OBSTACLES_MAX: usize = 1000;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// There is more to do.
    Worked,
    /// Somebody else has to end first: call again a moment later.
    Waiting,
    /// The run is over; [`Reclaim::report`] says what came of it.
    Done,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits until those have ended who had begun before.
    Barrier,
    /// Gathers what is in use.
    Roots,
    /// Walks what is below that.
    Walk,
    /// Looks what is left.
    Survey,
    /// Condemns nodes that nobody needs.
    Condemn,
    /// Gives room back.
    LetGo,
    /// Is over.
    Done,
}

/// What a run did, so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Nodes that are needed.
    pub nodes_needed: u64,
    /// Nodes that were let go of.
    pub nodes_freed: u64,
    /// Chunks that were let go of.
    pub chunks_freed: u64,
    /// Containers that were removed.
    pub containers_removed: u64,
    /// Thin containers whose rest was moved.
    pub containers_rewritten: u64,
    /// Containers that are to be removed or rewritten; known when the survey is done.
    pub containers_total: u64,
    /// Bytes that letting go of them is to give back; known when the survey is done. What is asked for meanwhile stays.
    pub freeable_bytes: u64,
    /// Bytes on the disk that were given back: those of files that are gone, less what was moved.
    pub freed_bytes: u64,
    /// Bytes that nobody needs and that stay among what is needed: a twentieth of that at most, or where moving would not pay.
    pub left_bytes: u64,
    /// Bytes of objects that were moved.
    pub moved_bytes: u64,
    /// Bytes that were read of nodes, directories and what was moved.
    pub read_bytes: u64,
    /// Why nothing could be let go of, if so it was: something on the way is damaged, or there is more than may be remembered.
    pub stopped: Option<String>,
    /// Nodes that are needed and can't be read, where that was it; at most [`OBSTACLES_MAX`].
    pub obstacles: Vec<Wound>,
    /// Containers that were left as they are, for they can't be read.
    pub damage: Vec<Damage>,
}

/// How far a run is, with what it needs for going on.
enum At {
    Turn,
    Barrier,
    Layers,
    Catalogue,
    Journal(Lsn),
    Histories(Vec<(DatasetId, HistoryFile)>),
    Walk,
    Survey(u16),
    Grace,
    Condemn,
    LetGo(usize),
    Done,
}

/// A run of reclaim. One at a time.
pub struct Reclaim {
    pool: Pool,
    watch: Arc<Watch>,
    at: At,
    needed: Needed,
    survey: Survey,
    /// What is to go: what holds nothing that is needed first, each in the order of the disk.
    plan: Vec<ContainerId>,
    sum: LetGo,
    report: Reclaimed,
    /// What could not be walked.
    obstacles: Obstacles,
    /// It was looked at once more.
    looked_again: bool,
    /// Where the run only looks: what is looked at as if it were gone. One that lets go of anything takes nothing for gone.
    looks: Option<Without>,
}

impl Drop for Reclaim {
    fn drop(&mut self) {
        self.pool.end_watch();
    }
}

impl Store {
    /// Begins a run of reclaim. Refused while another one is under way. Dropping it ends it at any time.
    pub fn reclaim(&self) -> Result<Reclaim> {
        let pool = self.pool().clone();
        let watch = pool.watch()?;
        Ok(Reclaim {
            pool,
            watch,
            at: At::Turn,
            needed: Needed::default(),
            survey: Survey::default(),
            plan: Vec::new(),
            sum: LetGo::default(),
            report: Reclaimed::default(),
            obstacles: Obstacles::new(),
            looked_again: false,
            looks: None,
        })
    }

    /// The same, but it ends where it would begin to let go: to see what that would free.
    pub fn reclaim_preview(&self) -> Result<Reclaim> {
        self.look_without(Without::default())
    }

    /// The same as if part of the quarantine were empty: to see what emptying it would free, together with what is free to go anyway.
    pub fn reclaim_preview_without(&self, gone: &dyn Fn(&Quarantined) -> bool) -> Result<Reclaim> {
        let mut without = Without::default();
        for one in self.quarantined().into_iter().filter(|one| gone(one)) {
            match &one.snapshot {
                Some(snapshot) => drop(without.snapshots.insert(snapshot.id)),
                None => drop(without.datasets.insert(one.dataset.id)),
            }
        }
        self.look_without(without)
    }

    fn look_without(&self, without: Without) -> Result<Reclaim> {
        let mut run = self.reclaim()?;
        run.looks = Some(without);
        Ok(run)
    }
}

impl Reclaim {
    /// What the run did so far.
    pub fn report(&self) -> &Reclaimed {
        &self.report
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        match self.at {
            At::Turn | At::Barrier => Phase::Barrier,
            At::Layers | At::Catalogue | At::Journal(_) | At::Histories(_) => Phase::Roots,
            At::Walk => Phase::Walk,
            At::Survey(_) | At::Grace => Phase::Survey,
            At::Condemn => Phase::Condemn,
            At::LetGo(_) => Phase::LetGo,
            At::Done => Phase::Done,
        }
    }

    /// Makes the door note nothing, which loses data: for the test that shows that it would be seen.
    #[doc(hidden)]
    pub fn blind_the_door(&self) {
        self.watch.make_blind();
    }

    /// Goes on by one step with the store that began it. Any error ends the run, which is to be dropped then; nothing is lost, and
    /// another one may be begun later.
    pub fn step(&mut self, store: &Store, now: Timestamp) -> Result<Stepped> {
        store.tell_time(now)?;
        let stepped = match self.go_on(store) {
            // On the way to what is needed. What is below it is not known, so nothing may go.
            Err(Error::Damage(damage)) => self.stop(damage.to_string()),
            outcome => outcome?,
        };
        self.report.nodes_needed = self.watch.nodes();
        Ok(stepped)
    }

    fn go_on(&mut self, store: &Store) -> Result<Stepped> {
        match std::mem::replace(&mut self.at, At::Done) {
            At::Turn => Ok(self.once(self.pool.turn_epoch(), At::Turn, At::Barrier)),
            At::Barrier => Ok(self.once(self.pool.is_epoch_over(), At::Barrier, At::Layers)),
            At::Layers => {
                store.need_layers(&self.watch, self.without())?;
                Ok(self.then(At::Catalogue))
            }
            At::Catalogue => {
                self.needed = store.need_catalogue(&self.watch, self.without())?;
                store.need_arriving(&self.watch)?;
                Ok(self.then(At::Journal(Lsn(0))))
            }
            At::Journal(after) => {
                let next = match store.need_journal(&self.watch, &self.needed, after)? {
                    Some(upto) => At::Journal(upto),
                    None => At::Histories(store.all_history_files(self.without())),
                };
                Ok(self.then(next))
            }
            At::Histories(mut files) => {
                let Some((id, file)) = files.pop() else { return Ok(self.then(At::Walk)) };
                store.need_history(&self.watch, id, &file)?;
                Ok(self.then(At::Histories(files)))
            }
            At::Walk => self.walk_or(At::Walk, At::Survey(0)),
            At::Survey(part) => self.look(part),
            At::Grace => Ok(self.once(self.pool.is_epoch_over(), At::Grace, At::Condemn)),
            At::Condemn => self.condemn(),
            At::LetGo(done) => self.let_go(store, done),
            At::Done => Ok(self.then(At::Done)),
        }
    }

    /// What is looked at as if it were gone.
    fn without(&self) -> &Without {
        self.looks.as_ref().unwrap_or(Without::NOTHING)
    }

    fn then(&mut self, next: At) -> Stepped {
        self.at = next;
        if matches!(self.at, At::Done) { Stepped::Done } else { Stepped::Worked }
    }

    /// Goes on once something has come.
    fn once(&mut self, come: bool, wait: At, next: At) -> Stepped {
        match come {
            true => self.then(next),
            false => {
                self.at = wait;
                Stepped::Waiting
            }
        }
    }

    /// Ends the run: nothing is let go of.
    fn stop(&mut self, why: String) -> Stepped {
        self.report.stopped = Some(why);
        self.then(At::Done)
    }

    /// Walks on, or goes on where everything was walked.
    fn walk_or(&mut self, stay: At, next: At) -> Result<Stepped> {
        if self.watch.is_walked() || self.obstacles.len() >= OBSTACLES_MAX {
            if !self.obstacles.is_empty() {
                return Ok(self.meet_obstacles(stay));
            }
            // Everybody who had begun before the barrier has ended, so this never waits.
            let begun = !matches!(next, At::Survey(_)) || self.pool.turn_epoch();
            return Ok(self.once(begun, stay, next));
        }
        self.report.read_bytes += self.pool.walk(&self.watch, NODES_PER_STEP, &mut self.obstacles)?;
        if self.watch.is_overflown() {
            let why = format!("more than {} tree nodes are in use, and no more can be remembered", self.watch.nodes());
            return Ok(self.stop(why));
        }
        Ok(self.then(stay))
    }

    /// All is walked but some nodes: what was healed since is walked now, and what was not ends the run.
    fn meet_obstacles(&mut self, stay: At) -> Stepped {
        let obstacles = std::mem::take(&mut self.obstacles);
        if !std::mem::replace(&mut self.looked_again, true) {
            self.watch.put_back(obstacles.into_keys());
            return self.then(stay);
        }
        let wound = |((kind, name), damage)| Wound { kind, name, damage };
        self.report.obstacles = obstacles.into_iter().map(wound).take(OBSTACLES_MAX).collect();
        let first = self.report.obstacles.first().map(|wound| wound.damage.to_string()).unwrap_or_default();
        let why = match self.report.obstacles.len() {
            1 => first,
            many => format!("{many} tree nodes can't be read, the first: {first}"),
        };
        self.stop(why)
    }

    fn look(&mut self, part: u16) -> Result<Stepped> {
        let mut part = part;
        let before = self.survey.names;
        while let Ok(nth) = u8::try_from(part) {
            self.pool.survey(&self.watch, nth, &mut self.survey)?;
            part += 1;
            if self.survey.names - before >= NAMES_PER_STEP {
                return Ok(self.then(At::Survey(part)));
            }
        }
        let plan = self.pool.plan(&self.watch, &self.survey);
        self.report.containers_total = plan.containers.len() as u64;
        self.report.freeable_bytes = plan.freeable_bytes;
        self.report.left_bytes = plan.left_bytes;
        if self.looks.is_some() {
            self.report.nodes_freed = self.survey.dead_nodes();
            return Ok(self.then(At::Done));
        }
        Ok(self.then(At::Grace))
    }

    fn condemn(&mut self) -> Result<Stepped> {
        if !self.watch.is_walked() || !self.obstacles.is_empty() {
            return self.walk_or(At::Condemn, At::Condemn);
        }
        match self.pool.condemn_nodes(&self.watch, &mut self.survey)? {
            Condemned::Nodes(nodes) => {
                self.report.nodes_freed = nodes;
                // Some of them are garbage only now: the nodes that were in them have gone.
                self.plan = self.pool.plan(&self.watch, &self.survey).containers;
                Ok(self.then(At::LetGo(0)))
            }
            Condemned::WalkFirst => Ok(self.then(At::Condemn)),
            Condemned::Checked => Ok(self.once(false, At::Condemn, At::Condemn)),
        }
    }

    fn let_go(&mut self, store: &Store, done: usize) -> Result<Stepped> {
        let left = self.plan.get(done..).unwrap_or_default();
        if left.is_empty() {
            match store.stages().catalogue.give_back_room() {
                // It wants room before it gives some.
                Ok(()) | Err(Error::Environment(Environment::Full)) => {}
                Err(error) => return Err(error),
            }
            return Ok(self.then(At::Done));
        }
        let step = self.pool.let_go(&self.watch, left, CONTAINERS_PER_STEP, MOVED_BYTES_PER_STEP, &mut self.sum);
        let sum = &self.sum;
        self.report.chunks_freed = sum.objects;
        self.report.containers_removed = sum.removed;
        self.report.containers_rewritten = sum.rewritten;
        self.report.moved_bytes = sum.moved_bytes;
        self.report.freed_bytes = sum.removed_bytes.saturating_sub(sum.moved_bytes);
        self.report.damage.clone_from(&sum.damage);
        match step {
            Ok(LetGoStep::Did(more)) => {
                self.report.read_bytes += std::mem::take(&mut self.sum.read_bytes);
                Ok(self.then(At::LetGo(done + more)))
            }
            Ok(LetGoStep::Checked) => Ok(self.once(false, At::LetGo(done), At::Done)),
            Err(error) => Err(error),
        }
    }
}
