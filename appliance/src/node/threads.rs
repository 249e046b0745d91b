//! The threads of a box, but for those of its doors.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Node, StartError};
use crate::control::status;
use crate::ingest::volumes::StoreTargets;
use crate::jobs::{checks, reclaim};
use crate::{caps, clock, disk, heal, losses, notices, pace, plans, setup, trends};

/// Threads that drain.
const PUMPS: usize = 2;
/// How often it is looked at what initiators are to be told without having asked.
const WATCH: Duration = Duration::from_secs(1);

/// All of them, in the groups in which they end ([`join`]).
pub(super) struct Threads {
    pub(super) thawer: JoinHandle<()>,
    /// Those that look at something now and then, and are woken to see that the box is stopping.
    pub(super) lookers: Vec<JoinHandle<()>>,
    pub(super) pumps: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them. `targets`: who is served over iSCSI, where that is on.
    pub(super) fn start(node: &Arc<Node>, targets: Option<Arc<StoreTargets>>) -> Result<Threads, StartError> {
        let pump = |number| {
            let node = node.clone();
            spawn_vital(format!("pump-{number}"), move || node.pump())
        };
        let pumps = (0..PUMPS).map(pump).collect::<Result<_, _>>()?;
        let mut lookers = Vec::new();
        if let Some(targets) = targets {
            lookers.push(start_watch(node.clone(), targets)?);
        }
        lookers.push(start_disk(node.clone())?);
        lookers.push(start_caps(node.clone())?);
        if node.caps.have_recovery_points() {
            lookers.push(start_pacer(node.clone())?);
        }
        lookers.extend([start_planner(node.clone())?, start_scrubber(node.clone())?, start_healer(node.clone())?]);
        lookers.extend([start_reclaimer(node.clone())?, start_census(node.clone())?]);
        lookers.extend([start_recompression(node.clone())?, start_checker(node.clone())?]);
        lookers.extend([start_trends(node.clone())?, start_losses(node.clone())?]);
        lookers.push(start_set_up(node.clone())?);
        lookers.push(start_network(node.clone())?);
        lookers.push(start_notices(node.clone())?);
        for way in 0..node.notices.ways() {
            lookers.push(start_way(node.clone(), way)?);
        }
        if node.page.is_some() {
            lookers.push(start_page(node.clone())?);
            lookers.push(start_announcer(node.clone())?);
            lookers.push(start_certificates(node.clone())?);
        }
        Ok(Threads { thawer: start_thawer(node.clone())?, lookers, pumps })
    }
}

/// Waits for the end of a thread that was asked to end, or has nothing left to wait for.
pub(super) fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    thread.thread().unpark();
    if thread.join().is_err() {
        tracing::error!(name, "a thread had panicked");
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let builder = std::thread::Builder::new().name(name.clone());
    builder.spawn(body).map_err(|error| StartError::Thread(format!("the thread {name:?}"), error))
}

/// Starts a thread that the box can't be without. A pump that panics may hold a dataset that nobody can drain any more: writers would
/// wait for ever. Without the thread that thaws, an application might stand still for ever; without the one of the caps, the line might
/// carry too much; without the one of reclaim, the disk would fill. Where it panics the box ends at once instead, and recovers from its journal when it is started again.
fn spawn_vital(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    spawn(name, move || {
        let _ends = EndsWithThread;
        body();
    })
}

struct EndsWithThread;

impl Drop for EndsWithThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread met a mistake of the program; the box ends and recovers at its next start");
            std::process::abort();
        }
    }
}

fn start_watch(node: Arc<Node>, targets: Arc<StoreTargets>) -> Result<JoinHandle<()>, StartError> {
    spawn("watch".into(), move || {
        while !node.is_stopping() {
            targets.look();
            std::thread::park_timeout(WATCH);
        }
    })
}

/// A set-up whose settings have come to count with this start is brought to its end; then the thread is done.
fn start_set_up(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("set-up".into(), move || {
        if let Err(failed) = setup::apply::go_on(&node) {
            tracing::error!(%failed, "the set-up could not be brought to its end");
        }
    })
}

