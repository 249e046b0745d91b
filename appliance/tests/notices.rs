//! Notices of a real box, with servers of other makers: aiosmtpd, Python's HTTPS server, rsyslogd; and with hostile ones.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{PATIENCE, Served, data_folder, facts, fine, narrowboat, until};
use serde_json::Value;

const SECRET: &str = "seven-barges-pass";

fn tls(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name).display().to_string()
}

/// A server of another maker; killed when dropped.
struct Peer {
    child: Child,
    port: u16,
    heard: Receiver<Value>,
}

impl Peer {
    fn start(args: &[&str]) -> Peer {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notices/peers.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python (Debian: python3-aiosmtpd)");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next().expect("a port: is python3-aiosmtpd there?").expect("text");
        let (say, heard) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Peer { child, port: port.parse().expect("a number"), heard }
    }

    fn smtp(mode: &str, more: &[&str]) -> Peer {
        Peer::start(&[&["smtp", mode, &tls("server.pem"), &tls("server.key")], more].concat())
    }

    fn https(statuses: &[&str]) -> Peer {
        Peer::start(&[&["https", &tls("server.pem"), &tls("server.key")], statuses].concat())
    }

    fn next(&self) -> Value {
        self.heard.recv_timeout(PATIENCE).expect("something arrives")
    }

    fn is_silent(&self) -> bool {
        self.heard.try_recv().is_err()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    fs::write(&file, format!("{text}\n")).expect("room");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("ours");
    file
}

/// A box with these lines below `[notices]` and its tables.
fn configured(folder: &Path, notices: &str) -> PathBuf {
    let data = data_folder(folder, "box");
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, format!("{config}\n[notices]\nafter = '1s'\nlocal = true\n{notices}")).expect("a config");
    data
}

fn mail(port: u16, more: &str) -> String {
    let ca = tls("ca.pem");
    format!(
        "[notices.mail]\nto = ['Änne <anna@example.org>', 'otto@example.org']\nfrom = 'box@example.org'\nserver = 'localhost:{port}'\nca_file = '{ca}'\n{more}\n"
    )
}

fn webhook(port: u16, more: &str) -> String {
    let ca = tls("ca.pem");
    format!("[notices.webhook]\naddress = 'https://localhost:{port}/hook?key=hidden'\nca_file = '{ca}'\n{more}\n")
}

#[test]
fn mail_goes_over_tls_with_a_password_and_says_who_and_what_and_that_it_is_over() {
    for mode in ["implicit", "starttls"] {
        let folder = tempfile::tempdir().expect("a folder");
        let peer = Peer::smtp(mode, &["backup", SECRET]);
        let password = secret_file(folder.path(), "password", SECRET);
        let more = format!("tls = '{mode}'\nuser = 'backup'\npassword_file = '{}'", password.display());
        let data = configured(folder.path(), &mail(peer.port, &more));
        let served = Served::start(&data);
        let said = fine(&data, &["notice", "test", "--way", "mail"]);
        assert!(said.contains("mail: taken by"), "{said}");
        let got = peer.next();
        assert_eq!(got["tls"], true, "{got:#}");
        assert_eq!((&got["user"], &got["from"]), (&"backup".into(), &"box@example.org".into()), "{got:#}");
        assert_eq!(got["to"], serde_json::json!(["anna@example.org", "otto@example.org"]));
        assert!(
            got["headers"]["Subject"].as_str().is_some_and(|subject| subject.starts_with("box: NOTE This is a test"))
        );
        if mode == "starttls" {
            continue;
        }
        // A dataset without a copy: told once. It is deleted: that is told, and that the problem is over.
        fine(&data, &["share", "create", "films"]);
        let got = peer.next();
        let text = got["text"].as_str().expect("text");
        assert!(
            text.starts_with("This is box, a backup box") && text.contains("WARNING  Films:")
                || text.contains("films:"),
            "{text}"
        );
        assert!(text.contains("What to do: Pair this box"), "{text}");
        assert!(got["headers"]["Message-ID"].as_str().is_some_and(|id| id.contains("notice.1.")), "{got:#}");
        fine(&data, &["dataset", "delete", "films"]);
        let mut told = String::new();
        while !(told.contains("deleted the dataset films") && told.contains("OVER  ")) {
            told += peer.next()["text"].as_str().expect("text");
        }
        drop(served);
    }
}

