//! Replies that wait for a sync, and who waits for it.
//!
//! A worker that has carried out a call whose reply is owed puts it here and reads on. When it has nothing left to read,
//! it settles what is here, unless another worker does already: that one goes on until nothing is owed. So one worker waits for the
//! disk and all that is owed meanwhile shares the next sync; the others are free for calls, and nobody is woken for a reply
//! but the client.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::connection::Connection;
use super::worker::{broke_off, flush, settle};
use super::{Shared, lock};
use crate::ingest::nfs::rpc::Owed;

/// A reply that is owed to a client.
pub(super) struct Debt {
    pub connection: Arc<Connection>,
    pub owed: Owed,
    /// Names the call to the client.
    pub xid: u32,
    /// Bytes that are charged until it is settled.
    pub charged: usize,
}

/// All that is owed.
#[derive(Default)]
pub(super) struct Debts(Mutex<Ledger>);

#[derive(Default)]
struct Ledger {
    owed: Vec<Debt>,
    /// A worker settles.
    settling: bool,
}

impl Debts {
    pub(super) fn add(&self, debt: Debt) {
        lock(&self.0).owed.push(debt);
    }

    /// All there is to settle; nothing where another worker settles. Whoever gets something settles, and must come back
    /// with `settling` until there is nothing.
    fn take(&self, settling: bool) -> Vec<Debt> {
        let mut ledger = lock(&self.0);
        if ledger.settling && !settling {
            return Vec::new();
        }
        ledger.settling = !ledger.owed.is_empty();
        std::mem::take(&mut ledger.owed)
    }
}

/// Settles what is owed until nothing is, unless another worker does.
pub(super) fn settle_all(shared: &Arc<Shared>) {
    let mut batch = shared.debts.take(false);
    while !batch.is_empty() {
        settle_batch(shared, batch);
        batch = shared.debts.take(true);
    }
}

/// The first reply waits for the sync, the others find it done. Then every client gets all of its replies at once.
fn settle_batch(shared: &Arc<Shared>, batch: Vec<Debt>) {
    let mut clients: Vec<(Arc<Connection>, usize, usize)> = Vec::new();
    for Debt { connection, owed, xid, charged } in batch {
        let reply = catch_unwind(AssertUnwindSafe(|| owed.settle())).unwrap_or_else(|_| broke_off(xid));
        shared.enqueue(&connection, reply);
        match clients.iter_mut().find(|(known, ..)| known.id == connection.id) {
            Some((_, calls, bytes)) => (*calls, *bytes) = (*calls + 1, *bytes + charged),
            None => clients.push((connection, 1, charged)),
        }
    }
    for (connection, calls, charged) in clients {
        flush(shared, &connection);
        connection.state().calls -= calls;
        shared.release(charged);
        settle(shared, &connection);
    }
}