fn start_disk(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("disk".into(), move || {
        while !node.is_stopping() {
            node.disk.look();
            std::thread::park_timeout(disk::EVERY);
        }
    })
}

fn start_thawer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("thaw".into(), move || node.hooks.pay_what_is_due())
}

fn start_caps(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("caps".into(), move || {
        let Some(link) = &node.link else { return };
        while !node.is_stopping() {
            node.caps.apply(link);
            std::thread::park_timeout(caps::EVERY);
        }
    })
}

fn start_pacer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("pace".into(), move || {
        let Some(link) = &node.link else { return };
        while !node.is_stopping() {
            pace::look(&node, link);
            std::thread::park_timeout(pace::EVERY);
        }
    })
}

fn start_planner(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("plans".into(), move || {
        let mut looked = Instant::now();
        while !node.is_stopping() {
            // By a clock that nobody can set: locks are measured by it.
            let passed = looked.elapsed();
            looked += passed;
            if let Err(error) = node.store.run_on(passed, clock::now()) {
                tracing::warn!(%error, "how long the box ran could not be kept: locks last longer if it ends now");
            }
            if let Some(link) = &node.link {
                node.plans.look(&node, link);
            }
            node.retention.look(&node);
            node.quarantine.look(&node);
            std::thread::park_timeout(plans::EVERY);
        }
    })
}

fn start_scrubber(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("scrub".into(), move || {
        while !node.is_stopping() {
            std::thread::park_timeout(node.scrubs.look(clock::now()));
        }
    })
}

fn start_healer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("heal".into(), move || {
        let Some(link) = &node.link else { return };
        while !node.is_stopping() {
            node.healings.look(&node, link);
            std::thread::park_timeout(heal::EVERY);
        }
    })
}

/// Of its own: a census takes hours, and a run of reclaim must not wait for it.
fn start_census(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("census".into(), move || {
        while !node.is_stopping() {
            node.censuses.look(&|| node.is_stopping());
            std::thread::park_timeout(reclaim::EVERY);
        }
    })
}

/// Of its own: a check takes hours, too.
fn start_checker(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("check".into(), move || {
        while !node.is_stopping() {
            node.checks.look(&node.store, &|| node.is_stopping());
            std::thread::park_timeout(checks::EVERY);
        }
    })
}

fn start_recompression(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("recompress".into(), move || {
        while !node.is_stopping() {
            std::thread::park_timeout(node.recompression.look(&|| node.is_stopping()));
        }
    })
}

fn start_trends(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("trends".into(), move || {
        std::thread::park_timeout(trends::EVERY);
        while !node.is_stopping() {
            let time = u64::try_from(clock::wall().seconds()).unwrap_or_default();
            if let Some(status) = status::measured(&node) {
                node.trends.sample(&status, time);
            }
            std::thread::park_timeout(trends::EVERY);
        }
    })
}

fn start_losses(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("losses".into(), move || {
        while !node.is_stopping() {
            node.losses.look(&node.store, clock::now(), &|| node.is_stopping());
            std::thread::park_timeout(losses::EVERY);
        }
    })
}

fn start_announcer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("announce".into(), move || node.announcer.serve(&node))
}

fn start_certificates(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("certificates".into(), move || {
        if let Some(page) = &node.page {
            page.serve_certificates(&node);
        }
    })
}

fn start_notices(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("notices".into(), move || {
        while !node.is_stopping() {
            node.notices.look(&node);
            std::thread::park_timeout(notices::EVERY);
        }
    })
}

/// Vital: without it, a change that cut the box off would stay.
fn start_network(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("network".into(), move || node.network.serve(&node))
}

fn start_way(node: Arc<Node>, way: usize) -> Result<JoinHandle<()>, StartError> {
    spawn(format!("tell-{way}"), move || node.notices.serve(way, &node.audit))
}

fn start_page(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn("page".into(), move || {
        if let Some(page) = &node.page {
            page.serve(&node);
        }
    })
}

fn start_reclaimer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    spawn_vital("reclaim".into(), move || {
        while !node.is_stopping() {
            node.reclaims.look(&|| node.is_stopping());
            std::thread::park_timeout(reclaim::EVERY);
        }
    })
}