#[test]
fn a_server_that_can_not_be_trusted_gets_neither_mail_nor_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let password = secret_file(folder.path(), "password", SECRET);
    let login = format!("user = 'backup'\npassword_file = '{}'", password.display());
    let stranger = format!("ca_file = '{}'", tls("ca.pem"));
    let cases = [
        // No TLS at all.
        ("bare", "localhost", stranger.clone(), "starttls"),
        // Somebody else's certificate: of another name, and of an authority that nobody trusts.
        ("implicit", "[::ffff:127.0.0.1]", stranger, "implicit"),
        ("implicit", "localhost", String::new(), "implicit"),
    ];
    for (mode, host, trust, how) in cases {
        let more: &[&str] = if mode == "bare" { &[] } else { &["backup", SECRET] };
        let peer = Peer::smtp(mode, more);
        let text = format!(
            "[notices.mail]\nto = ['anna@example.org']\nfrom = 'box@example.org'\nserver = '{host}:{}'\ntls = '{how}'\n{login}\n{trust}\n",
            peer.port
        );
        let data = configured(folder.path(), &text);
        let served = Served::start(&data);
        let said = narrowboat(&data, &["notice", "test"]);
        assert!(said.code == 1 && said.out.contains("NOT taken"), "{mode} {host}: {said:?}");
        assert!(peer.is_silent(), "{mode} {host}");
        assert!(!said.out.contains(SECRET) && !served.log().contains(SECRET));
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("ours");
    }
}

fn hmac(secret: &str, text: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", secret, "-hex"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let said = child.wait_with_output().expect("openssl").stdout;
    String::from_utf8_lossy(&said).trim().rsplit(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn a_webhook_is_signed_tried_again_and_not_followed_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let peer = Peer::https(&["200", "503", "200", "302"]);
    let secret = secret_file(folder.path(), "secret", SECRET);
    let data = configured(folder.path(), &webhook(peer.port, &format!("secret_file = '{}'", secret.display())));
    let served = Served::start(&data);
    fine(&data, &["notice", "test"]);
    let got = peer.next();
    let (body, signature) =
        (got["body"].as_str().expect("text"), got["headers"]["narrowboat-signature"].as_str().expect("text"));
    let (time, digest) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).expect("its form");
    assert_eq!(digest, hmac(SECRET, &format!("{time}.{body}")));
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["version"], &body["test"], &body["box"]["name"]), (&1.into(), &true.into(), &"box".into()));
    // It is busy once, and told the same again.
    fine(&data, &["share", "create", "films"]);
    let (busy, again) = (peer.next(), peer.next());
    let parsed = |got: &Value| serde_json::from_str::<Value>(got["body"].as_str().expect("text")).expect("JSON");
    assert_eq!((busy["status"].as_u64(), again["status"].as_u64()), (Some(503), Some(200)));
    // With what came meanwhile, as one.
    assert!(parsed(&again)["n"].as_u64() >= parsed(&busy)["n"].as_u64());
    assert_eq!(parsed(&again)["items"][0], parsed(&busy)["items"][0]);
    assert_eq!(parsed(&again)["items"][0]["key"], "only-here/films");
    // Nobody is sent on, and what the answer says nobody sees.
    while peer.heard.recv_timeout(Duration::from_secs(3)).is_ok() {}
    let said = narrowboat(&data, &["notice", "test"]);
    assert!(said.code == 1 && said.out.contains("302") && !said.out.contains("hidden"), "{said:?}");
    assert_eq!(peer.next()["path"], "/hook?key=hidden");
    std::thread::sleep(Duration::from_millis(300));
    assert!(peer.is_silent());
    drop(served);
}

