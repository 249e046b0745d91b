//! A worker: waits for an event, reads, runs tasks, writes, and reads again while there is something to be read.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Instant;

use rustix::event::epoll::{self, EventFlags};

use super::connection::Connection;
use super::pace::Company;
use super::places::Held;
use super::{Shared, WAKE, lock};
use crate::ingest::iscsi::session::{Done, Session, Task, Weight};

/// Bytes of answers from which on no more is read before they are sent: what needs no task (pings, text, task management)
/// is answered where it is read.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Most bytes that are read in a row: who sends without end, and nothing that a task comes of, does not keep a worker.
const READ_BYTES_MAX: usize = 1 << 20;

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

/// Does what an event of a connection asks for, and goes on while its initiator keeps sending.
fn serve(shared: &Arc<Shared>, connection: &Arc<Connection>, flags: EventFlags) {
    let mut readable = flags.intersects(!EventFlags::OUT);
    loop {
        let read = {
            let mut state = connection.state();
            state.armed = EventFlags::empty();
            let wanted = (readable || state.staged) && !state.closed && !state.reading && !state.ended;
            let read = wanted && !shared.is_clogged(connection, &state);
            state.reading |= read;
            read
        };
        if read && let Err(error) = read_some(connection) {
            tracing::debug!(initiator = %connection.peer, %error, "connection broke");
            shared.close(connection);
            return;
        }
        shared.deliver(connection);
        // Where several came together there are more by now, most likely: asking the socket costs less than being woken.
        readable = run_tasks(shared, connection);
        if !readable || shared.is_stopping() {
            break;
        }
    }
    shared.arm(connection);
}

/// Reads until a task is ready, the socket has nothing more, or it is much already; then lets others read.
fn read_some(connection: &Connection) -> io::Result<()> {
    let mut assembler = connection.reader.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut ended, mut staged, mut heard) = (false, false, 0);
    // Those for which there was no place do not keep anyone from reading on.
    let has_task = |session: &Session| session.has_task(|weight| connection.state().may_try(weight));
    loop {
        match assembler.next_pdu() {
            Ok(Some(pdu)) => {
                let mut session = connection.session();
                session.receive(pdu, Instant::now());
                let (digests, data_bytes_max) = session.framing();
                assembler.set(digests, data_bytes_max);
                // What is staged costs no more reading: the session may know many commands before the first is begun.
                if session.is_closing() || (has_task(&session) && !assembler.has_staged()) {
                    break;
                }
                if session.output_bytes() >= ANSWER_BYTES_MAX {
                    staged = assembler.has_staged();
                    break;
                }
            }
            Ok(None) if heard >= READ_BYTES_MAX => break,
            Ok(None) if has_task(&connection.session()) => break,
            Ok(None) => match (&connection.socket).read(assembler.room()) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(len) => {
                    heard += len;
                    assembler.filled(len);
                }
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
    // A PDU that is not whole makes no event of its own; the socket will. One that is whole would be forgotten.
    state.staged = staged;
    state.reading = false;
    state.ended |= ended;
    Ok(())
}

/// Settles what is done, all at once, and sends the answers. False where there was nothing, or no place for settling.
fn send_finished(shared: &Arc<Shared>, connection: &Connection, held: &mut Held) -> bool {
    let settles = connection.finished().has_unsettled();
    let may_wait = !settles || held.admits(Weight::Command, &mut connection.state());
    let (mut done, reply_bytes) = connection.finished().take(may_wait);
    if done.is_empty() {
        return false;
    }
    if catch_unwind(AssertUnwindSafe(|| Done::settle(&mut done))).is_err() {
        tracing::error!("tasks could not be settled; the initiator is told so");
        Done::give_up(&mut done);
    }
    let mut session = connection.session();
    done.into_iter().for_each(|done| session.complete(done));
    drop(session);
    shared.deliver(connection);
    connection.ended(reply_bytes);
    true
}

/// Runs tasks of a connection while there are any and the initiator takes what comes of them. Quick tasks are settled and
/// answered together. True where there were several and nobody was called to help.
fn run_tasks(shared: &Arc<Shared>, connection: &Arc<Connection>) -> bool {
    let (mut ran, mut called, mut held) = (0, false, Held::new(shared, connection));
    let mut now = Instant::now();
    loop {
        // What is done waits for the next task only where both are quick.
        if connection.finished().is_due(now) {
            send_finished(shared, connection, &mut held);
        }
        let Some((task, ready)) = connection.begin_task(shared.config.connection_reply_bytes_max, &mut held) else {
            // Ordered tasks, and those for which a window or memory comes free, come behind them.
            if send_finished(shared, connection, &mut held) {
                continue;
            }
            break;
        };
        let begun = Instant::now();
        let company = connection.pace.company(ready);
        if company == Company::Always || (company == Company::Once && !called) {
            shared.call_worker(connection);
            called = true;
        } else if ran == 0 {
            shared.works_alone(connection, begun);
        }
        let reply_bytes = task.reply_bytes();
        let done = run_one(task);
        now = Instant::now();
        let is_first = connection.finished().add(done, reply_bytes, now);
        connection.pace.took(now.saturating_duration_since(begun));
        if company == Company::Always {
            // Where tasks take long, the next one must not keep what is done from whoever waits for it.
            send_finished(shared, connection, &mut held);
        } else if is_first {
            shared.watch.begins();
        }
        ran += 1;
    }
    connection.state().alone = None;
    ran > 1 && !called
}

/// Runs one task. Our own mistakes are answered as such and harm nobody else.
fn run_one(task: Task) -> Done {
    let ids = task.ids();
    catch_unwind(AssertUnwindSafe(|| task.run())).unwrap_or_else(|_| {
        tracing::error!("a task broke off; the initiator is told so");
        Done::failed(ids)
    })
}
