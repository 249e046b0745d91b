//! Front doors: the protocols that clients speak, each on top of a seam of `narrowboat_storage`.

/// Memory for what comes in, used again.
mod buffers;
/// The shares of a store as exports.
pub mod exports;
/// Volumes as iSCSI targets.
pub mod iscsi;
/// NFSv3 and MOUNT over TCP.
pub mod nfs;
/// Which workers may be held for long, and for whom.
mod places;
/// The volumes of a store as iSCSI targets.
pub mod volumes;
