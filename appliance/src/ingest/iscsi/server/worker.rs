//! A worker: waits for an event, reads, runs tasks, writes.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use rustix::event::epoll::{self, EventFlags};

use super::connection::Connection;
use super::{Shared, WAKE, lock};
use crate::ingest::iscsi::session::{Done, Task};

/// Starts one more worker.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    *lock(&shared.workers) += 1;
    let mine = shared.clone();
    let started = std::thread::Builder::new().name("iscsi-worker".into()).spawn(move || {
        let leave = Leave(mine);
        run(&leave.0);
    });
    if started.is_err() {
        *lock(&shared.workers) -= 1;
    }
    started.map(|_| ())
}

/// Counts a worker out, however it ends.
struct Leave(Arc<Shared>);

impl Drop for Leave {
    fn drop(&mut self) {
        *lock(&self.0.workers) -= 1;
        self.0.worker_left.notify_all();
    }
}

fn run(shared: &Arc<Shared>) {
    let mut events = Vec::with_capacity(1);
    loop {
        events.clear();
        shared.waiting.fetch_add(1, SeqCst);
        let waited = epoll::wait(&shared.epoll, rustix::buffer::spare_capacity(&mut events), None);
        shared.waiting.fetch_sub(1, SeqCst);
        if let Err(error) = waited
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "cannot wait for connections");
            return;
        }
        let Some(event) = events.first() else { continue };
        let (id, flags) = (event.data.u64(), event.flags);
        if id == WAKE {
            if shared.is_stopping() && shared.connections().is_empty() {
                return;
            }
            // The wake-up stays readable while the server stops: give the others the processor until then.
            std::thread::sleep(std::time::Duration::from_millis(1));
        } else if let Some(connection) = shared.connection(id) {
            serve(shared, &connection, flags);
        }
    }
}

/// Does what an event of a connection asks for.
fn serve(shared: &Arc<Shared>, connection: &Arc<Connection>, flags: EventFlags) {
    let read = {
        let mut state = connection.state();
        state.armed = EventFlags::empty();
        let readable = state.staged || flags.intersects(!EventFlags::OUT);
        let read =
            readable && !state.closed && !state.reading && !state.ended && !shared.is_clogged(connection, &state);
        state.reading |= read;
        read
    };
    if read && let Err(error) = read_some(connection) {
        tracing::debug!(initiator = %connection.peer, %error, "connection broke");
        shared.close(connection);
        return;
    }
    shared.deliver(connection);
    run_tasks(shared, connection);
    let over = {
        let state = connection.state();
        state.ended && state.is_drained()
    };
    if over && !connection.session().is_busy() {
        shared.close(connection);
    } else {
        shared.arm(connection);
    }
}

/// Reads until a task is ready or the socket has nothing more, then lets others read.
fn read_some(connection: &Connection) -> io::Result<()> {
    let mut assembler = connection.reader.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ended = false;
    loop {
        match assembler.next_pdu() {
            Ok(Some(pdu)) => {
                let mut session = connection.session();
                session.receive(pdu, Instant::now());
                let (digests, data_bytes_max) = session.framing();
                assembler.set(digests, data_bytes_max);
                // What is staged costs no more reading: the session may know many commands before the first is begun.
                if session.is_closing() || (session.has_task() && !assembler.has_staged()) {
                    break;
                }
            }
            Ok(None) if connection.session().has_task() => break,
            Ok(None) => match (&connection.socket).read(assembler.room()) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(len) => assembler.filled(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            },
            Err(broken) => {
                tracing::debug!(initiator = %connection.peer, %broken, "stream broke");
                connection.session().broken(broken);
                break;
            }
        }
    }
    let mut state = connection.state();
    // A PDU that is not whole makes no event of its own; the socket will.
    state.staged = false;
    state.reading = false;
    state.ended |= ended;
    Ok(())
}

/// Runs tasks of a connection while there are any and the initiator takes what comes of them.
fn run_tasks(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    loop {
        let Some(task) = connection.begin_task(shared.config.connection_reply_bytes_max) else { return };
        if shared.waiting.load(SeqCst) == 0
            && *lock(&shared.workers) < shared.config.workers_max
            && let Err(error) = start(shared)
        {
            tracing::warn!(%error, "cannot start another iSCSI worker");
        }
        // Others read on, and take the next task where there is one.
        shared.arm(connection);
        let reply_bytes = task.reply_bytes();
        let done = run_one(task);
        connection.session().complete(done);
        shared.deliver(connection);
        connection.ended(reply_bytes);
    }
}

/// Runs one task. Our own mistakes are answered as such and harm nobody else.
fn run_one(task: Task) -> Done {
    let id = task.id();
    catch_unwind(AssertUnwindSafe(|| task.run())).unwrap_or_else(|_| {
        tracing::error!("a task broke off; the initiator is told so");
        Done::failed(id)
    })
}
