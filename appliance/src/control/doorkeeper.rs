//! The box's side of the door: takes calls of the page worker, asks the accounts who that is and whether he may, writes the audit log, and has the
//! request done.
//!
//! The worker is taken for hostile. It has one socket to the box, over which it passes one end of a pair for each request; what comes over
//! that is bounded, and counts for no more than the proof in it.

use std::io::{self, BufRead, BufReader, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::Serialize;
use serde_json::{Value, json};

use super::audited::{Told, audited, helps_a_full_disk, request_told};
use super::door::{Ask, Call, Download, State, Strength};
use super::files::Wanted;
use super::{Failed, Message, Request, api, files, network, status, support};
use crate::accounts::{self, Asker, Right, Role, only_looks, right};
use crate::clock;
use crate::jobs::Progress;
use crate::node::Node;

/// Longest call, in bytes.
const CALL_BYTES_MAX: u64 = 64 << 10;
/// Calls at once.
const CALLS_MAX: usize = 64;
/// How long the worker may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take none of what it is told.
const UNHEARD: Duration = Duration::from_secs(60);

/// Serves a worker until its end of `door` is closed, or the box stops.
pub fn keep(node: &Arc<Node>, door: &OwnedFd) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match receive(door) {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the page worker's door failed");
                return;
            }
        };
        let counted = Counted::new(&open);
        if counted.before >= CALLS_MAX {
            // The worker bounds itself below that: one that does not is none of ours, or is broken.
            continue;
        }
        let node = node.clone();
        let spawned = std::thread::Builder::new().name("page".into()).spawn(move || {
            let _counted = counted;
            if let Err(error) = serve(&stream, &node) {
                tracing::debug!(%error, "the page worker left before it was answered");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a request of the page");
        }
    }
}

