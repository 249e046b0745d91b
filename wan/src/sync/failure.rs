//! How a session ends without success.

use std::time::Duration;

use narrowboat_storage::error::{Environment, Error};

use crate::wire::{Stop, StopCode, WireError};

/// Why a session ended without success. Whatever arrived until then is kept, and need not be sent again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The peer sent bytes that are no message.
    #[error("the peer sent what this version cannot read: {0}")]
    Wire(#[from] WireError),
    /// The peer sent a message that has no place here.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer cannot work with this box.
    #[error("{sentence}")]
    Incompatible {
        /// What the peer is told.
        code: StopCode,
        /// Why.
        sentence: String,
    },
    /// The peer may not do what it asked for.
    #[error("refused: {0}")]
    NotAllowed(Error),
    /// The peer sent an object that is not what its name says, or whose references are not here.
    #[error("the peer sent damaged content: {0}")]
    WrongContent(String),
    /// What began like the name of something here was something else, which is told from damage only by asking again; or what was called present has gone since.
    #[error("the peer is to ask again by full names: {0}")]
    FullNames(String),
    /// The peer did not prove that it has what it did not send, or proved it wrongly.
    #[error("the peer did not prove to have what its snapshot consists of: {0}")]
    NotProved(String),
    /// The snapshot refers to what the peer neither sent nor was asked to prove. It may, in another attempt.
    #[error("the peer is to offer the snapshot without a base: {0}")]
    Unproven(String),
    /// This side's store failed.
    #[error(transparent)]
    Store(Error),
    /// The peer ended the session.
    #[error("the peer ended the replication: {}", .0.sentence)]
    Stopped(Stop),
    /// The peer said nothing for so long.
    #[error("the peer said nothing for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// There is no place for the session just now: others have their turn.
    #[error("{0}")]
    Busy(String),
    /// The connection is gone.
    #[error("the connection was lost")]
    Lost,
    /// A person or a schedule ended it.
    #[error("cancelled")]
    Cancelled,
}

impl Failure {
    /// True where the same replication may succeed later without a person doing anything.
    pub fn may_pass(&self) -> bool {
        match self {
            Failure::Lost | Failure::Silent(_) | Failure::Busy(_) => true,
            // A bit that flipped in the peer's memory is worth a second try; the driver bounds the number of tries.
            Failure::WrongContent(_) | Failure::FullNames(_) | Failure::Unproven(_) => true,
            Failure::Store(Error::Environment(environment)) => environment.may_pass(),
            Failure::Stopped(stop) => matches!(
                stop.code,
                StopCode::Full
                    | StopCode::Silent
                    | StopCode::Busy
                    | StopCode::Store
                    | StopCode::WrongContent
                    | StopCode::FullNames
                    | StopCode::Unproven
            ),
            _ => false,
        }
    }

    /// True where the peer did what it may not, or asked for it: somebody who looks after the box should hear of that. A line that breaks, a disk that is
    /// full, and a turn that is over are nobody's fault; what the peer ends is for the peer's own people.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Failure::Wire(_)
                | Failure::Protocol(_)
                | Failure::Incompatible { .. }
                | Failure::NotAllowed(_)
                | Failure::WrongContent(_)
                | Failure::NotProved(_)
        )
    }

    /// True where nothing is wrong, and others have their turn: it goes on by itself, however long that takes.
    pub fn is_busy(&self) -> bool {
        match self {
            Failure::Busy(_) => true,
            Failure::Stopped(stop) => stop.code == StopCode::Busy,
            _ => false,
        }
    }

    /// True where the receiver took for known what it does not have, and wants to be asked by full names.
    pub fn wants_full_names(&self) -> bool {
        matches!(self, Failure::Stopped(stop) if stop.code == StopCode::FullNames)
    }

    /// True where the receiver wants the snapshot to be offered without a base, so that it is asked for everything.
    pub fn wants_no_base(&self) -> bool {
        matches!(self, Failure::Stopped(stop) if stop.code == StopCode::Unproven)
    }

    /// What the peer is told, where there is something to tell.
    pub(crate) fn stop(&self) -> Option<Stop> {
        let code = match self {
            Failure::Wire(_) | Failure::Protocol(_) => StopCode::Protocol,
            Failure::Incompatible { code, .. } => *code,
            Failure::NotAllowed(_) => StopCode::NotAllowed,
            Failure::WrongContent(_) => StopCode::WrongContent,
            Failure::FullNames(_) => StopCode::FullNames,
            Failure::NotProved(_) => StopCode::NotAllowed,
            Failure::Unproven(_) => StopCode::Unproven,
            Failure::Store(Error::Environment(Environment::Full)) => StopCode::Full,
            Failure::Store(_) => StopCode::Store,
            Failure::Silent(_) => StopCode::Silent,
            Failure::Busy(_) => StopCode::Busy,
            Failure::Cancelled => StopCode::Cancelled,
            Failure::Stopped(_) | Failure::Lost => return None,
        };
        let sentence = match self {
            // Paths and offsets of this box are nobody else's business.
            Failure::Store(Error::Environment(Environment::Full)) => "the disk is full".to_owned(),
            Failure::Store(_) => "the store failed; its own log says more".to_owned(),
            Failure::NotAllowed(reason) => reason.to_string(),
            other => other.to_string(),
        };
        Some(Stop { code, sentence })
    }
}
