//! The door between a box and its page worker, with this test as the worker: who may ask for what, what the audit log says of it, and what
//! a worker that somebody else has taken over can do.

mod common;

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::{data_folder, noise};
use narrowboat::accounts::Role;
use narrowboat::accounts::audit::Entry;
use narrowboat::config::Config;
use narrowboat::control::door::{Ask, Call, Download, Folder, NewToken, Proof, SessionRow, SignedIn, Sorted, State};
use narrowboat::control::{Failed, Message, Request, doorkeeper};
use narrowboat::node::{Node, Running};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

const GOOD: &str = "Tram 12 smells of rye bread";
const BETTER: &str = "Nine blue ladders, one goat";

/// A box, and a worker's end of a door to it.
struct Rig {
    running: Running,
    door: OwnedFd,
    keeper: JoinHandle<()>,
}

impl Rig {
    fn new(data: &Path) -> Rig {
        let config = Config::load(None, data).expect("a sound config");
        let running = Node::start(data, config).expect("a sound folder");
        let (theirs, door) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets");
        let node: Arc<Node> = running.node().clone();
        Rig { running, door, keeper: std::thread::spawn(move || doorkeeper::keep(&node, &theirs)) }
    }

    fn pass(&self, ends: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ends.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(ends)));
        sendmsg(&self.door, &[IoSlice::new(&[1])], &mut ancillary, SendFlags::NOSIGNAL).expect("the box is there");
    }

    /// A connection to the box.
    fn connect(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        ours.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket takes limits");
        self.pass(&[theirs.as_fd()]);
        ours
    }

    /// What the box says to a line; `None` where it hangs up.
    fn told(&self, line: &[u8]) -> Option<Message> {
        let mut stream = self.connect();
        // It may have heard enough before.
        let _ = stream.write_all(line);
        let mut answers = BufReader::new(stream);
        loop {
            let mut line = String::new();
            answers.read_line(&mut line).ok().filter(|length| *length > 0)?;
            match serde_json::from_str(&line).expect("a message") {
                Message::Progress(_) => {}
                end => return Some(end),
            }
        }
    }

    /// Downloads; what comes in frames where it has an end.
    fn download(&self, proof: &Proof, source: &str, path: &str) -> Result<(Download, Option<Vec<u8>>), Failed> {
        self.taken(proof, Ask::Download { source: source.into(), path: path.into() })
    }

    /// What comes in frames where it has an end, of whatever is asked for.
    fn taken(&self, proof: &Proof, ask: Ask) -> Result<(Download, Option<Vec<u8>>), Failed> {
        let from: IpAddr = "192.168.7.4".parse().expect("an address");
        let mut stream = self.connect();
        let call = serde_json::to_string(&Call {
            proof: Some(proof.clone()),
            from,
            at: None,
            by_itself: false,
            once: None,
            ask,
        })
        .expect("JSON")
            + "\n";
        stream.write_all(call.as_bytes()).expect("the box is there");
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line).expect("an answer");
        let head = match serde_json::from_str(&line).expect("a message") {
            Message::Done(value) => serde_json::from_value(value).expect("a head"),
            Message::Failed(failed) => return Err(failed),
            Message::Progress(_) => unreachable!("none is sent"),
        };
        let mut bytes = Vec::new();
        loop {
            let mut length = [0; 4];
            if answer.read_exact(&mut length).is_err() {
                return Ok((head, None));
            }
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            if frame.is_empty() {
                return Ok((head, Some(bytes)));
            }
            answer.read_exact(&mut frame).expect("a whole frame");
            bytes.extend(frame);
        }
    }

    fn ask<T: DeserializeOwned>(&self, proof: Option<&Proof>, ask: Ask) -> Result<T, Failed> {
        let from: IpAddr = "192.168.7.4".parse().expect("an address");
        let call =
            serde_json::to_string(&Call { proof: proof.cloned(), from, at: None, by_itself: false, once: None, ask })
                .expect("JSON")
                + "\n";
        match self.told(call.as_bytes()).expect("an answer") {
            Message::Done(value) => Ok(serde_json::from_value(value).expect("what was asked for")),
            Message::Failed(failed) => Err(failed),
            Message::Progress(_) => unreachable!("passed over"),
        }
    }

    fn box_(&self, proof: Option<&Proof>, request: Request) -> Result<Value, Failed> {
        self.ask(proof, Ask::Box { request })
    }

    /// Anna claims the box.
    fn claim(&self) -> Proof {
        let code = self.running.node().accounts.claim_code().expect("nobody has claimed it");
        let ask = Ask::Claim { code, user: "anna".into(), password: GOOD.into() };
        Proof::Session(self.ask::<SignedIn>(None, ask).expect("the code is right").session)
    }

    /// One more user, signed in.
    fn one_more(&self, anna: &Proof, user: &str, role: Role) -> Proof {
        self.box_(Some(anna), Request::AccountAdd { user: user.into(), role, password: BETTER.into() }).expect("new");
        let ask = Ask::SignIn { user: user.into(), password: BETTER.into(), code: None };
        Proof::Session(self.ask::<SignedIn>(None, ask).expect("right").session)
    }

    fn audit(&self) -> Vec<Entry> {
        let mut entries = self.running.node().audit.newest(None, 1000).expect("readable");
        entries.reverse();
        entries
    }

    fn end(self) {
        drop(self.door);
        self.keeper.join().expect("the box's side ends with the door");
        self.running.stop().expect("in order");
    }
}

