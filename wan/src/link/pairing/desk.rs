//! The desk: which invitation is open, for how long, and how many attempts it has left.

use std::time::Duration;

use super::code::Code;
use super::session::PairingError;
use crate::peer::PeerName;

/// How long an invitation stays open.
pub const OPEN_FOR: Duration = Duration::from_secs(600);
/// How many times somebody may begin to pair with it.
pub const ATTEMPTS: u8 = 3;

/// At most one invitation is open at a time; a new one replaces it. Times are durations since any fixed origin.
#[derive(Debug, Default)]
pub struct Desk {
    open: Option<Invitation>,
    serial: u64,
}

#[derive(Debug)]
struct Invitation {
    serial: u64,
    code: Code,
    name: Option<PeerName>,
    expires_at: Duration,
    attempts_left: u8,
}

/// One attempt at an invitation.
#[derive(Debug)]
pub struct Attempt {
    serial: u64,
    pub(super) code: Code,
    /// Attempts that are left after this one.
    pub left: u8,
}

impl Desk {
    /// Opens an invitation. `name` is what the joiner will be called here, whatever it calls itself.
    pub fn invite(&mut self, now: Duration, code: Code, name: Option<PeerName>) {
        self.serial += 1;
        let expires_at = now + OPEN_FOR;
        self.open = Some(Invitation { serial: self.serial, code, name, expires_at, attempts_left: ATTEMPTS });
    }

    /// Takes the invitation back.
    pub fn cancel(&mut self) {
        self.open = None;
    }

    /// When the open invitation ends; None where there is none.
    pub fn open_until(&self, now: Duration) -> Option<Duration> {
        self.open.as_ref().map(|open| open.expires_at).filter(|until| now < *until)
    }

    /// Begins an attempt, and burns it.
    pub fn begin(&mut self, now: Duration) -> Result<Attempt, PairingError> {
        let open = self.open.as_mut().ok_or(PairingError::NotInvited)?;
        if now >= open.expires_at {
            self.open = None;
            return Err(PairingError::Expired);
        }
        let Some(left) = open.attempts_left.checked_sub(1) else {
            self.open = None;
            return Err(PairingError::NotInvited);
        };
        open.attempts_left = left;
        Ok(Attempt { serial: open.serial, code: open.code.clone(), left })
    }

    /// The code was proved in this attempt: uses the invitation up, and tells the name that was given with it. Fails
    /// where another attempt was faster or the invitation was taken back meanwhile.
    pub fn redeem(&mut self, attempt: &Attempt) -> Result<Option<PeerName>, PairingError> {
        match self.open.take() {
            Some(open) if open.serial == attempt.serial => Ok(open.name),
            other => {
                self.open = other;
                Err(PairingError::NotInvited)
            }
        }
    }

    /// The code was not proved; after the last attempt the invitation is closed.
    pub fn fail(&mut self, attempt: &Attempt) {
        if attempt.left == 0 && self.open.as_ref().is_some_and(|open| open.serial == attempt.serial) {
            self.open = None;
        }
    }
}