#[test]
fn this_machine_itself_is_called_only_where_the_config_file_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let peer = Peer::https(&["200"]);
    let port = peer.port;
    let syslog = "[notices.syslog]\nserver = 'localhost:9'\n";
    let data = configured(folder.path(), &(webhook(port, "") + syslog + &mail(port, "")));
    let file = data.join("narrowboat.toml");
    let text = fs::read_to_string(&file).expect("there").replace("local = true\n", "");
    fs::write(&file, text).expect("room");
    let _served = Served::start(&data);
    let tried = narrowboat(&data, &["--json", "notice", "test"]);
    let tried: Value = serde_json::from_str(&tried.out).expect("JSON");
    let tried = tried.as_array().expect("a list");
    assert_eq!(tried.len(), 3);
    for way in tried {
        assert!(way["error"].as_str().is_some_and(|why| why.contains("local = true")), "{way:#}");
    }
    assert!(peer.is_silent());
    let said = narrowboat(&data, &["setting", "set", "notices.local=true"]);
    assert!(said.code == 1 && said.err.contains("config file alone"), "{said:?}");
}

/// rsyslogd with inputs of both kinds, that writes what it understood.
fn rsyslog(folder: &Path) -> (Child, u16, u16, PathBuf) {
    let port = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let (udp, tcp, out) = (port(), port(), folder.join("heard.log"));
    let config = format!(
        "global(workDirectory=\"{0}\")\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\")\n\
         template(name=\"t\" type=\"string\" string=\"%inputname%|%protocol-version%|%syslogfacility-text%|%syslogseverity-text%|%hostname%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
         *.* action(type=\"omfile\" file=\"{1}\" template=\"t\")\n",
        folder.display(),
        out.display()
    );
    let file = folder.join("rsyslog.conf");
    fs::write(&file, config).expect("room");
    let child = Command::new("rsyslogd")
        .args(["-n", "-f"])
        .arg(&file)
        .arg("-i")
        .arg(folder.join("pid"))
        .stdin(Stdio::null())
        .spawn()
        .expect("rsyslogd (Debian: rsyslog)");
    until("rsyslogd listens", || TcpStream::connect(("127.0.0.1", tcp)).is_ok());
    (child, udp, tcp, out)
}

#[test]
fn a_log_server_gets_notices_and_the_audit_log_with_its_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut child, udp, tcp, out) = rsyslog(folder.path());
    for (protocol, port) in [("tcp", tcp), ("udp", udp)] {
        let below = folder.path().join(protocol);
        fs::create_dir(&below).expect("room");
        let data =
            configured(&below, &format!("[notices.syslog]\nserver = '127.0.0.1:{port}'\nprotocol = '{protocol}'\n"));
        let served = Served::start(&data);
        for name in ["films", "music", "papers"] {
            fine(&data, &["share", "create", name]);
        }
        fine(&data, &["dataset", "delete", "music"]);
        let heard = || fs::read_to_string(&out).unwrap_or_default();
        let input = format!("im{protocol}|1|");
        until("all of it is there", || {
            let heard = heard();
            let lines =
                |what: &str| heard.lines().filter(|line| line.starts_with(&input) && line.contains(what)).count();
            lines("|audit|") >= 8 && lines("|event|") >= 1 && lines("|problem|") >= 2
        });
        // Each entry that is there is there as the box has it, with the same chain.
        let log = fs::read_to_string(data.join("audit/000001.log")).expect("a log");
        let mut seen = 0;
        for line in heard().lines().filter(|line| line.starts_with(&input) && line.contains("|audit|")) {
            let fields: Vec<&str> = line.split('|').collect();
            assert_eq!(&fields[2..7], ["audit", "info", "box", "narrowboat", "audit"], "{line}");
            let value = |key: &str| {
                line.split(&format!(" {key}=\""))
                    .nth(1)
                    .and_then(|rest| rest.split('"').next())
                    .expect("there")
                    .to_owned()
            };
            let own = log.lines().find(|own| own.contains(&format!("\"n\":{},", value("n")))).expect("an entry");
            assert!(own.starts_with(&value("chain")), "{line}\n{own}");
            seen += 1;
        }
        assert!(seen >= 8);
        drop(served);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn nothing_is_lost_and_nothing_told_twice_over_a_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let data = configured(folder.path(), &webhook(port, ""));
    let served = Served::start(&data);
    for name in ["one", "two", "three"] {
        fine(&data, &["share", "create", name]);
        fine(&data, &["dataset", "delete", name]);
    }
    until("it fails, and says so", || {
        let status = facts(&data, &["status"]);
        let way = &status["notices"][0];
        way["way"] == "webhook"
            && way["error"].is_string()
            && way["waiting"].as_u64() > Some(0)
            && way["target"].is_null()
    });
    assert!(fine(&data, &["status"]).contains("PROBLEM      notices can't be told by webhook"));
    served.kill();
    let peer = Peer::https(&["200"]);
    let file = data.join("narrowboat.toml");
    let text = fs::read_to_string(&file).expect("there").replace(&port.to_string(), &peer.port.to_string());
    fs::write(&file, text).expect("room");
    let served = Served::start(&data);
    let mut told = Vec::new();
    let deleted = |told: &[String], name: &str| {
        told.iter().filter(|what| what.contains(&format!("deleted the dataset {name}."))).count()
    };
    while ["one", "two", "three"].iter().any(|name| deleted(&told, name) == 0) {
        let body: Value = serde_json::from_str(peer.next()["body"].as_str().expect("text")).expect("JSON");
        let items = body["items"].as_array().expect("a list").iter();
        told.extend(items.map(|item| item["what"].as_str().expect("text").to_owned()));
    }
    for name in ["one", "two", "three"] {
        assert_eq!(deleted(&told, name), 1, "{told:?}");
    }
    drop(served);
}

