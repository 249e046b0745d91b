//! A box that is made up, at the other end of the door: it answers what the page worker asks, and remembers what it was asked.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use narrowboat::accounts::Role;
use narrowboat::control::door::{Ask, Call, Person, Proof};
use narrowboat::control::{Failed, Message, Request};
use narrowboat::repeats::Repeats;
use narrowboat::web::start::{Shown, Start};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType,
    recvmsg, send, shutdown, socketpair,
};
use serde_json::{Value, json};

/// The claim code that it takes.
pub const CODE: &str = "BOAT-7Q2M-KX41-ZP";
/// A password that is good enough.
pub const PASSWORD: &str = "lantern orbit meadow 4";
/// What it calls a session of its administrator, and one of somebody who only looks.
pub const SESSION: &str = "session-of-the-administrator";
pub const VIEWER: &str = "session-of-a-viewer";
/// The same for tokens.
#[allow(dead_code, reason = "each test file uses a part")]
pub const TOKEN: &str = "narrowboat_1_administrator";
#[allow(dead_code, reason = "each test file uses a part")]
pub const VIEWER_TOKEN: &str = "narrowboat_2_viewer";

/// Bytes of the largest thing that it has.
pub const LARGE_BYTES: u64 = 512 << 20;

/// What it knows.
#[derive(Default)]
pub struct Memory {
    pub claimed: bool,
    /// The requests of the command line that came, as JSON.
    pub asked: Vec<Value>,
    /// How often anything came.
    pub calls: usize,
    pub status: Value,
    pub snapshots: Value,
    /// What it answers with until it is told otherwise.
    pub refuses: Option<Failed>,
    /// Bytes of downloads that the worker took.
    pub sent: u64,
    /// How long it thinks.
    pub thinks: Duration,
    /// Whether it can't keep what it is given.
    pub failing: bool,
    /// The network set-up that it tries.
    pub tried: Option<narrowboat::network::Wanted>,
}

/// A worker, and the box that it belongs to.
pub struct Page {
    pub address: SocketAddr,
    pub worker: Child,
    pub memory: Arc<Mutex<Memory>>,
    door: OwnedFd,
    _folder: tempfile::TempDir,
}

impl Page {
    /// Starts a worker for a box that nobody owns yet.
    pub fn start() -> Page {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a door");
        let worker = Command::new(env!("CARGO_BIN_EXE_narrowboat"))
            .arg("page-worker")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .expect("a worker");
        let file = |name: &str| {
            std::fs::read_to_string(format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))).expect("a file")
        };
        let start = Start {
            name: "branch-7".into(),
            shown: Shown { certificate_pem: file("server.pem"), key_pem: file("server.key") },
            user: None,
            group: None,
        };
        send(&ours, &serde_json::to_vec(&start).expect("JSON"), SendFlags::empty()).expect("a first message");
        let memory = Arc::new(Mutex::new(Memory {
            status: super::sample::status(),
            snapshots: super::sample::snapshots(),
            ..Memory::default()
        }));
        let (taking, remembers) = (ours.try_clone().expect("a descriptor"), memory.clone());
        let folder = tempfile::tempdir().expect("a folder");
        let repeats = Arc::new(Repeats::open(folder.path(), 1000));
        std::thread::spawn(move || {
            while let Some(stream) = take(&taking) {
                let (memory, repeats) = (remembers.clone(), repeats.clone());
                std::thread::spawn(move || answer(&stream, &memory, &repeats));
            }
        });
        Page { address, worker, memory, door: ours, _folder: folder }
    }

    /// Has the box end, as far as the worker can tell.
    pub fn end_box(&self) {
        shutdown(&self.door, Shutdown::Both).expect("an open door");
    }

    /// The same for a box that somebody owns.
    pub fn claimed() -> Page {
        let page = Page::start();
        page.memory().claimed = true;
        page
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody panicked")
    }

    /// The last request of the command line.
    pub fn asked(&self) -> Value {
        self.memory().asked.last().cloned().unwrap_or_default()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

/// Takes one end of a pair from the door; none at its end.
fn take(door: impl AsFd) -> Option<UnixStream> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 8];
    let got = recvmsg(door, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    if got.bytes == 0 {
        return None;
    }
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut ends) => ends.next().map(UnixStream::from),
        _ => None,
    })
}

fn answer(stream: &UnixStream, memory: &Mutex<Memory>, repeats: &Repeats) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a call");
    let call: Call = serde_json::from_str(&line).expect("a call that is one");
    let thinks = memory.lock().expect("nobody panicked").thinks;
    std::thread::sleep(thinks);
    let decides = || decide(&call, &mut memory.lock().expect("nobody panicked"));
    let outcome = match &call.once {
        Some(once) => repeats.once("admin", once, 1000, decides),
        None => decides(),
    };
    let progress = Message::Progress(narrowboat::jobs::Progress { what: "thinking".into(), ..Default::default() });
    let is_done = outcome.is_ok();
    let end = outcome.map_or_else(Message::Failed, Message::Done);
    for message in [progress, end] {
        let mut line = serde_json::to_vec(&message).expect("JSON");
        line.push(b'\n');
        // A worker that was killed takes no answer.
        let _ = (&mut &*stream).write_all(&line);
    }
    if let (Ask::Download { path, .. }, true) = (&call.ask, is_done) {
        let _ = send_frames(stream, path, memory);
    }
}

