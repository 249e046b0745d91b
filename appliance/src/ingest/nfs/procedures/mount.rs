//! MOUNT version 3 (RFC 1813 appendix I): how a client gets its first handle.
//!
//! Any directory of an export can be mounted, and any snapshot, by path. Versions 1 and 2 (RFC 1094 appendix A) are
//! answered where they say the same; their handles have 32 bytes, ours have more, so they cannot mount.
//!
//! Who has mounted what is kept for `showmount -a` alone, in memory, bounded, and promised by nobody: the protocol never
//! meant more by it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use narrowboat_storage::dataset::FileType;
use narrowboat_storage::units::Inode;

use super::super::export::Export;
use super::super::handle::Region;
use super::super::rpc::Refused;
use super::super::status::Status;
use super::super::wire::{MOUNT_PATH_BYTES_MAX, MOUNT_VERSION};
use super::super::xdr::{Decoder, Encoder};
use super::Context;

/// Most mounts that are remembered for `DUMP`.
const MOUNTS_MAX: usize = 1024;
/// The flavour of credentials that exports ask for.
const AUTH_SYS: u32 = 1;

/// Who mounted what, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Mounts(VecDeque<(IpAddr, String)>);

impl Mounts {
    fn add(&mut self, client: IpAddr, path: &str) {
        self.remove(client, path);
        if self.0.len() >= MOUNTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((client, path.to_owned()));
    }

    fn remove(&mut self, client: IpAddr, path: &str) {
        self.0.retain(|(host, mounted)| *host != client || mounted != path);
    }

    fn remove_all(&mut self, client: IpAddr) {
        self.0.retain(|(host, _)| *host != client);
    }
}

/// Carries out one call of MOUNT.
pub(crate) fn call(
    cx: &Context,
    mounts: &std::sync::Mutex<Mounts>,
    version: u32,
    procedure: u32,
    args: &mut Decoder,
    out: &mut Encoder,
) -> Result<Status, Refused> {
    let mounts = || mounts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let client = cx.client.ip().to_canonical();
    match procedure {
        0 => {}
        1 => {
            let path = args.opaque(MOUNT_PATH_BYTES_MAX)?;
            let result = if version == MOUNT_VERSION { mount(cx, path) } else { Err(Status::NotSupported) };
            return match result {
                Ok((handle, path)) => {
                    mounts().add(client, &path);
                    out.status(Status::Ok);
                    out.opaque(&handle);
                    out.u32(1);
                    out.u32(AUTH_SYS);
                    Ok(Status::Ok)
                }
                Err(status) => {
                    out.status(status);
                    Ok(status)
                }
            };
        }
        2 => {
            for (host, path) in &mounts().0 {
                out.bool(true);
                out.opaque(host.to_string().as_bytes());
                out.opaque(path.as_bytes());
            }
            out.bool(false);
        }
        3 => {
            let path = String::from_utf8_lossy(args.opaque(MOUNT_PATH_BYTES_MAX)?).into_owned();
            let parts = components(&path);
            mounts().remove(client, &format!("/{}", parts.join("/")));
            if let Some((export, _)) = find_export(cx, &parts) {
                cx.users.forget(Some(export.id), client);
            }
        }
        4 => {
            mounts().remove_all(client);
            cx.users.forget(None, client);
        }
        5 => export_list(cx, out),
        6 if version < MOUNT_VERSION => export_list(cx, out), // EXPORTALL: the same.
        _ => return Err(Refused::ProcedureUnavailable),
    }
    Ok(Status::Ok)
}

fn export_list(cx: &Context, out: &mut Encoder) {
    for export in cx.exports.list() {
        out.bool(true);
        out.opaque(export.name.as_bytes());
        for network in &export.clients {
            out.bool(true);
            out.opaque(network.to_string().as_bytes());
        }
        out.bool(false);
    }
    out.bool(false);
}

fn components(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// Finds the directory that a client wants to mount, and says how the path reads without superfluous slashes.
fn mount(cx: &Context, path: &[u8]) -> Result<([u8; super::super::handle::HANDLE_BYTES], String), Status> {
    // Names of exports are text, so a path that is none leads nowhere.
    let path = std::str::from_utf8(path).map_err(|_| Status::NoEntry)?;
    let parts = components(path);
    let (export, inside) = find_export(cx, &parts).ok_or(Status::NoEntry)?;
    let mut place = cx.enter(export, Region::Live, Inode::ROOT)?;
    for name in parts.get(inside..).unwrap_or_default() {
        let found = place.lookup(name.as_bytes())?;
        if found.attributes.attributes.file_type != FileType::Directory {
            return Err(Status::NotDirectory);
        }
        place = cx.enter(place.export, found.handle.region, found.handle.inode)?;
    }
    if place.tree.attributes(place.inode)?.file_type != FileType::Directory {
        return Err(Status::NotDirectory);
    }
    Ok((place.seal(cx.handles, place.inode), format!("/{}", parts.join("/"))))
}

/// The export with the longest name that the path begins with, and how many parts that name has.
fn find_export(cx: &Context, parts: &[&str]) -> Option<(Arc<Export>, usize)> {
    (0..=parts.len().min(8)).rev().find_map(|len| {
        let name = format!("/{}", parts.get(..len)?.join("/"));
        cx.exports.by_name(&name).map(|export| (export, len))
    })
}
