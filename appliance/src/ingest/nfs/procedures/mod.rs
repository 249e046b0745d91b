//! The procedures of NFSv3 (RFC 1813 section 3.3) and MOUNT (appendix I).
//!
//! Each is one function: read the arguments whole, act on the tree, write the results. What fails after the arguments
//! were read is answered with a status and, where the protocol has room for it, with the attributes that the file or
//! directory has now.
//!
//! Every namespace change, and every write that asks for it, is stable before its function returns.

use std::net::SocketAddr;

use narrowboat_storage::dataset::{Call, CallTag};
use narrowboat_storage::units::Timestamp;

use super::export::Exports;
use super::handle::HandleKey;
use super::rpc::Identity;
use super::status::Status;
use super::xdr::{Decoder, Encoder, Malformed};

mod attributes;
mod directories;
mod filesystem;
mod io;
mod names;

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
    /// When.
    pub now: Timestamp,
    /// Which call, for those that are remembered across a restart.
    pub tag: Option<CallTag>,
}

impl Context<'_> {
    /// The circumstances as the tree wants them.
    fn call<'a>(&self, place: &'a Place) -> Call<'a> {
        Call { caller: &place.caller, now: self.now, tag: self.tag }
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
}

const fn procedure(
    name: &'static str,
    repeat: Repeat,
    run: fn(&Context, &mut Decoder, &mut Encoder) -> Outcome,
) -> Procedure {
    Procedure { name, repeat, run }
}

/// All procedures of NFSv3, in the order of their numbers.
pub(crate) static PROCEDURES: [Procedure; 22] = {
    use Repeat::{Harmless, Journaled, Kept};
    [
        procedure("NULL", Harmless, null),
        procedure("GETATTR", Harmless, attributes::getattr),
        procedure("SETATTR", Journaled, attributes::setattr),
        procedure("LOOKUP", Harmless, names::lookup),
        procedure("ACCESS", Harmless, attributes::access),
        procedure("READLINK", Harmless, io::readlink),
        procedure("READ", Harmless, io::read),
        procedure("WRITE", Kept, io::write),
        procedure("CREATE", Journaled, names::create),
        procedure("MKDIR", Journaled, names::mkdir),
        procedure("SYMLINK", Journaled, names::symlink),
        procedure("MKNOD", Journaled, names::mknod),
        procedure("REMOVE", Journaled, names::remove),
        procedure("RMDIR", Journaled, names::rmdir),
        procedure("RENAME", Journaled, names::rename),
        procedure("LINK", Journaled, names::link),
        procedure("READDIR", Harmless, directories::readdir),
        procedure("READDIRPLUS", Harmless, directories::readdirplus),
        procedure("FSSTAT", Harmless, filesystem::fsstat),
        procedure("FSINFO", Harmless, filesystem::fsinfo),
        procedure("PATHCONF", Harmless, filesystem::pathconf),
        procedure("COMMIT", Harmless, io::commit),
    ]
};

fn null(_: &Context, _: &mut Decoder, _: &mut Encoder) -> Outcome {
    Ok(Status::Ok)
}