fn kind<T>(outcome: Result<T, Failed>) -> String {
    outcome.err().map_or("done".into(), |failed| failed.kind)
}

fn share(name: &str) -> Request {
    Request::ShareCreate { name: name.into(), dedup: "inline".into() }
}

fn snapshot() -> Request {
    Request::SnapshotCreate { dataset: "office".into(), name: None }
}

#[test]
fn the_box_decides_who_may_ask_for_what() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::new(&data_folder(folder.path(), "box"));
    assert!(!rig.ask::<State>(None, Ask::State).expect("anybody's").claimed);
    assert_eq!(kind(rig.box_(None, Request::Status)), "signed-out");
    assert_eq!(kind(rig.box_(Some(&Proof::Session("guessed".into())), Request::Status)), "signed-out");

    let anna = rig.claim();
    assert!(rig.ask::<State>(None, Ask::State).expect("anybody's").claimed);
    let (bert, vera) = (rig.one_more(&anna, "bert", Role::Operator), rig.one_more(&anna, "vera", Role::Viewer));
    let table = [
        (Request::Status, ["done", "done", "done"]),
        (share("office"), ["forbidden", "forbidden", "done"]),
        (snapshot(), ["forbidden", "done", "done"]),
        (Request::DatasetDelete { name: "none".into() }, ["forbidden", "forbidden", "refused"]),
        (Request::Restore { source: "office".into(), dest: "/tmp/x".into() }, ["forbidden"; 3]),
        (Request::QuarantineEmpty { what: None, dry_run: false }, ["forbidden"; 3]),
        (Request::AccountReset { user: "anna".into(), password: BETTER.into() }, ["forbidden"; 3]),
        (Request::AccountClaim, ["forbidden"; 3]),
    ];
    for (request, answers) in table {
        for (who, expected) in [&vera, &bert, &anna].into_iter().zip(answers) {
            assert_eq!(kind(rig.box_(Some(who), request.clone())), expected, "{request:?}");
        }
    }
    assert_eq!(kind(rig.box_(Some(&bert), Request::AccountList)), "forbidden");
    assert_eq!(kind(rig.box_(Some(&bert), Request::Audit { before: None, limit: 5 })), "forbidden");
    // A token may do less than who made it, and ends with him.
    let ask = Ask::TokenAdd { label: "nagios".into(), role: Role::Viewer, days: 5 };
    let token = Proof::Token(rig.ask::<NewToken>(Some(&bert), ask).expect("made").token);
    assert_eq!(kind(rig.box_(Some(&token), Request::Status)), "done");
    assert_eq!(kind(rig.box_(Some(&token), snapshot())), "forbidden");
    let sessions: Vec<SessionRow> = rig.ask(Some(&anna), Ask::Sessions).expect("hers and others'");
    assert_eq!(sessions.len(), 3);
    rig.box_(Some(&anna), Request::AccountRemove { user: "bert".into() }).expect("she may");
    assert_eq!(kind(rig.box_(Some(&token), Request::Status)), "signed-out");
    assert_eq!(kind(rig.box_(Some(&bert), Request::Status)), "signed-out");
    rig.ask::<()>(Some(&anna), Ask::SignOut).expect("signed out");
    assert_eq!(kind(rig.box_(Some(&anna), Request::Status)), "signed-out");
    rig.end();
}

