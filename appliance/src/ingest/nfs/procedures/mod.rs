//! The procedures of NFSv3 (RFC 1813 section 3.3) and MOUNT (appendix I).
//!
//! Each is one function: read the arguments whole, act on the tree, write the results. What fails after the arguments
//! were read is answered with a status and, where the protocol has room for it, with the attributes that the file or
//! directory has now.
//!
//! Every namespace change, and every write that asks for it, must be stable before its reply is sent. No function waits
//! for that itself: it writes the reply, and says what the reply owes ([`Context::owe`]). Where it does not become stable,
//! the reply is written anew, as [`Procedure::refuse`] says.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::sync::Arc;

use narrowboat_storage::dataset::{Call, FileTree};
use narrowboat_storage::units::{Lsn, Timestamp};

use super::export::Exports;
use super::handle::HandleKey;
use super::replies::Tags;
use super::rpc::Identity;
use super::status::Status;
use super::users::Users;
use super::xdr::{Decoder, Encoder, Malformed, Mark};

mod attributes;
mod directories;
mod filesystem;
mod io;
mod names;

pub(crate) mod locks;
pub(crate) mod mount;
pub(crate) mod place;

use place::Place;

/// The circumstances of one call.
pub(crate) struct Context<'a> {
    /// What is exported.
    pub exports: &'a dyn Exports,
    /// What handles are sealed with.
    pub handles: &'a HandleKey,
    /// Where the client is.
    pub client: SocketAddr,
    /// Who it says it is.
    pub identity: &'a Identity,
    /// Who uses what.
    pub users: &'a Users,
    /// When.
    pub now: Timestamp,
    /// Which call, for those that are remembered across a restart.
    pub tags: Option<Tags>,
    /// What the reply has to wait for.
    pub debt: OnceCell<Debt>,
}

/// What has to become stable before a reply may be sent.
pub(crate) struct Debt {
    /// The tree that was changed.
    pub tree: Arc<dyn FileTree>,
    /// Up to where.
    pub lsn: Lsn,
    /// Where in the reply a write verifier lies that has to be read after that.
    pub verifier: Option<Mark>,
}

impl Context<'_> {
    /// Lets the reply wait until `lsn` is stable.
    fn owe(&self, place: &Place, lsn: Lsn) {
        // No procedure has more than one thing to wait for.
        let _first = self.debt.set(Debt { tree: place.tree.clone(), lsn, verifier: None });
    }

    /// Lets the reply wait until `lsn` is stable, and the verifier that is written at `verifier` be read after that.
    fn owe_verifier(&self, place: &Place, lsn: Lsn, verifier: Mark) {
        let _first = self.debt.set(Debt { tree: place.tree.clone(), lsn, verifier: Some(verifier) });
    }

    /// The circumstances as the tree wants them.
    fn call<'a>(&self, place: &'a Place) -> Call<'a> {
        Call { caller: &place.caller, now: self.now, tag: self.tags.map(|tags| tags.now) }
    }
}

/// What a procedure says in the end: its status, for the counts. Malformed arguments have no results.
pub(crate) type Outcome = Result<Status, Malformed>;

/// How a repetition of a call is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Carrying it out twice does no harm.
    Harmless,
    /// Its answer is kept in memory. Not in the journal: across a restart nothing that it could overwrite is under way.
    Kept,
    /// Its answer is kept in memory, and what it did in the journal.
    Journaled,
}

/// One procedure.
#[derive(Debug)]
pub(crate) struct Procedure {
    /// Its name in RFC 1813.
    pub name: &'static str,
    /// What to do about repetitions.
    pub repeat: Repeat,
    /// Reads arguments, acts, writes results.
    pub run: fn(&Context, &mut Decoder, &mut Encoder) -> Outcome,
    /// Writes the results of a failure of which nothing is known but its status.
    pub refuse: fn(&mut Encoder, Status),
}

const fn procedure(
    name: &'static str,
    repeat: Repeat,
    run: fn(&Context, &mut Decoder, &mut Encoder) -> Outcome,
    refuse: fn(&mut Encoder, Status),
) -> Procedure {
    Procedure { name, repeat, run, refuse }
}

/// Failures that say nothing but why.
fn bare(out: &mut Encoder, status: Status) {
    out.status(status);
}

/// Failures with the attributes of one file (`post_op_attr`).
fn with_attributes(out: &mut Encoder, status: Status) {
    out.status(status);
    out.post_attributes(None);
}

/// Failures of a change of one file or directory (`wcc_data`).
fn with_change(out: &mut Encoder, status: Status) {
    out.status(status);
    out.unchanged(None);
}

/// Failures of a change of two directories.
fn with_changes(out: &mut Encoder, status: Status) {
    with_change(out, status);
    out.unchanged(None);
}

/// Failures of LINK: attributes of the file, and a change of the directory.
fn with_link(out: &mut Encoder, status: Status) {
    with_attributes(out, status);
    out.unchanged(None);
}

/// All procedures of NFSv3, in the order of their numbers.
pub(crate) static PROCEDURES: [Procedure; 22] = {
    use Repeat::{Harmless, Journaled, Kept};
    [
        procedure("NULL", Harmless, null, bare),
        procedure("GETATTR", Harmless, attributes::getattr, bare),
        procedure("SETATTR", Journaled, attributes::setattr, with_change),
        procedure("LOOKUP", Harmless, names::lookup, with_attributes),
        procedure("ACCESS", Harmless, attributes::access, with_attributes),
        procedure("READLINK", Harmless, io::readlink, with_attributes),
        procedure("READ", Harmless, io::read, with_attributes),
        procedure("WRITE", Kept, io::write, with_change),
        procedure("CREATE", Journaled, names::create, with_change),
        procedure("MKDIR", Journaled, names::mkdir, with_change),
        procedure("SYMLINK", Journaled, names::symlink, with_change),
        procedure("MKNOD", Journaled, names::mknod, with_change),
        procedure("REMOVE", Journaled, names::remove, with_change),
        procedure("RMDIR", Journaled, names::rmdir, with_change),
        procedure("RENAME", Journaled, names::rename, with_changes),
        procedure("LINK", Journaled, names::link, with_link),
        procedure("READDIR", Harmless, directories::readdir, with_attributes),
        procedure("READDIRPLUS", Harmless, directories::readdirplus, with_attributes),
        procedure("FSSTAT", Harmless, filesystem::fsstat, with_attributes),
        procedure("FSINFO", Harmless, filesystem::fsinfo, with_attributes),
        procedure("PATHCONF", Harmless, filesystem::pathconf, with_attributes),
        procedure("COMMIT", Harmless, io::commit, with_change),
    ]
};

fn null(_: &Context, _: &mut Decoder, _: &mut Encoder) -> Outcome {
    Ok(Status::Ok)
}