/// A call that counts until this is dropped, however its thread ends.
struct Counted {
    open: Arc<AtomicUsize>,
    before: usize,
}

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Counted {
        Counted { before: open.fetch_add(1, Ordering::AcqRel), open: open.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The next connection that is passed through the door; `None` at its end.
fn receive(door: &OwnedFd) -> io::Result<Option<UnixStream>> {
    loop {
        let mut byte = [0; 16];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut passed = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let got = match recvmsg(door, &mut parts, &mut passed, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        let mut owned: Vec<OwnedFd> = passed
            .drain()
            .filter_map(|message| if let RecvAncillaryMessage::ScmRights(fds) = message { Some(fds) } else { None })
            .flatten()
            .collect();
        match (got, owned.len()) {
            (0, _) => return Ok(None),
            (_, 1) => return Ok(owned.pop().map(UnixStream::from)),
            // Something else than one connection: what came along is closed.
            _ => {}
        }
    }
}

fn serve(stream: &UnixStream, node: &Arc<Node>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(UNHEARD))?;
    let mut line = String::new();
    BufReader::new(stream.take(CALL_BYTES_MAX)).read_line(&mut line)?;
    let gone = AtomicBool::new(false);
    let mut tell = |progress| {
        if send(stream, &Message::Progress(progress)).is_err() {
            gone.store(true, Ordering::Relaxed);
        }
    };
    let _tasks = node.enter();
    let outcome = match serde_json::from_str::<Call>(&line) {
        Ok(call @ Call { ask: Ask::Download { .. } | Ask::Support, .. }) => {
            return match send_file(node, stream, &call) {
                Ok(()) => Ok(()),
                Err(failed) => send(stream, &Message::Failed(failed)),
            };
        }
        Ok(call) => answer(node, &call, &gone, &mut tell),
        // Not what serde says of it: that may quote a password.
        Err(_) => Err(Failed::refused("this is no call")),
    };
    send(stream, &outcome.map_or_else(Message::Failed, Message::Done))
}

fn send(mut stream: &UnixStream, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Answers a call.
fn answer(node: &Arc<Node>, call: &Call, gone: &AtomicBool, tell: &mut dyn FnMut(Progress)) -> Result<Value, Failed> {
    let asker = allowed(node, call)?;
    let mut work = || match told(&call.ask) {
        None => carry_out(node, call, asker.as_ref(), gone, tell),
        Some(told) => {
            let told = Told::of_page(told, call, asker.as_ref());
            audited(node, &told, || carry_out(node, call, asker.as_ref(), gone, tell))
        }
    };
    // The key is his who asks; what he may not, he may not twice.
    match (&call.once, &asker) {
        (Some(once), Some(asker)) => {
            let now = u64::try_from(clock::wall().seconds()).unwrap_or_default();
            node.repeats.once(&asker.user, once, now, work)
        }
        _ => work(),
    }
}

/// Who asks, where one has to be somebody for that; refused where he may not, or not yet: who has to wait writes nothing into the audit log, or a
/// flood of tries would push out what is in it.
fn allowed(node: &Node, call: &Call) -> Result<Option<Asker>, Failed> {
    match &call.ask {
        Ask::Claim { .. } => node.accounts.may_claim()?,
        Ask::SignIn { user, .. } => node.accounts.may_sign_in(user, call.from)?,
        _ => {}
    }
    let Some(right) = needed(&call.ask) else { return Ok(None) };
    let asker = node.accounts.asker(call.proof.as_ref(), !call.by_itself)?;
    match right.allows(asker.role) {
        true => Ok(Some(asker)),
        false => Err(forbidden(right, asker.role)),
    }
}

impl Told {
    fn of_page((what, with): (String, Value), call: &Call, asker: Option<&Asker>) -> Told {
        let frees = matches!(&call.ask, Ask::Box { request } if helps_a_full_disk(request));
        Told {
            what,
            with,
            who: asker.map_or_else(|| claimed_name(&call.ask), |asker| asker.user.clone()),
            by: asker.map(|asker| asker.by.clone()).unwrap_or_default(),
            from: call.from.to_canonical().to_string(),
            strictly: !frees && !matches!(&call.ask, Ask::SignIn { .. } | Ask::SignOut),
        }
    }
}

/// Sends somebody a file or folder, or the support bundle. What fails behind its head has no end, and is in the audit log.
fn send_file(node: &Arc<Node>, stream: &UnixStream, call: &Call) -> Result<(), Failed> {
    let Some(told) = told(&call.ask) else { return Err(no_proof()) };
    let asker = allowed(node, call)?;
    let told = Told::of_page(told, call, asker.as_ref());
    let mut begun = false;
    let mut begin = |head: &Download| {
        let head = Message::Done(done(head)?);
        begun = true;
        send(stream, &head).map_err(|error| Failed::environment(error.to_string()))
    };
    let outcome = audited(node, &told, || match &call.ask {
        Ask::Download { source, path } => {
            let sought = files::seek(&node.store, source, path)?;
            begin(&sought.head)?;
            sought.send(stream)
        }
        Ask::Support => {
            begin(&support::head(node))?;
            support::send(node, stream)
        }
        _ => Err(no_proof()),
    });
    match outcome {
        Err(failed) if !begun => Err(failed),
        _ => Ok(()),
    }
}

/// What somebody needs to be allowed to ask that; `None` where anybody may.
fn needed(ask: &Ask) -> Option<Right> {
    match ask {
        Ask::State | Ask::Claim { .. } | Ask::Strength { .. } | Ask::SignIn { .. } | Ask::SignOut => None,
        Ask::Whoami
        | Ask::PasswordChange { .. }
        | Ask::TotpOffer
        | Ask::TotpConfirm { .. }
        | Ask::TotpRemove { .. }
        | Ask::TokenAdd { .. }
        | Ask::Tokens
        | Ask::TokenRemove { .. }
        | Ask::Sessions
        | Ask::SessionEnd { .. } => Some(Right::Role(Role::Viewer)),
        // What others have written is for those who may restore it.
        Ask::Browse { .. } | Ask::BrowseSorted { .. } | Ask::Download { .. } => Some(Right::Role(Role::Operator)),
        // It tells of everybody's.
        Ask::Support => Some(Right::Role(Role::Administrator)),
        Ask::Box { request } => Some(right(request)),
    }
}

fn forbidden(right: Right, role: Role) -> Failed {
    Failed::of(
        "forbidden",
        match right {
            Right::Console => "This can't be done through the page: it is root's, at the box itself.".to_owned(),
            Right::Role(needed) => format!("This needs the role {}; you are {}.", needed.name(), role.name()),
        },
    )
}

/// What the audit log says of a call, without anything secret; `None` of what only looks.
fn told(ask: &Ask) -> Option<(String, Value)> {
    let (what, with) = match ask {
        Ask::State
        | Ask::Strength { .. }
        | Ask::Whoami
        | Ask::Tokens
        | Ask::Sessions
        | Ask::Browse { .. }
        | Ask::BrowseSorted { .. } => return None,
        Ask::Box { request } if only_looks(request) => return None,
        Ask::Box { request } => return Some(request_told(request)),
        Ask::Download { source, path } => ("download", json!({ "source": source, "path": path })),
        Ask::Support => ("support", Value::Null),
        Ask::Claim { .. } => ("claim", Value::Null),
        Ask::SignIn { .. } => ("sign-in", Value::Null),
        Ask::SignOut => ("sign-out", Value::Null),
        Ask::PasswordChange { .. } => ("password-change", Value::Null),
        Ask::TotpOffer => ("totp-offer", Value::Null),
        Ask::TotpConfirm { .. } => ("totp-confirm", Value::Null),
        Ask::TotpRemove { .. } => ("totp-remove", Value::Null),
        Ask::TokenAdd { label, role, days } => ("token-add", json!({ "label": label, "role": role, "days": days })),
        Ask::TokenRemove { id } => ("token-remove", json!({ "id": id })),
        Ask::SessionEnd { id } => ("session-end", json!({ "id": id })),
    };
    Some((what.to_owned(), with))
}

/// Who somebody says that he is who signs in.
fn claimed_name(ask: &Ask) -> String {
    match ask {
        Ask::Claim { user, .. } | Ask::SignIn { user, .. } => user.chars().take(64).collect(),
        _ => String::new(),
    }
}

fn carry_out(
    node: &Arc<Node>,
    call: &Call,
    asker: Option<&Asker>,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Value, Failed> {
    let accounts = &node.accounts;
    let proof = call.proof.as_ref();
    match (&call.ask, asker) {
        (Ask::State, _) => done(State {
            name: node.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            claimed: accounts.claimed(),
            failing: status::is_failing(node),
        }),
        (Ask::Strength { password, beside }, _) => done::<Strength>(accounts::strength(password, beside)),
        (Ask::Claim { code, user, password }, _) => done(accounts.claim(code, user, password, call.from)?),
        (Ask::SignIn { user, password, code }, _) => {
            done(accounts.sign_in(user, password, code.as_deref(), call.from)?)
        }
        (Ask::SignOut, _) => {
            accounts.sign_out(proof);
            done(())
        }
        (ask, Some(asker)) => match ask {
            Ask::Whoami => done(accounts.whoami(asker)?),
            // Who comes over the network shows by where he came that it works.
            Ask::Box { request: Request::NetworkConfirm { trial } } => {
                done(network::confirm_from(node, *trial, call.at)?)
            }
            Ask::Box { request } => api::handle(node, request.clone(), gone, tell),
            Ask::Browse { source, path, after, limit } => {
                done(files::browse(&node.store, source, path, *after, *limit)?)
            }
            Ask::BrowseSorted { source, path, holds, after, limit } => {
                let wanted = Wanted { holds: holds.to_lowercase(), after, limit: *limit };
                done(files::browse_sorted(&node.store, source, path, &wanted)?)
            }
            Ask::PasswordChange { old, new } => done(accounts.change_password(asker, proof, old, new, call.from)?),
            Ask::TotpOffer => done(accounts.offer_second_factor(asker)?),
            Ask::TotpConfirm { code } => done(accounts.confirm_second_factor(asker, code)?),
            Ask::TotpRemove { password } => done(accounts.remove_second_factor(asker, password, call.from)?),
            Ask::TokenAdd { label, role, days } => done(accounts.add_token(asker, label, *role, *days)?),
            Ask::Tokens => done(accounts.tokens(asker)?),
            Ask::TokenRemove { id } => done(accounts.remove_token(asker, id)?),
            Ask::Sessions => done(accounts.sessions(asker, proof)),
            Ask::SessionEnd { id } => done(accounts.end_session(asker, id)?),
            Ask::Download { .. }
            | Ask::Support
            | Ask::State
            | Ask::Claim { .. }
            | Ask::Strength { .. }
            | Ask::SignIn { .. }
            | Ask::SignOut => Err(no_proof()),
        },
        (_, None) => Err(no_proof()),
    }
}

fn no_proof() -> Failed {
    Failed::of("signed-out", "Please sign in.")
}

fn done<T: Serialize>(report: T) -> Result<Value, Failed> {
    serde_json::to_value(report).map_err(|error| Failed::environment(error.to_string()))
}