#[test]
fn what_changes_something_is_in_the_audit_log_and_no_secret_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let rig = Rig::new(&data);
    let anna = rig.claim();
    let wrong = Ask::SignIn { user: "anna".into(), password: "Wrong and Secret".into(), code: None };
    assert_eq!(kind(rig.ask::<SignedIn>(None, wrong)), "refused");
    rig.box_(Some(&anna), share("office")).expect("new");
    rig.box_(Some(&anna), Request::Status).expect("only looks");
    assert!(rig.box_(Some(&anna), share("office")).is_err(), "it is there");
    let join = Request::PeerJoin { code: "7-secret-boat".into(), address: "127.0.0.1:9".into() };
    assert!(rig.box_(Some(&anna), join).is_err(), "nobody is there");
    let entries = rig.audit();
    let asked: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| entry.of.is_none())
        .map(|entry| (entry.what.as_str(), entry.who.as_str()))
        .collect();
    let expected = ["claim", "sign-in", "share-create", "share-create", "peer-join"].map(|what| (what, "anna"));
    assert_eq!(asked, expected);
    for asked in entries.iter().filter(|entry| entry.of.is_none()) {
        let outcome = entries.iter().find(|entry| entry.of == Some(asked.n)).expect("an outcome");
        assert_eq!(outcome.n, asked.n + 1, "nobody else asked");
        assert_eq!((&outcome.what, &asked.from[..]), (&asked.what, "192.168.7.4"));
    }
    let outcomes: Vec<&str> = entries.iter().filter_map(|entry| entry.outcome.as_deref()).collect();
    assert_eq!([outcomes[0], outcomes[2]], ["done"; 2]);
    assert!(outcomes[3].contains("office"), "{outcomes:?}");
    let written = std::fs::read_to_string(data.join("audit/000001.log")).expect("there");
    let Proof::Session(session) = &anna else { unreachable!("she signed in") };
    for secret in [GOOD, "Wrong and Secret", "7-secret-boat", session] {
        assert!(!written.contains(secret), "{secret}");
    }
    rig.end();
}

#[test]
fn a_flood_of_tries_pushes_nothing_out_of_the_audit_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::new(&data_folder(folder.path(), "box"));
    rig.claim();
    let guess = || Ask::SignIn { user: "anna".into(), password: "a guess".into(), code: None };
    let answers: Vec<String> = (0..20).map(|_| kind(rig.ask::<SignedIn>(None, guess()))).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "wait").count(), 14, "{answers:?}");
    let tries = rig.audit().iter().filter(|entry| entry.what == "sign-in").count();
    assert_eq!(tries, 2 * 6, "those that were tried, each with its outcome");
    rig.end();
}

