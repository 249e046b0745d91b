//! A worker: waits for an event, reads a record, carries out the call, writes the reply.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use rustix::event::epoll::{self, EventFlags};

use super::connection::{Connection, Queued};
use super::{Shared, WAKE, lock};
use crate::ingest::nfs::rpc::{self, Outcome, Refused};
use crate::ingest::nfs::xdr::Encoder;

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
        flush(shared, connection);
    }
    if !read {
        shared.arm(connection);
        return;
    }
    match read_record(shared, connection) {
        Ok(Some(begun)) => {
            shared.arm(connection);
            carry_out(shared, connection, begun);
        }
        Ok(None) => settle(shared, connection),
        Err(error) => {
            tracing::debug!(client = %connection.peer.client, %error, "connection broke");
            shared.close(connection);
        }
    }
}

/// A call that is to be carried out, and what is charged for it and its reply.
struct Begun {
    record: Bytes,
    charged: usize,
}

/// Reads until a record is whole, the socket has nothing more, or memory is missing; then lets others read.
fn read_record(shared: &Shared, connection: &Connection) -> io::Result<Option<Begun>> {
    let mut assembler = connection.reader.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut heard, mut ended, mut hungry) = (0, false, false);
    let broken = |broken| io::Error::new(io::ErrorKind::InvalidData, broken);
    let record = loop {
        if let Some(len) = assembler.wanted().map_err(broken)?
            && !hold(shared, connection, len)
        {
            hungry = true;
            break None;
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
        shared.budget.charge(charged);
        Begun { record, charged }
    });
    let mut state = connection.state();
    let held = assembler.held_bytes();
    let released = if state.closed { 0 } else { state.held_bytes - held.min(state.held_bytes) };
    state.held_bytes -= released;
    state.staged = hungry || begun.is_some() && assembler.has_staged();
    state.reading = false;
    state.ended |= ended;
    state.calls += usize::from(begun.is_some());
    if heard > 0 {
        state.moved(heard);
    }
    drop(state);
    shared.release(released);
    Ok(begun)
}

/// Takes memory for the buffer of a record, where there is some.
fn hold(shared: &Shared, connection: &Connection, len: usize) -> bool {
    let mut state = connection.state();
    let held = !state.closed && shared.budget.reserve(len);
    if held {
        state.held_bytes += len;
    }
    held
}

/// Carries one call out and sends its reply. Our own mistakes are answered as such and harm nobody else.
fn carry_out(shared: &Arc<Shared>, connection: &Arc<Connection>, Begun { record, charged }: Begun) {
    if shared.waiting.load(SeqCst) == 0
        && *lock(&shared.workers) < shared.config.workers_max
        && let Err(error) = start(shared)
    {
        tracing::warn!(%error, "cannot start another NFS worker");
    }
    let xid = record.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let now = (shared.config.clock)();
    let outcome = catch_unwind(AssertUnwindSafe(|| connection.service.call(record, &connection.peer, now)))
        .unwrap_or_else(|_| {
            tracing::error!("a call broke off; the client is told so");
            let mut out = Encoder::new();
            rpc::refuse(&mut out, xid, Refused::SystemError);
            Outcome::Reply(out.finish_record())
        });
    match outcome {
        Outcome::Reply(reply) => {
            shared.budget.charge(reply.len());
            let reply_len = reply.len();
            match connection.queue(reply) {
                Queued::Write => flush(shared, connection),
                Queued::Leave => {}
                Queued::Never => shared.release(reply_len),
            }
        }
        Outcome::Silence => {}
        Outcome::Close => shared.close(connection),
    }
    connection.state().calls -= 1;
    shared.release(charged);
    settle(shared, connection);
}

/// Writes what is queued. Only for a caller that has begun writing.
fn flush(shared: &Shared, connection: &Connection) {
    if let Err(error) = connection.write(|bytes| shared.release(bytes)) {
        tracing::debug!(client = %connection.peer.client, %error, "client went away");
        shared.close(connection);
    }
}

/// After something ended: closes the connection where nothing more can come of it, or says what it waits for.
fn settle(shared: &Shared, connection: &Connection) {
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
