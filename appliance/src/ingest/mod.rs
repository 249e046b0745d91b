//! Front doors: the protocols that clients speak, each on top of a seam of `narrowboat_storage`.

/// NFSv3 and MOUNT over TCP.
pub mod nfs;