#[test]
fn a_worker_that_is_hostile_gets_nothing_and_breaks_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::new(&data_folder(folder.path(), "box"));
    let anna = rig.claim();
    let Proof::Session(session) = &anna else { unreachable!("she signed in") };
    let long = format!("{{\"x\":\"{}\"}}\n", "a".repeat(70_000));
    let nested = format!("{}\n", "[".repeat(60_000));
    for line in [
        "\n",
        "{}\n",
        "null\n",
        "\u{0}\n",
        &long,
        &nested,
        "{\"proof\":null,\"from\":\"1.2.3.4\",\"ask\":{\"ask\":\"box\",\"request\":{\"request\":\"stop\"}}}\n",
        "{\"proof\":{\"session\":\"\"},\"from\":\"::\",\"ask\":{\"ask\":\"users\"}}\n",
        "{\"proof\":null,\"from\":\"1.2.3.4\",\"ask\":{\"ask\":\"state\"},\"role\":\"administrator\"}\n",
    ] {
        match rig.told(line.as_bytes()) {
            Some(Message::Failed(failed)) => assert!(!failed.message.contains("aaa"), "nothing is quoted: {failed}"),
            None => {}
            other => panic!("{line:.80}: {other:?}"),
        }
    }
    // Messages without a connection, with several, and with what is none.
    rig.pass(&[]);
    let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().expect("sockets")).collect();
    rig.pass(&pairs.iter().map(|pair| pair.1.as_fd()).collect::<Vec<_>>());
    let file = tempfile::tempfile().expect("a file");
    rig.pass(&[file.as_fd()]);
    // More connections than there are places, which say nothing.
    let silent: Vec<UnixStream> = (0..200).map(|_| rig.connect()).collect();
    drop((pairs, silent));
    let kept = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(100));
        rig.told(b"{\"proof\":null,\"from\":\"1.2.3.4\",\"ask\":{\"ask\":\"state\"}}\n")
    });
    assert!(kept.take(300).any(|answer| matches!(answer, Some(Message::Done(_)))), "it answers again");
    assert!(!rig.running.node().is_stopping());
    assert_eq!(kind(rig.box_(Some(&Proof::Session(session.clone())), Request::Status)), "done");
    rig.end();
}

