//! A worker: waits for an event, reads a record, carries out the call, writes the reply.
//!
//! Before a call that may take long it lets another worker read on. Brief calls that have arrived together it carries out one
//! after the other, and writes their replies together: handing each to another thread would cost more than the call.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use rustix::event::epoll::{self, EventFlags};

use super::connection::Connection;
use super::debts::{self, Debt};
use super::places::Held;
use super::{Shared, WAKE, lock};
use crate::ingest::nfs::rpc::{self, Outcome, Refused};
use crate::ingest::nfs::xdr::{Encoder, Message};

/// Starts one more worker.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    *lock(&shared.workers) += 1;
    let mine = shared.clone();
    let started = std::thread::Builder::new().name("nfs-worker".into()).spawn(move || {
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
    let (read, write) = {
        let mut state = connection.state();
        state.armed = EventFlags::empty();
        let readable = state.staged || flags.intersects(!EventFlags::OUT);
        let read = readable && !state.closed && !state.reading && shared.may_read(connection, &state);
        state.reading |= read;
        (read, state.begin_writing())
    };
    if write {
        write_queued(shared, connection);
    }
    if read {
        read_calls(shared, connection);
        flush(shared, connection);
    }
    carry_out_waiting(shared, connection);
    // That may have been the last word to a client that had said all.
    settle(shared, connection);
    // Everybody else may read while this worker waits for the disk.
    keep_one_waiting(shared);
    debts::settle_all(shared);
}

/// Reads calls and carries them out, or lets them wait for a place.
fn read_calls(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    let mut held = Held::new(shared, connection);
    while let Some(Begun { call, reads_on }) = next_call(shared, connection) {
        if !reads_on {
            shared.arm(connection);
        }
        // Also before a brief call: a lock, or a full disk, may hold it up for long.
        keep_one_waiting(shared);
        if let Some(call) = admit(shared, connection, call, &mut held) {
            carry_out(shared, connection, call);
        }
        if !reads_on {
            break;
        }
    }
}

/// Gives a call back that may be carried out now. Otherwise it waits, behind those that do already; that of a connection which was
/// closed meanwhile is dropped, as those that wait were.
fn admit(shared: &Shared, connection: &Connection, call: Call, held: &mut Held) -> Option<Call> {
    if !connection.service.may_wait(&call.record) {
        return Some(call);
    }
    let mut state = connection.state();
    if state.closed {
        state.calls -= 1;
        drop(state);
        shared.release(connection, call.charged);
        return None;
    }
    if !state.has_waiting() && held.admits(&mut state) {
        return Some(call);
    }
    state.put_off(call);
    None
}

/// Carries calls out that have waited for a place, as long as there are places. One after the other leaves its place, so that
/// connections take turns.
fn carry_out_waiting(shared: &Arc<Shared>, connection: &Arc<Connection>) {
    loop {
        let mut held = Held::new(shared, connection);
        let call = {
            let mut state = connection.state();
            if !state.has_waiting() || !held.admits(&mut state) {
                return;
            }
            state.take_waiting()
        };
        let Some(call) = call else { return };
        // Another worker may try the next one, and read.
        shared.arm(connection);
        keep_one_waiting(shared);
        carry_out(shared, connection, call);
        flush(shared, connection);
    }
}

/// Reads a record; `None` where there is none, or the connection broke.
fn next_call(shared: &Shared, connection: &Connection) -> Option<Begun> {
    read_record(shared, connection).unwrap_or_else(|error| {
        tracing::debug!(client = %connection.peer.client, %error, "connection broke");
        shared.close(connection);
        None
    })
}

/// Starts another worker where none waits for events, up to the bound.
fn keep_one_waiting(shared: &Arc<Shared>) {
    if shared.waiting.load(SeqCst) == 0
        && *lock(&shared.workers) < shared.config.workers_max
        && let Err(error) = start(shared)
    {
        tracing::warn!(%error, "cannot start another NFS worker");
    }
}

/// A call that is to be carried out, and what is charged for it and its reply.
pub(super) struct Call {
    record: Bytes,
    pub(super) charged: usize,
}

/// A call that was read.
struct Begun {
    call: Call,
    /// The worker is to read the next one when it has carried this one out; otherwise others may read.
    reads_on: bool,
}

/// Reads until a record is whole, the socket has nothing more, or memory is missing; then lets others read, unless the
/// call is brief and the next one may be here already.
fn read_record(shared: &Shared, connection: &Connection) -> io::Result<Option<Begun>> {
    let mut assembler = connection.reader.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut heard, mut ended, mut hungry) = (0, false, false);
    let broken = |broken| io::Error::new(io::ErrorKind::InvalidData, broken);
    let record = loop {
        if let Some(len) = assembler.wanted().map_err(broken)? {
            if !connection.is_known() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a long record from a stranger"));
            }
            if !hold(connection, len) {
                hungry = true;
                break None;
            }
        }
        if let Some(record) = assembler.next_record().map_err(broken)? {
            break Some(record);
        }
        match (&connection.socket).read(assembler.room()) {
            Ok(0) => {
                ended = true;
                break None;
            }
            Ok(len) => {
                heard += len;
                assembler.filled(len);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    let begun = record.map(|record| {
        let charged = record.len() + connection.service.reply_bytes(&record);
        connection.memory.charge(charged);
        Call { record, charged }
    });
    let brief = begun.as_ref().is_some_and(|call| connection.service.is_brief(&call.record));
    let mut state = connection.state();
    let held = assembler.held_bytes();
    let released = if state.closed { 0 } else { state.held_bytes - held.min(state.held_bytes) };
    state.held_bytes -= released;
    state.staged = hungry || begun.is_some() && assembler.has_staged();
    state.ended |= ended;
    state.calls += usize::from(begun.is_some());
    if heard > 0 {
        state.moved(heard);
    }
    let reads_on = brief && state.staged && !state.closed && shared.may_read(connection, &state);
    state.reading = reads_on;
    drop(state);
    shared.release(connection, released);
    Ok(begun.map(|call| Begun { call, reads_on }))
}

/// Takes memory for the buffer of a record, where there is some.
fn hold(connection: &Connection, len: usize) -> bool {
    let mut state = connection.state();
    let held = !state.closed && connection.memory.reserve(len);
    if held {
        state.takes_memory();
        state.held_bytes += len;
    }
    held
}

/// Carries one call out and queues its reply. Our own mistakes are answered as such and harm nobody else.
fn carry_out(shared: &Arc<Shared>, connection: &Arc<Connection>, Call { record, charged }: Call) {
    let xid = record.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let now = (shared.config.clock)();
    let service = connection.service.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| service.call(record, &connection.peer, now)))
        .unwrap_or_else(|_| Outcome::Reply(broke_off(xid)));
    match outcome {
        Outcome::Owed(owed) => {
            return shared.debts.add(Debt { connection: connection.clone(), owed, xid, charged });
        }
        Outcome::Reply(reply) => shared.enqueue(connection, reply),
        Outcome::Silence => {}
        Outcome::Close => shared.close(connection),
    }
    connection.state().calls -= 1;
    shared.release(connection, charged);
}

/// The reply to a call in which we panicked.
pub(super) fn broke_off(xid: u32) -> Message {
    tracing::error!("a call broke off; the client is told so");
    let mut out = Encoder::new();
    rpc::refuse(&mut out, xid, Refused::SystemError);
    out.finish_record()
}

/// Writes what is queued, unless another worker does or there is nothing.
pub(super) fn flush(shared: &Shared, connection: &Connection) {
    let begun = connection.state().begin_writing();
    if begun {
        write_queued(shared, connection);
    }
}

/// Writes what is queued. Only for a caller that has begun writing.
fn write_queued(shared: &Shared, connection: &Connection) {
    if let Err(error) = connection.write(|bytes| shared.release(connection, bytes)) {
        tracing::debug!(client = %connection.peer.client, %error, "client went away");
        shared.close(connection);
    }
}

/// After something ended: closes the connection where nothing more can come of it, or says what it waits for.
pub(super) fn settle(shared: &Shared, connection: &Connection) {
    let over = {
        let state = connection.state();
        (state.ended || shared.is_stopping()) && state.is_idle() && !state.reading
    };
    if over {
        shared.close(connection);
    } else {
        shared.arm(connection);
    }
}
