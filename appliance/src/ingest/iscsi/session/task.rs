//! Work that is handed out, and what comes back.

use std::sync::Arc;

use bytes::Bytes;

use crate::ingest::iscsi::registry::{Run, Running};
use crate::ingest::iscsi::scsi::{Asked, Device, Nexus, Reply, Sense, Status};

/// What is to be done.
pub(super) enum Work {
    /// A command.
    Command {
        lun: [u8; 8],
        cdb: Bytes,
        data: Bytes,
        announced_bytes: u64,
        epoch: u64,
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

/// One piece of work. Running it may block.
pub struct Task {
    pub(super) id: u64,
    /// Most bytes that it sends back.
    pub(super) reply_bytes: usize,
    pub(super) device: Arc<Device>,
    pub(super) nexus: Arc<Nexus>,
    pub(super) work: Work,
    /// The session whose place this one took: its tasks end first.
    pub(super) after: Option<Arc<Running>>,
    pub(super) run: Run,
}

/// What came of a task.
pub struct Done {
    pub(super) id: u64,
    pub(super) reply: Reply,
}

impl Task {
    /// Carries it out.
    pub fn run(self) -> Done {
        let Task { id, device, nexus, work, after, run, .. } = self;
        let drained = after.is_none_or(|running| running.wait());
        let reply = match work {
            // Storage holds a task of the old session for ever: nothing may be changed beside it.
            _ if !drained => Reply::status(Status::Busy),
            Work::Command { lun, cdb, data, announced_bytes, epoch } => {
                device.execute(&Asked { nexus: &nexus, lun, cdb: &cdb, announced_bytes, epoch }, data)
            }
            Work::ClearTasks { lun } => {
                device.unit(lun).inspect(|unit| unit.clear_tasks(&nexus));
                Reply::good()
            }
            Work::ResetUnit { lun } => {
                device.unit(lun).inspect(|unit| unit.reset());
                Reply::good()
            }
            Work::ResetTarget => {
                device.reset();
                Reply::good()
            }
        };
        drop(run);
        Done { id, reply }
    }

    /// Most bytes of data that come of it: there has to be memory for them before it is begun.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Its number, for [`Done::failed`].
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Done {
    /// What a task came to that broke off by a mistake of our own.
    pub fn failed(id: u64) -> Self {
        let sense = Sense::INTERNAL.encode(false);
        Done { id, reply: Reply { status: Status::CheckCondition, data: Vec::new(), sense } }
    }
}