#[test]
fn files_of_any_moment_are_browsed_and_taken_home() {
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::new(&data_folder(folder.path(), "box"));
    let anna = rig.claim();
    let vera = rig.one_more(&anna, "vera", Role::Viewer);
    rig.box_(Some(&anna), share("office")).expect("new");
    let content = noise(1, 3_000_000);
    fill(&rig, &content);
    rig.box_(Some(&anna), Request::SnapshotCreate { dataset: "office".into(), name: Some("monday".into()) })
        .expect("room");

    let browse = |path: &str, after| Ask::Browse { source: "office@monday".into(), path: path.into(), after, limit: 2 };
    assert_eq!(kind(rig.ask::<Folder>(Some(&vera), browse("", 0))), "forbidden", "they are not hers");
    let top: Folder = rig.ask(Some(&anna), browse("", 0)).expect("there");
    assert_eq!(
        top.entries.iter().map(|entry| (&entry.name[..], &entry.kind[..])).collect::<Vec<_>>(),
        [("deep", "folder")]
    );
    let mut found = Vec::new();
    let mut after = Some(0);
    while let Some(behind) = after {
        let page: Folder = rig.ask(Some(&anna), browse("deep", behind)).expect("there");
        assert!(page.entries.len() <= 2);
        found.extend(page.entries);
        after = page.next;
    }
    found.sort_by(|one, other| one.part.cmp(&other.part));
    let parts: Vec<&str> = found.iter().map(|entry| entry.part.as_str()).collect();
    assert_eq!(parts, ["%FF%20odd", "again", "data", "link", "sparse"]);
    for wrong in ["nowhere", "deep/../deep", "deep/data", "deep/%2e%2e", "%"] {
        assert!(rig.ask::<Folder>(Some(&anna), browse(wrong, 0)).is_err(), "{wrong}");
    }

    let (head, bytes) = rig.download(&anna, "office@monday", "deep/data").expect("there");
    assert_eq!((head.name.as_str(), head.bytes), ("data", Some(content.len() as u64)));
    assert!(bytes.expect("whole") == content);
    let (_, odd) = rig.download(&anna, "office", "deep/%FF%20odd").expect("there");
    assert_eq!(odd.expect("whole"), b"small");
    assert_eq!(kind(rig.download(&vera, "office", "deep/data").map(drop)), "forbidden");
    assert!(rig.download(&anna, "office@tuesday", "").is_err() && rig.download(&anna, "office:deep", "").is_err());

    let (head, archive) = rig.download(&anna, "office@monday", "deep").expect("there");
    assert_eq!((head.name.as_str(), head.bytes), ("deep.tar", None));
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("made");
    unpack(&out, &archive.expect("whole"));
    assert!(std::fs::read(out.join("deep/data")).expect("there") == content);
    assert_eq!(std::fs::read_link(out.join("deep/link")).expect("there").to_str(), Some("data"));
    let inode = |name: &str| {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(out.join("deep").join(name)).expect("there"))
    };
    assert_eq!(inode("data"), inode("again"), "one file of two names");
    let sparse = std::fs::read(out.join("deep/sparse")).expect("there");
    assert!(
        sparse.len() == 5_000_000
            && sparse[..4_999_990].iter().all(|byte| *byte == 0)
            && sparse[4_999_990..] == [7; 10]
    );

    let downloads: Vec<Entry> = rig.audit().into_iter().filter(|entry| entry.what == "download").collect();
    assert_eq!(downloads.iter().filter(|entry| entry.outcome.as_deref() == Some("done")).count(), 3);
    assert_eq!(downloads[0].with["path"], "deep/data");
    rig.end();
}

