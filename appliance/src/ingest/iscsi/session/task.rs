//! Work that is handed out, and what comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;

use crate::ingest::iscsi::registry::{Former, Run};
use crate::ingest::iscsi::scsi::{self, Asked, Data, Device, Nexus, Reply, Sense, Status};

/// What is to be done.
pub(super) enum Work {
    /// A command.
    Command {
        lun: [u8; 8],
        cdb: Bytes,
        data: Data,
        announced_bytes: u64,
        epoch: u64,
        /// [`Asked::aborted`].
        aborted: Arc<AtomicBool>,
    },
    /// Writes that go on where one another end, with the numbers of all of them.
    Run {
        lun: [u8; 8],
        epoch: u64,
        writes: Vec<Write>,
    },
    /// A task management function that concerns other sessions too.
    ClearTasks {
        lun: [u8; 8],
    },
    ResetUnit {
        lun: [u8; 8],
    },
    ResetTarget,
}

/// One of a run of writes.
pub(super) struct Write {
    pub id: u64,
    pub cdb: Bytes,
    pub data: Data,
    pub announced_bytes: u64,
    /// [`Asked::aborted`].
    pub aborted: Arc<AtomicBool>,
}

/// One piece of work. Running it may block.
pub struct Task {
    pub(super) id: u64,
    /// Most bytes that it sends back.
    pub(super) reply_bytes: usize,
    pub(super) device: Arc<Device>,
    pub(super) nexus: Arc<Nexus>,
    pub(super) work: Work,
    /// Tasks of the sessions that had the place before: they end first.
    pub(super) after: Option<Former>,
    pub(super) run: Run,
}

/// How long a task may hold whoever runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Moments: it is answered from memory.
    Brief,
    /// As long as a disk and other commands make it wait.
    Command,
    /// Until commands have ended.
    Management,
}

/// What came of a task: an answer to each of its commands.
pub struct Done {
    pub(super) replies: Vec<(u64, Reply)>,
}

impl Task {
    /// Carries it out. What came of it is settled before it is told to the session.
    pub fn run(self) -> Done {
        let Task { id, device, nexus, work, after, run, .. } = self;
        let drained = after.is_none_or(|former| former.wait());
        let one = |reply| Done { replies: vec![(id, reply)] };
        let done = match work {
            Work::Run { lun, epoch, writes } => {
                Done { replies: write_run(&device, &nexus, lun, epoch, writes, drained) }
            }
            // Storage holds a task of the old session for ever: nothing may be changed beside it.
            _ if !drained => one(Reply::status(Status::Busy)),
            Work::Command { lun, cdb, data, announced_bytes, epoch, aborted } => {
                let asked = Asked { nexus: &nexus, lun, cdb: &cdb, announced_bytes, epoch, aborted: &aborted };
                one(device.begin(&asked, data))
            }
            Work::ClearTasks { lun } => one(managed(device.unit(lun).is_none_or(|unit| unit.clear_tasks(&nexus)))),
            Work::ResetUnit { lun } => one(managed(device.unit(lun).is_none_or(|unit| unit.reset()))),
            Work::ResetTarget => one(managed(device.reset())),
        };
        drop(run);
        done
    }

    /// Most bytes of data that come of it: there has to be memory for them before it is begun.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// The numbers of its commands, for [`Done::failed`].
    pub fn ids(&self) -> Vec<u64> {
        match &self.work {
            Work::Run { writes, .. } => writes.iter().map(|write| write.id).collect(),
            _ => vec![self.id],
        }
    }
}

/// What came of task management: BUSY where storage holds a task that may still change something.
fn managed(drained: bool) -> Reply {
    Reply::status(if drained { Status::Good } else { Status::Busy })
}

/// Carries out a run of writes as one, or else one by one.
fn write_run(
    device: &Device,
    nexus: &Arc<Nexus>,
    lun: [u8; 8],
    epoch: u64,
    writes: Vec<Write>,
    drained: bool,
) -> Vec<(u64, Reply)> {
    if !drained {
        return writes.iter().map(|write| (write.id, Reply::status(Status::Busy))).collect();
    }
    let run: Vec<(&[u8], &Data)> = writes.iter().map(|write| (&write.cdb[..], &write.data)).collect();
    let is_aborted = || writes.iter().any(|write| write.aborted.load(SeqCst));
    if let Some(reply) = device.begin_together(nexus, lun, epoch, &run, is_aborted) {
        return writes.iter().map(|write| (write.id, reply.clone())).collect();
    }
    let alone = |Write { id, cdb, data, announced_bytes, aborted }| {
        (id, device.begin(&Asked { nexus, lun, cdb: &cdb, announced_bytes, epoch, aborted: &aborted }, data))
    };
    writes.into_iter().map(alone).collect()
}

impl Done {
    /// Does what has to be done before any of these is told to the session. May wait for a disk; once for all of them.
    pub fn settle(all: &mut [Done]) {
        scsi::settle(all.iter_mut().flat_map(|done| &mut done.replies).map(|(_, reply)| reply));
    }

    /// Says of those that could not be settled, by a mistake of our own, that they failed.
    pub fn give_up(all: &mut [Done]) {
        let replies = all.iter_mut().flat_map(|done| &mut done.replies).map(|(_, reply)| reply);
        replies.filter(|reply| reply.unsettled.is_some()).for_each(|reply| *reply = broken_off());
    }

    /// True where nothing has to be done before it is told to the session.
    pub fn is_settled(&self) -> bool {
        self.replies.iter().all(|(_, reply)| reply.unsettled.is_none())
    }

    /// How many bytes it has for the initiator.
    pub fn bytes(&self) -> usize {
        self.replies.iter().flat_map(|(_, reply)| &reply.data).map(Bytes::len).sum()
    }

    /// What a task came to that broke off by a mistake of our own.
    pub fn failed(ids: Vec<u64>) -> Self {
        Done { replies: ids.into_iter().map(|id| (id, broken_off())).collect() }
    }
}

fn broken_off() -> Reply {
    Reply { status: Status::CheckCondition, sense: Sense::INTERNAL.encode(false), ..Reply::default() }
}