/// What comes of a file by its name: all of it, or less.
fn send_frames(mut stream: &UnixStream, path: &str, memory: &Mutex<Memory>) -> std::io::Result<()> {
    let mut frame = |bytes: &[u8]| {
        stream.write_all(&(bytes.len() as u32).to_be_bytes())?;
        stream.write_all(bytes)?;
        memory.lock().expect("nobody panicked").sent += bytes.len() as u64;
        Ok::<_, std::io::Error>(())
    };
    match path {
        "broken" | "broken-folder" => frame(&[b'x'; 1000]),
        "short" => frame(&[b'x'; 1000]).and_then(|()| frame(&[])),
        "long" => frame(&[b'x'; 9000]).and_then(|()| frame(&[])),
        "wrong" => stream.write_all(&[b'x'; 4000]),
        "endless" => loop {
            frame(&[b'x'; 64 << 10])?;
        },
        "large" => (0..LARGE_BYTES >> 16).try_for_each(|_| frame(&[b'x'; 64 << 10])).and_then(|()| frame(&[])),
        _ => [&b"<script>"[..], b"alert(1)", b"</script>", b""].into_iter().try_for_each(frame),
    }
}

fn download(path: &str) -> Value {
    let name = path.rsplit('/').next().unwrap_or_default();
    match path {
        "broken" | "short" | "long" | "wrong" => json!({ "name": name, "bytes": 5000 }),
        "endless" | "broken-folder" => json!({ "name": format!("{name}.tar"), "bytes": null }),
        "large" => json!({ "name": "exchange.img", "bytes": LARGE_BYTES }),
        _ => json!({ "name": "Zoë\u{202e}\"<script>.html", "bytes": 25 }),
    }
}

fn failed(kind: &str, message: &str) -> Failed {
    Failed::of(kind, message)
}

fn decide(call: &Call, memory: &mut Memory) -> Result<Value, Failed> {
    memory.calls += 1;
    let administrator = Person { user: "admin".into(), role: Role::Administrator, second_factor: false };
    let who = match &call.proof {
        Some(Proof::Session(session)) if session == SESSION => Some(administrator.clone()),
        Some(Proof::Token(token)) if token == TOKEN => Some(administrator.clone()),
        Some(Proof::Token(token)) if token == VIEWER_TOKEN => {
            Some(Person { role: Role::Viewer, ..administrator.clone() })
        }
        Some(Proof::Session(session)) if session == VIEWER => {
            Some(Person { user: "auditor".into(), role: Role::Viewer, second_factor: true })
        }
        _ => None,
    };
    let enters = || Ok(json!({ "session": SESSION, "person": administrator }));
    match &call.ask {
        Ask::State => {
            return Ok(
                json!({ "name": "branch-7", "version": "0.1.0", "claimed": memory.claimed, "failing": memory.failing }),
            );
        }
        Ask::Strength { password, .. } => {
            let enough = password.len() >= 12;
            return Ok(
                json!({ "score": if enough { 4 } else { 1 }, "enough": enough, "advice": if enough { "" } else { "Add a word or two." } }),
            );
        }
        Ask::Claim { code, password, .. } => {
            if code.replace('-', "").to_uppercase() != CODE.replace('-', "") {
                return Err(Failed::about("code", "this is not the claim code"));
            }
            if password.len() < 12 {
                return Err(Failed::about("password", "the password is too easy to guess"));
            }
            memory.claimed = true;
            return enters();
        }
        Ask::SignIn { user, password, .. } if user == "slow" && !password.is_empty() => {
            return Err(failed("wait", "too many wrong tries: try again in 30 s"));
        }
        Ask::SignIn { user, password, .. } => {
            return if user == "admin" && password == PASSWORD {
                enters()
            } else {
                Err(failed("refused", "the name or the password is wrong"))
            };
        }
        _ => {}
    }
    let Some(person) = who else { return Err(failed("signed-out", "nobody is signed in")) };
    match &call.ask {
        Ask::Whoami => Ok(json!(person)),
        Ask::Box { request } => of_box(request, &person, memory),
        Ask::BrowseSorted { .. } | Ask::Download { .. } if person.role == Role::Viewer => {
            Err(failed("forbidden", "this needs the role operator; you are viewer"))
        }
        Ask::BrowseSorted { path, holds, after, .. } => super::sample::folder(path, holds, after),
        Ask::Download { path, .. } => Ok(download(path)),
        Ask::Sessions => Ok(json!([
            { "id": "1", "user": "admin", "from": "192.0.2.17", "begun": "2026-11-23T08:01:00Z", "used": "2026-11-23T14:10:00Z", "own": true },
            { "id": "2", "user": "admin", "from": "192.0.2.40", "begun": "2026-11-22T18:30:00Z", "used": "2026-11-22T19:12:00Z", "own": false }
        ])),
        Ask::Tokens => Ok(
            json!([{ "id": "7", "label": "monitoring", "user": "admin", "role": "viewer", "ends": "2027-02-20T00:00:00Z" }]),
        ),
        Ask::TokenAdd { .. } => Ok(json!({ "id": "8", "token": "nb_4Jw8Qm2sX0c7Rk5T" })),
        Ask::TotpOffer => Ok(
            json!({ "secret": "JBSWY3DPEHPK3PXP", "url": "otpauth://totp/branch-7:admin?secret=JBSWY3DPEHPK3PXP&issuer=Narrowboat" }),
        ),
        Ask::TotpConfirm { code } if code != "123456" => {
            Err(failed("refused", "this is not what the telephone shows now"))
        }
        Ask::PasswordChange { old, .. } if old != PASSWORD => {
            Err(failed("refused", "this is not the password that you have"))
        }
        _ => Ok(json!({ "message": "done" })),
    }
}