/// Servers that do what none should: what they do with each connection.
fn hostile(does: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || does(stream));
        }
    });
    port
}

fn endless(mut stream: TcpStream) {
    while stream.write_all(&[b"220-and so on\r\n".as_slice(); 100].concat()).is_ok() {}
}

fn torn(mut stream: TcpStream) {
    let _ = stream.write_all(b"220 mail.test\r\n");
    let _ = stream.read(&mut [0; 100]);
    let _ = stream.write_all(b"250-mail.te");
}

fn silent(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn hostile_servers_hold_up_nobody_and_take_no_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    for (does, what) in [(endless as fn(TcpStream), "endless"), (torn, "torn"), (silent, "silent")] {
        let port = hostile(does);
        let peer = Peer::https(&["200"]);
        let text = mail(port, "tls = 'starttls'")
            + &webhook(peer.port, "")
            + &format!("[notices.syslog]\nserver = '127.0.0.1:{port}'\nprotocol = 'tcp'\n");
        let data = configured(&folder.path().join(what), &text);
        let served = Served::start(&data);
        let before = served.memory_bytes();
        fine(&data, &["share", "create", "films"]);
        // Who does as he should is told at once.
        assert!(peer.next()["body"].as_str().is_some_and(|body| body.contains("films")), "{what}");
        if what != "silent" {
            until("the others fail", || facts(&data, &["status"])["notices"][0]["error"].is_string());
        }
        let begun = Instant::now();
        fine(&data, &["status"]);
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", begun.elapsed());
        let grown = served.memory_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "{what}: {grown} bytes more");
        let begun = Instant::now();
        fine(&data, &["stop"]);
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}: {:?}", begun.elapsed());
    }
}

