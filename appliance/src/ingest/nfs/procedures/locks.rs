//! NLM version 4 (RFC 1813 appendix II), as far as saying that there are no locks.
//!
//! A client that mounts without `nolock` sends every lock to this program, and where nobody answers, Linux asks again and
//! again while the locking program hangs. So each wish for a lock is refused at once: the program gets `ENOLCK`.
//!
//! It never holds a lock, and never says that it does. The procedures that are answered by a call in the other direction
//! (`*_MSG`) are unavailable.

use super::super::rpc::Refused;
use super::super::xdr::{Decoder, Encoder};

/// Longest `netobj`, such as the cookie of a call.
const COOKIE_BYTES_MAX: usize = 1024;

const GRANTED: u32 = 0;
const DENIED: u32 = 1;
const DENIED_NO_LOCKS: u32 = 2;

/// Carries out one call.
pub(crate) fn call(procedure: u32, args: &mut Decoder, out: &mut Encoder) -> Result<(), Refused> {
    const TEST: u32 = 1;
    const LOCK: u32 = 2;
    const CANCEL: u32 = 3;
    const UNLOCK: u32 = 4;
    const SHARE: u32 = 20;
    const UNSHARE: u32 = 21;
    const NM_LOCK: u32 = 22;
    const FREE_ALL: u32 = 23;
    let stat = match procedure {
        0 | FREE_ALL => return Ok(()),
        TEST | LOCK | SHARE | NM_LOCK => DENIED_NO_LOCKS,
        // No lock is being waited for.
        CANCEL => DENIED,
        // What nobody holds is free.
        UNLOCK | UNSHARE => GRANTED,
        _ => return Err(Refused::ProcedureUnavailable),
    };
    out.opaque(args.opaque(COOKIE_BYTES_MAX)?);
    out.u32(stat);
    if matches!(procedure, SHARE | UNSHARE) {
        out.u32(0); // A sequence number, which means nothing.
    }
    Ok(())
}