#[test]
fn a_support_bundle_tells_how_the_box_is_and_holds_no_secret_of_any_kind() {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    tracing_subscriber::registry().with(narrowboat::recent::layer()).init();
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    for (name, secret) in [
        ("chap", "chap-Secret-0001"),
        ("mutual", "mutual-Secret-02"),
        ("token", "hook-Token-000003"),
        ("ssh", "ssh-Key-Material-04"),
    ] {
        std::fs::write(data.join(name), format!("{secret}\n")).expect("written");
    }
    let config = std::fs::read_to_string(data.join("narrowboat.toml")).expect("a config");
    let more = format!(
        "\n# the old password was comment-Secret-05\n[iscsi.user.erp]\nsecret_file = '{0}/chap'\nmutual_name = 'box'\nmutual_secret_file = '{0}/mutual'\n\
         [hook.erp]\nfreeze = 'https://erp:url-Secret-06@127.0.0.1:9/freeze?key=query-Secret-07'\nthaw = 'https://127.0.0.1:9/thaw'\ntoken_file = '{0}/token'\n\
         [hook.db]\nssh = 'root@127.0.0.1'\nssh_key_file = '{0}/ssh'\nfreeze = ['freeze', '--password=command-Secret-08']\nthaw = ['thaw']\n",
        data.display()
    );
    std::fs::write(data.join("narrowboat.toml"), config + &more).expect("written");
    let rig = Rig::new(&data);
    let code = rig.running.node().accounts.claim_code().expect("nobody has claimed it");
    let anna = rig.claim();
    let Proof::Session(session) = &anna else { unreachable!("a session") };
    let otto = rig.one_more(&anna, "otto", Role::Operator);
    rig.box_(Some(&anna), share("office")).expect("new");
    let token: NewToken =
        rig.ask(Some(&anna), Ask::TokenAdd { label: "monitor".into(), role: Role::Viewer, days: 1 }).expect("hers");
    let offer: narrowboat::control::door::TotpOffer = rig.ask(Some(&anna), Ask::TotpOffer).expect("hers");
    tracing::warn!(
        error = "https://u:log-Secret-09@127.0.0.1/?a=log-Secret-10",
        "a hook said chap-Secret-0001 and --password=command-Secret-08"
    );
    rig.box_(Some(&anna), Request::SnapshotCreate { dataset: "office".into(), name: Some("kept".into()) })
        .expect("made");

    assert_eq!(kind(rig.taken(&otto, Ask::Support).map(drop)), "forbidden");
    let (head, bundle) = rig.taken(&anna, Ask::Support).expect("hers");
    let bundle = bundle.expect("it has an end");
    assert!(head.name.starts_with("narrowboat-") && head.name.ends_with(".tar"), "{}", head.name);
    let own: Vec<String> = ["page.key", "identity", "peer.key", "realm.key"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(data.join(name)).ok())
        .flat_map(|text| {
            text.lines()
                .filter(|line| line.len() > 20 && !line.starts_with("--"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let planted = [
        "chap-Secret",
        "mutual-Secret",
        "hook-Token",
        "ssh-Key-Material",
        "comment-Secret",
        "url-Secret",
        "query-Secret",
        "command-Secret",
        "log-Secret",
        "$argon2",
    ];
    let given = [GOOD, BETTER, session.as_str(), token.token.as_str(), offer.secret.as_str(), code.as_str()];
    for secret in planted.into_iter().chain(given).chain(own.iter().map(String::as_str)) {
        let found = bundle.windows(secret.len()).position(|bytes| bytes == secret.as_bytes());
        let around = found.map(|at| String::from_utf8_lossy(&bundle[at.saturating_sub(200)..at + 40]).into_owned());
        assert_eq!(around, None, "{secret} is in the bundle");
    }
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    unpack(&out, &bundle);
    let text = |name: &str| std::fs::read_to_string(out.join("narrowboat-support").join(name)).expect(name);
    let status: Value = serde_json::from_str(&text("status.json")).expect("JSON");
    assert_eq!(status["datasets"][0]["name"], "office");
    assert!(
        text("config.toml").contains("[hook.erp]") && text("config.toml").contains("listen"),
        "{}",
        text("config.toml")
    );
    assert!(text("log.txt").contains("a hook said (left out)") && text("versions.txt").contains("narrowboat 0"));
    let trends: Value = serde_json::from_str(&text("trends-days.json")).expect("JSON");
    assert!(trends["step_seconds"] == 300 && text("scrub.json").contains("state") && text("mount.txt").contains(' '));
    let logged: Vec<Entry> = rig.audit().into_iter().filter(|entry| entry.what == "support").collect();
    assert_eq!(logged.iter().filter(|entry| entry.outcome.as_deref() == Some("done")).count(), 1, "{logged:?}");
    rig.end();
}

/// A folder with a file of two names, a link, a sparse file and one of an odd name.
fn fill(rig: &Rig, content: &[u8]) {
    use narrowboat_storage::dataset::{Call, Create, Credentials, SetAttributes};
    use narrowboat_storage::units::{Inode, Timestamp};
    static ROOT: Credentials = Credentials::ROOT;
    let store = &rig.running.node().store;
    let tree = store.tree(store.dataset_named("office").expect("there").row.id).expect("a share");
    let call = Call { caller: &ROOT, now: Timestamp(1), tag: None };
    let plain = SetAttributes { mode: Some(0o755), ..SetAttributes::default() };
    let deep = tree.make_dir(&call, Inode::ROOT, b"deep", &plain).expect("room").file.inode;
    let file = |name: &[u8], at: u64, bytes: &[u8]| {
        let made = tree.create(&call, deep, name, &Create::Guarded(plain.clone())).expect("room").file.inode;
        for (nth, piece) in bytes.chunks(1 << 20).enumerate() {
            tree.write(&call, made, at + ((nth as u64) << 20), piece.to_vec().into()).expect("room");
        }
        tree.commit(made).expect("a sound disk");
        made
    };
    let data = file(b"data", 0, content);
    file(b"\xff odd", 0, b"small");
    file(b"sparse", 4_999_990, &[7; 10]);
    tree.link(&call, data, deep, b"again").expect("room");
    tree.make_symlink(&call, deep, b"link", b"data", &plain).expect("room");
}

#[test]
fn a_folder_of_thousands_is_read_by_name_a_page_at_a_time() {
    use narrowboat_storage::dataset::{Call, Create, Credentials, SetAttributes};
    use narrowboat_storage::units::{Inode, Timestamp};
    let folder = tempfile::tempdir().expect("a folder");
    let rig = Rig::new(&data_folder(folder.path(), "box"));
    let anna = rig.claim();
    let vera = rig.one_more(&anna, "vera", Role::Viewer);
    rig.box_(Some(&anna), share("office")).expect("new");
    let store = &rig.running.node().store;
    let tree = store.tree(store.dataset_named("office").expect("there").row.id).expect("a share");
    let call = Call { caller: &Credentials::ROOT, now: Timestamp(1), tag: None };
    let plain = SetAttributes { mode: Some(0o755), ..SetAttributes::default() };
    // In an order that means nothing, across several listings of the tree.
    for nth in 0..2500u32 {
        let name = format!("{}{:04}", if nth % 2 == 0 { "Report-" } else { "report-" }, nth * 7919 % 2500);
        tree.create(&call, Inode::ROOT, name.as_bytes(), &Create::Guarded(plain.clone())).expect("room");
    }
    for name in [&b"zoo"[..], b"\xff\xfe odd/"].map(|name| name.strip_suffix(b"/").unwrap_or(name)) {
        tree.make_dir(&call, Inode::ROOT, name, &plain).expect("room");
    }
    let ask = |holds: &str, after: &str, limit| Ask::BrowseSorted {
        source: "office".into(),
        path: String::new(),
        holds: holds.into(),
        after: after.into(),
        limit,
    };
    assert_eq!(kind(rig.ask::<Sorted>(Some(&vera), ask("", "", 10))), "forbidden", "they are not hers");
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page: Sorted = rig.ask(Some(&anna), ask("", &after, 333)).expect("there");
        assert!(page.count == 2502 && page.entries.len() <= 333, "{} of {}", page.entries.len(), page.count);
        after = page.entries.last().expect("more were promised").place();
        names.extend(page.entries.into_iter().map(|entry| entry.name));
        if !page.more {
            break;
        }
    }
    assert_eq!(names.len(), 2502);
    assert_eq!(names[..3], ["zoo", "\u{fffd}\u{fffd} odd", "Report-0000"]);
    assert!(names[2..].windows(2).all(|pair| pair[0].to_lowercase() < pair[1].to_lowercase()), "each once, by name");
    let found: Sorted = rig.ask(Some(&anna), ask("ORT-00", "", 7)).expect("there");
    assert_eq!((found.count, found.more, found.entries.len()), (100, true, 7));
    let none: Sorted = rig.ask(Some(&anna), ask("", "~", 7)).expect("there");
    assert!(none.entries.is_empty() && !none.more);
    for wrong in ["%", "../", "/", "a%2Fb"] {
        assert_eq!(kind(rig.ask::<Sorted>(Some(&anna), ask("", wrong, 7))), "refused", "{wrong}");
    }
    rig.end();
}

/// As somebody does it at home.
fn unpack(folder: &Path, archive: &[u8]) {
    let mut tar = std::process::Command::new("tar");
    let mut child =
        tar.args(["-x", "-C"]).arg(folder).stdin(std::process::Stdio::piped()).spawn().expect("tar is there");
    child.stdin.take().expect("piped").write_all(archive).expect("it reads");
    assert!(child.wait().expect("it ends").success());
}
