//! Front doors: the protocols that clients speak, each on top of a seam of `narrowboat_storage`.

/// The shares of a store as exports.
pub mod exports;
/// NFSv3 and MOUNT over TCP.
pub mod nfs;