fn of_box(request: &Request, person: &Person, memory: &mut Memory) -> Result<Value, Failed> {
    memory.asked.push(serde_json::to_value(request).expect("JSON"));
    let looks = matches!(
        request,
        Request::Status
            | Request::SnapshotList { .. }
            | Request::DatasetListDeleted
            | Request::SnapshotListDeleted { .. }
            | Request::LimitExplain { .. }
            | Request::Timeline { .. }
            | Request::RetentionList
            | Request::RetentionShow { .. }
            | Request::RetentionSet { dry_run: true, .. }
            | Request::LockList
            | Request::Diff { .. }
            | Request::Trends { .. }
            | Request::ScrubShow
            | Request::SettingList
            | Request::PeerRefusals
            | Request::Limit { rate: None, calendar: None, resume: false, as_configured: false, .. }
            | Request::Reclaim { dry_run: true }
            | Request::SetUpShow
            | Request::NetworkShow
    );
    if !looks && person.role == Role::Viewer {
        return Err(failed("forbidden", "a viewer changes nothing"));
    }
    if let Some(refuses) = memory.refuses.clone().filter(|_| !looks) {
        return Err(refuses);
    }
    Ok(match request {
        Request::Status => memory.status.clone(),
        Request::SnapshotList { .. } => memory.snapshots.clone(),
        Request::ShareCreate { name, .. } | Request::VolumeCreate { name, .. } => {
            let dataset = super::sample::dataset(name, "share");
            memory.status["datasets"].as_array_mut().expect("a list").push(dataset.clone());
            dataset
        }
        Request::SnapshotCreate { .. } | Request::SnapshotHold { .. } => memory.snapshots[0].clone(),
        Request::DatasetListDeleted => super::sample::deleted(),
        Request::SnapshotListDeleted { .. } => json!([]),
        Request::PeerInvite { .. } => json!({ "code": "4417-anchor-willow", "seconds": 600, "listen": "0.0.0.0:4433" }),
        Request::LimitExplain { .. } => super::sample::explained(),
        Request::Limit { .. } => super::office::limit(),
        Request::Diff { .. } => super::sample::diff(),
        Request::Timeline { dataset } => super::sample::moments::timeline(dataset),
        Request::RetentionList => super::sample::moments::retention_list(),
        Request::RetentionShow { dataset } => {
            super::sample::moments::retention(dataset, &super::sample::moments::rules())
        }
        Request::RetentionSet { dataset, rules, .. } => super::sample::moments::retention(dataset, rules),
        Request::LockList => super::sample::moments::locks(),
        Request::Clone { name, .. } => {
            let dataset = super::sample::dataset(name, "share");
            memory.status["datasets"].as_array_mut().expect("a list").push(dataset.clone());
            dataset
        }
        Request::Rewind { dataset, to, .. } => {
            json!({ "dataset": dataset, "to": to, "before": "before-rewind-now", "users": [] })
        }
        Request::NetworkShow => super::sample::network(memory.tried.as_ref()),
        Request::NetworkSet { wanted } => {
            if let Some(failed) = wanted.problems().into_iter().next() {
                return Err(failed);
            }
            memory.tried = Some(wanted.clone());
            super::sample::network(memory.tried.as_ref())
        }
        Request::NetworkConfirm { .. } | Request::NetworkRevert { .. } => {
            memory.tried = None;
            super::sample::network(None)
        }
        Request::SetUpShow | Request::SetUpType { .. } => super::sample::set_up(),
        Request::AccountList => json!([
            { "user": "admin", "role": "administrator", "second_factor": false },
            { "user": "<b>o'neil</b>", "role": "operator", "second_factor": true }
        ]),
        Request::Audit { .. } => super::sample::audit(),
        Request::Trends { span } => super::office::trends(*span),
        Request::ScrubShow => super::office::scrub(),
        Request::PeerRefusals => super::office::refusals(),
        Request::PeerAddresses { .. } => memory.status["peers"][0].clone(),
        Request::Probe { .. } => super::office::line(),
        Request::SettingList => super::office::settings(),
        Request::Log { .. } => super::office::log(),
        Request::Reclaim { dry_run: true } => super::office::reclaim(true),
        _ => json!({ "message": "done" }),
    })
}
