//! Replies that wait for a sync, and who waits for it.
//!
//! A worker that has carried out a call whose reply is owed puts it here and reads on. When it has nothing left to read,
//! it settles what is here, unless another worker does already: that one goes on until nothing is owed. So one worker waits for the
//! disk and all that is owed meanwhile shares the next sync; the others are free for calls, and nobody is woken for a reply
//! but the client.

use std::collections::VecDeque;
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
pub(super) struct Debts<D = Debt>(Mutex<Ledger<D>>);

struct Ledger<D> {
    owed: Vec<D>,
    /// A worker settles.
    settling: bool,
}

impl<D> Default for Debts<D> {
    fn default() -> Self {
        Debts(Mutex::new(Ledger { owed: Vec::new(), settling: false }))
    }
}

impl<D> Debts<D> {
    pub(super) fn add(&self, debt: D) {
        lock(&self.0).owed.push(debt);
    }

    /// Settles all there is, and what is added meanwhile, in batches, until nothing is owed; does nothing where another
    /// worker settles. A batch that panics is lost alone: the next one is settled.
    fn settle(&self, mut batch: impl FnMut(Vec<D>)) {
        let Some(mut turn) = self.turn() else { return };
        while let Some(owed) = turn.take() {
            if catch_unwind(AssertUnwindSafe(|| batch(owed))).is_err() {
                tracing::error!("settling broke off; clients whose replies are lost are let go, and will ask again");
            }
        }
    }

    fn turn(&self) -> Option<Turn<'_, D>> {
        let mut ledger = lock(&self.0);
        (!std::mem::replace(&mut ledger.settling, true)).then(|| Turn { debts: self, over: false })
    }
}

/// A worker's turn to settle. It ends with the last debt, under the lock that adds take, so that none is added unseen; and however
/// else the worker leaves, so that another one can take over.
struct Turn<'a, D> {
    debts: &'a Debts<D>,
    over: bool,
}

impl<D> Turn<'_, D> {
    /// All that is owed now; `None` ends the turn.
    fn take(&mut self) -> Option<Vec<D>> {
        let mut ledger = lock(&self.debts.0);
        if ledger.owed.is_empty() {
            (ledger.settling, self.over) = (false, true);
            return None;
        }
        Some(std::mem::take(&mut ledger.owed))
    }
}

impl<D> Drop for Turn<'_, D> {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.debts.0).settling = false;
        }
    }
}

/// Settles what is owed until nothing is, unless another worker does.
pub(super) fn settle_all(shared: &Arc<Shared>) {
    shared.debts.settle(|batch| settle_batch(shared, batch));
}

/// The first reply waits for the sync, the others find it done. Then every client gets all of its replies at once.
fn settle_batch(shared: &Arc<Shared>, batch: Vec<Debt>) {
    let mut clients = Clients::of(shared, &batch);
    for Debt { connection, owed, xid, .. } in batch {
        let reply = catch_unwind(AssertUnwindSafe(|| owed.settle())).unwrap_or_else(|_| broke_off(xid));
        shared.enqueue(&connection, reply);
    }
    clients.finish();
}

/// Whose calls are in a batch: how many of each client, and the bytes that are charged for them.
struct Clients<'a> {
    shared: &'a Arc<Shared>,
    /// Those that have not got their replies yet.
    waiting: VecDeque<(Arc<Connection>, usize, usize)>,
}

impl<'a> Clients<'a> {
    fn of(shared: &'a Arc<Shared>, batch: &[Debt]) -> Self {
        let mut waiting: VecDeque<(Arc<Connection>, usize, usize)> = VecDeque::new();
        for Debt { connection, charged, .. } in batch {
            match waiting.iter_mut().find(|(known, ..)| known.id == connection.id) {
                Some((_, calls, bytes)) => (*calls, *bytes) = (*calls + 1, *bytes + charged),
                None => waiting.push_back((connection.clone(), 1, *charged)),
            }
        }
        Clients { shared, waiting }
    }

    fn finish(&mut self) {
        while let Some((connection, ..)) = self.waiting.front() {
            flush(self.shared, connection);
            let Some((connection, calls, charged)) = self.waiting.pop_front() else { return };
            give_back(self.shared, &connection, calls, charged);
            settle(self.shared, &connection);
        }
    }
}

impl Drop for Clients<'_> {
    /// Whoever is left after a panic may have lost a reply: without its connection a client asks again, with it it waits.
    fn drop(&mut self) {
        for (connection, calls, charged) in self.waiting.drain(..) {
            self.shared.close(&connection);
            give_back(self.shared, &connection, calls, charged);
        }
    }
}

fn give_back(shared: &Shared, connection: &Connection, calls: usize, charged: usize) {
    connection.state().calls -= calls;
    shared.release(connection, charged);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_panics_is_lost_alone() {
        let debts = Debts::default();
        debts.add(1);
        let mut settled = Vec::new();
        debts.settle(|batch| {
            settled.push(batch.clone());
            if batch == [1] {
                debts.add(2);
                debts.settle(|_| unreachable!("one worker settles at a time"));
                panic!("told to");
            }
        });
        debts.add(3);
        debts.settle(|batch| settled.push(batch));
        assert_eq!(settled, [[1], [2], [3]]);
    }

    #[test]
    fn whoever_leaves_without_settling_hands_it_on() {
        let debts = Debts::default();
        debts.add(1);
        drop(debts.turn());
        let mut settled = Vec::new();
        debts.settle(|batch| settled.extend(batch));
        assert_eq!(settled, [1]);
    }
}