#[test]
fn no_secret_is_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let peer = Peer::https(&["500"]);
    let secret = secret_file(folder.path(), "secret", SECRET);
    let smtp = Peer::smtp("implicit", &["backup", "another one"]);
    let login = format!("tls = 'implicit'\nuser = 'backup'\npassword_file = '{}'", secret.display());
    let hook = webhook(peer.port, &format!("secret_file = '{}'", secret.display()));
    let data = configured(folder.path(), &(mail(smtp.port, &login) + &hook));
    let served = Served::start(&data);
    assert_eq!(narrowboat(&data, &["notice", "test"]).code, 1);
    fine(&data, &["share", "create", "films"]);
    until("both fail", || {
        let status = facts(&data, &["status"]);
        status["notices"].as_array().is_some_and(|ways| ways.iter().all(|way| way["error"].is_string()))
    });
    let lists = [
        &["notice", "list"][..],
        &["status"],
        &["setting", "list"],
        &["audit"],
        &["--json", "notice", "list"],
        &["--json", "setting", "list"],
    ];
    let mut shown: String = lists.iter().map(|args| fine(&data, args)).collect();
    shown += &served.log();
    until("what was told is kept", || data.join("notices.json").exists());
    shown += &fs::read_to_string(data.join("notices.json")).expect("there");
    shown += &fs::read_to_string(data.join("audit/000001.log")).expect("there");
    for secret in [SECRET, "key=hidden"] {
        assert!(!shown.contains(secret), "{secret} shows");
    }
    let mode = fs::metadata(data.join("notices.json")).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn who_is_told_is_tried_while_it_is_typed_and_counts_when_the_set_up_is_done() {
    use narrowboat::control::Request;
    use narrowboat::control::reports::{NoticeTried, SetUpBegun, SetUpState};
    let folder = tempfile::tempdir().expect("a folder");
    let peer = Peer::smtp("implicit", &["backup", SECRET]);
    let data = configured(folder.path(), &format!("[notices.mail]\ntls = 'implicit'\nca_file = '{}'\n", tls("ca.pem")));
    let served = Served::start(&data);
    let typed = |fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(field, text)| ((*field).to_owned(), (*text).to_owned())).collect();
        served.ask::<SetUpState>(&Request::SetUpType { fields }).expect("kept")
    };
    let tried = || served.ask::<Vec<NoticeTried>>(&Request::SetUpTest);
    assert!(tried().expect_err("nobody yet").message.contains("nobody would be told"));
    let server = format!("localhost:{}", peer.port);
    let state = typed(&[
        ("notices_mail_to", "anna@example.org"),
        ("notices_mail_server", &server),
        ("notices_mail_user", "backup"),
        ("notices_mail_password", ""),
    ]);
    assert!(state.problems.contains_key("notices_mail_password"), "{:?}", state.problems);
    assert!(tried().is_err_and(|failed| failed.field.as_deref() == Some("notices_mail_password")));
    let state = typed(&[("notices_mail_password", "wrong-barges")]);
    assert_eq!((state.problems.len(), &state.secrets[..]), (0, &["notices_mail_password".to_owned()][..]));
    let outcome = &tried().expect("tried")[0];
    assert!(!outcome.arrived && outcome.error.as_ref().is_some_and(|why| !why.is_empty()), "{outcome:?}");
    typed(&[("notices_mail_password", SECRET)]);
    assert!(tried().expect("tried")[0].arrived && peer.next()["to"] == serde_json::json!(["anna@example.org"]));
    // Nothing was done yet.
    assert!(!fs::read_to_string(data.join("narrowboat.toml")).expect("there").contains("anna"));
    assert!(!data.join("secrets/notices.mail.password").exists());

    // As the page does it: without the secret, which it never saw.
    let state: SetUpState = served.ask(&Request::SetUpShow).expect("there");
    let shown = serde_json::to_string(&state).expect("JSON");
    assert!(!shown.contains(SECRET) && !shown.contains("wrong-barges"), "{shown}");
    let set_up = Box::new(narrowboat::setup::typed::set_up(&state.typed));
    let begun: SetUpBegun = served.ask(&Request::SetUpApply { set_up, typed: true }).expect("begun");
    assert!(begun.restarting);
    until("it is set up", || {
        served.ask::<SetUpState>(&Request::SetUpShow).is_ok_and(|state| !state.applying && !state.outcomes.is_empty())
    });
    let file = data.join("secrets/notices.mail.password");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert!(!data.join("secrets/typed.notices_mail_password").exists());
    fine(&data, &["notice", "test", "--way", "mail"]);
    assert_eq!(peer.next()["user"], "backup");
    for text in [
        served.log(),
        facts(&data, &["audit"]).to_string(),
        facts(&data, &["setup", "show"]).to_string(),
        fs::read_to_string(data.join("narrowboat.toml")).expect("there"),
    ] {
        assert!(!text.contains(SECRET) && !text.contains("wrong-barges"), "{text}");
    }
    // Somebody else's server gets no password that was not typed for it.
    typed(&[("notices_mail_user", ""), ("notices_mail_server", "elsewhere.example.org:465")]);
    assert!(tried().is_err_and(|failed| failed.message.contains("password_file goes there")));
    let elsewhere = Box::new(
        narrowboat::setup::SetUp::read(
            "set_up = 1\n[notices.mail]\nto = ['a@b.de']\nfrom = 'c@d.de'\nserver = 'elsewhere.example.org:465'",
        )
        .expect("sound"),
    );
    assert!(served.ask::<SetUpBegun>(&Request::SetUpApply { set_up: elsewhere, typed: true }).is_err());
    assert_eq!(fs::read_to_string(&file).expect("there"), SECRET);
}
