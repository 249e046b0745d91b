//! Replication as a plain value: what arrived, what the store said, and the time go in; what to send, what to ask the
//! store, and the end come out. No sockets, no threads, no async, no clock.
//!
//! One session moves one snapshot of one dataset from a [`Source`] to a [`Sink`]:
//!
//! ```text
//!   sender                                         receiver
//!   Hello, Offer(snapshot, bases)  ─────────────▶
//!                                  ◀─────────────  Hello, then Published (its root is here already)
//!                                  ◀─────────────  Hello, then Begin(base, windows)
//!   Ask(names) Ask(names) …        ─────────────▶
//!                                  ◀─────────────  Answer(which are lacking) …
//!   Object Object …  (data streams)─────────────▶
//!                                  ◀─────────────  Ack(durable) …
//!   Commit(count)                  ─────────────▶
//!                                  ◀─────────────  Published(root)
//! ```
//!
//! What it promises:
//! * **Only what is lacking travels**, once. Subtrees that the newest shared snapshot has are not even named.
//! * **The line is never idle for a round trip:** questions run ahead of objects ([`Limits::window_names`]).
//! * **What arrived is kept.** Children come before parents, so each admitted object is complete below itself; a later
//!   session finds it present. At most [`Limits::window_bytes`] (and one object) are sent again after a break,
//!   even where the receiver lost its power.
//! * **Never trust:** every object is unpacked within bounds, hashed, compared with its name, and its references are
//!   found present before it is admitted. Only names that were answered with "lacking" are taken, each once; what comes
//!   unasked is named here.
//! * **Whole or not at all:** the snapshot is published after everything is durable and its root is present, and
//!   the receiver's answer is that root.
//! * **Bounded memory** on both sides, whatever the peer does: see [`Limits`].
//!
//! What it never does: look at a clock, block, allocate by a length that a peer claims, or believe a peer's word.
//!
//! # Driving a session
//!
//! The side that has the snapshot opens the streams, whoever dialled: one two-way control stream and some one-way data
//! streams (striping is explained in the format page), each beginning with a [`crate::wire::Preface`] that carries the
//! same session number. The other side makes its [`Session`] when the control stream's preface arrives, and keeps
//! data streams that come earlier unread until then. From there on both sides do the same, in a loop:
//!
//! 1. Bytes of a stream go through that stream's [`crate::wire::FrameDecoder`]; each frame goes into
//!    [`Session::handle`] as [`Input::Frame`]. Frames of one stream in order; streams in any order. A decoder's error
//!    becomes [`Input::Lost`] with [`Failure::Wire`]. Reading need not wait for anything: a session takes no more than
//!    its windows, and ends itself where a peer sends more.
//! 2. [`Session::poll`] until it is `None`, telling it which streams have room. A [`Job`] is run by [`Worker::run`] where
//!    blocking is allowed, and its [`Done`] handed in: [`Lane::Write`] jobs one after another in order, [`Lane::Read`]
//!    jobs as many at once as is good for the disk (the session has at most a dozen under way).
//! 3. A data frame goes whole onto one stream, whichever has the most room. Saying that there is no room is all the
//!    back pressure there is: a frame that was not polled for is not in memory. Write control at a higher stream
//!    priority than data.
//! 4. Sleep until input arrives, a stream has room again, or [`Session::deadline`]; then hand in [`Input::Time`].
//!
//! Poll again after every input, and when a stream has room again. The session ends when [`Session::is_over`]: then
//! finish the control stream, wait until the peer has acknowledged it (or a second), and take
//! [`Session::finish`]. A connection that breaks is [`Input::Lost`] with [`Failure::Lost`]; a later session for the same
//! snapshot goes on where this one stopped. The link fills in the wire's part of the [`Report`].
//!
//! ```no_run
//! # use std::time::Duration;
//! # use narrowboat_wan::sync::{Input, Output, Room, Session, Worker};
//! # fn room() -> Room { Room { control: true, data: true } }
//! # fn write_control(_: narrowboat_wan::wire::Frame) {}
//! # fn write_data(_: narrowboat_wan::wire::Frame) {}
//! fn turn(session: &mut Session, worker: &Worker, now: Duration, input: Input) {
//!     session.handle(now, input);
//!     while let Some(output) = session.poll(room()) {
//!         match output {
//!             Output::Control(frame) => write_control(frame),
//!             Output::Data(frame) => write_data(frame),
//!             // In a driver: on a thread that may block.
//!             Output::Job(job) => session.handle(now, Input::Done(worker.run(job))),
//!         }
//!     }
//! }
//! ```

mod budget;
mod choices;
mod core;
mod demands;
mod diff;
mod effort;
mod failure;
mod guess;
mod jobs;
mod known;
mod lately;
mod limits;
mod packing;
mod possession;
mod proving;
mod questions;
mod receiver;
mod receiving;
mod replication;
mod report;
mod resemble;
pub mod seam;
mod sender;
mod session;
mod shipping;
mod store;
mod tasks;
#[cfg(test)]
mod tests;
mod thrift;
mod told;
mod walk;
mod ways;
mod worker;

pub use budget::Budget;
pub use choices::Choices;
pub use diff::{Counterpart, Counterparts, Expansion, Fresh};
pub use effort::Compression;
pub use failure::Failure;
pub use guess::Frontier;
pub use jobs::{Arrival, Done, Expected, Job, Lane, Reply, Request};
pub use lately::Lately;
pub use limits::Limits;
pub use packing::{Group, Order, Parcel};
pub use possession::Possessions;
pub use proving::{Cost, Demand, Finding};
pub use replication::Replication;
pub use report::{Report, Tally};
pub use seam::{Admission, Hello, References, Sink, SnapshotOffer, Source};
pub use session::{Input, Output, Room, Session};
pub use store::{BeforeShown, Clock, OwnSnapshots, StoreSink};
pub use worker::Worker;

pub(crate) use self::core::incompatible;
