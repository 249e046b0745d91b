//! Hooks over HTTP, HTTPS and ssh, on a real box: what the other side is told, what its answers mean, and that no secret shows.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Served, data_folder, facts, fine, narrowboat};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

const TOKEN: &str = "s3cret-of-the-erp";

/// An HTTP server: answers each request by its path, and remembers what it was told.
struct Server {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("127.0.0.1:{}", listener.local_addr().expect("bound").port());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, tls, all) = (stream.expect("a client"), tls.clone(), all.clone());
                std::thread::spawn(move || match tls {
                    None => answer(&mut stream, &all),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).expect("a sound config");
                        answer(&mut rustls::StreamOwned::new(session, stream), &all);
                    }
                });
            }
        });
        Server { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("sound").clone()
    }
}

/// Reads one request and answers it as its path says.
fn answer(stream: &mut (impl Read + Write), heard: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    let (head, length) = loop {
        match stream.read(&mut piece) {
            // A client that does not trust the server goes away.
            Ok(0) | Err(_) => return,
            Ok(bytes) => request.extend_from_slice(&piece[..bytes]),
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head.len() + 4, length.unwrap_or(0));
        }
    };
    while request.len() < head + length {
        let bytes = stream.read(&mut piece).expect("the rest");
        request.extend_from_slice(&piece[..bytes]);
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    heard.lock().expect("sound").push(text);
    let (status, body) = match path.as_str() {
        "/hang" => return std::thread::sleep(Duration::from_secs(20)),
        "/cut" => return,
        "/no" => {
            ("503 Service Unavailable", format!("<h1>busy</h1>\r\nyour token is {TOKEN}\u{1b}[2J {}", "x".repeat(9000)))
        }
        "/elsewhere" => ("302 Found\r\nLocation: /ok", String::new()),
        _ => ("204 No Content", String::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // Who asked may have gone.
    let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.flush());
}

/// A box with these hooks, and a share that can be marked.
fn serve(folder: &Path, hooks: &str, prepare: impl FnOnce(&mut std::process::Command)) -> Served {
    let data = data_folder(folder, "box");
    fs::write(data.join("narrowboat.toml"), common::CONFIG.replace("NAME", "box") + hooks).expect("a config");
    let served = Served::start_with(&data, prepare);
    fine(&data, &["share", "create", "office"]);
    fine(&data, &["window", "office", "--keep", "24h"]);
    served
}

fn mark(served: &Served, name: &str, hook: &str) -> (i32, Value) {
    let said = narrowboat(&served.data, &["--json", "mark", "office", name, "--hook", hook]);
    (said.code, serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{said:?}")))
}

fn problem(marked: &Value, call: usize) -> String {
    marked["hooks"][call]["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn an_address_is_called_with_what_it_is_about_and_its_answer_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(None);
    let token = folder.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).expect("room");
    let hook = |name: &str, freeze: &str, thaw: &str| {
        format!(
            "[hook.{name}]\nfreeze = 'http://{0}/{freeze}'\nthaw = 'http://{0}/{thaw}'\ntoken_file = '{1}'\n",
            server.address,
            token.display()
        )
    };
    let hooks = [
        hook("erp", "freeze?key=hidden", "thaw"),
        hook("no", "no", "ok"),
        hook("hang", "hang", "ok") + "freeze_timeout = '1s'\n",
        hook("cut", "cut", "ok"),
        hook("elsewhere", "elsewhere", "ok"),
        hook("failing", "ok", "no"),
        "[hook.nobody]\nfreeze = 'http://127.0.0.1:1/'\nthaw = 'http://127.0.0.1:1/'\n".to_owned(),
        "[hook.unknown]\nfreeze = 'http://no-such-host.invalid/'\nthaw = 'http://no-such-host.invalid/'\n".to_owned(),
    ];
    let served = serve(folder.path(), &hooks.concat(), |_| {});
    let (code, marked) = mark(&served, "noon", "erp");
    assert_eq!((code, &marked["consistency"]), (0, &json!("application")), "{marked:#}");
    let heard = server.heard();
    assert_eq!(heard.len(), 2);
    for (request, (path, phase)) in heard.iter().zip([("/freeze?key=hidden", "freeze"), ("/thaw", "thaw")]) {
        assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{request}");
        assert!(request.to_lowercase().contains(&format!("authorization: bearer {TOKEN}\r\n")), "{request}");
        let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
        assert_eq!(body, json!({ "phase": phase, "datasets": ["office"], "mark": "noon" }));
    }
    for (nth, (hook, why, thawed)) in [
        ("no", "HTTP 503 Service Unavailable: <h1>busy</h1>; your token is ***", true),
        ("elsewhere", "HTTP 302 Found", true),
        ("cut", "broke off", true),
        ("hang", "took too long", true),
        ("nobody", "nobody listens", false),
        ("unknown", "host", false),
    ]
    .into_iter()
    .enumerate()
    {
        let (code, marked) = mark(&served, &format!("m{nth}"), hook);
        assert_eq!((code, &marked["quiet"]), (5, &json!(false)), "{hook}: {marked:#}");
        assert!(problem(&marked, 0).contains(why), "{hook}: {marked:#}");
        assert_eq!(marked["hooks"].as_array().expect("a list").len() == 2, thawed, "{hook}: {marked:#}");
        assert!(problem(&marked, 0).len() < 1200, "{hook}: {marked:#}");
    }
    let (code, marked) = mark(&served, "last", "failing");
    assert_eq!((code, &marked["quiet"]), (5, &json!(false)), "{marked:#}");
    let status = facts(&served.data, &["status"]);
    assert_eq!(status["owed_thaws"][0]["hook"], "failing", "{status:#}");
    for shown in [served.log(), status.to_string(), marked.to_string()] {
        assert!(!shown.contains(TOKEN) && !shown.contains("hidden"), "a secret shows: {shown}");
    }
    fs::remove_file(&token).expect("there");
    assert!(problem(&mark(&served, "none", "erp").1, 0).contains("token_file"));
}

fn tls_server() -> Server {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let chain = vec![CertificateDer::from_pem_file(file("server.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("they belong together");
    Server::start(Some(Arc::new(config)))
}

#[test]
fn a_server_that_can_not_be_trusted_is_told_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = tls_server();
    let token = folder.path().join("token");
    fs::write(&token, TOKEN).expect("room");
    let hook = |name: &str, trust: &str| {
        let address = server.address.replace("127.0.0.1", "localhost");
        format!(
            "[hook.{name}]\nfreeze = 'https://{address}/f'\nthaw = 'https://{address}/t'\ntoken_file = '{}'\n{trust}\n",
            token.display()
        )
    };
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/ca.pem");
    let none = folder.path().join("empty.pem");
    fs::write(&none, "").expect("room");
    let hooks = hook("erp", &format!("ca_file = '{}'", ours.display()))
        + &hook("stranger", &format!("ca_file = '{}'", ours.with_file_name("server.pem").display()))
        + &hook("none", &format!("ca_file = '{}'", none.display()));
    let served = serve(folder.path(), &hooks, |_| {});
    let (code, marked) = mark(&served, "noon", "erp");
    assert_eq!((code, server.heard().len()), (0, 2), "{marked:#}");
    if Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        // The system does not know who signed it.
        fs::write(served.data.join("narrowboat.toml"), common::CONFIG.replace("NAME", "box") + &hook("system", ""))
            .expect("room");
        let data = served.data.clone();
        drop(served);
        let served = Served::start(&data);
        let marked = mark(&served, "system", "system").1;
        assert!(problem(&marked, 0).contains("not to be trusted"), "{marked:#}");
        assert_eq!(facts(&data, &["status"])["owed_thaws"], json!([]), "nothing was called");
    } else {
        assert!(problem(&mark(&served, "none", "none").1, 0).contains("no certificate"));
    }
    assert_eq!(server.heard().len(), 2, "nobody else was told anything");
}

/// Puts a program called `ssh` in front of the path: it tells what it was called with, and acts as the server's shell would.
fn fake_ssh(folder: &Path) -> String {
    let script = format!(
        "#!/bin/sh\nfor word; do printf '<%s>' \"$word\" >> {0}/called; command=$word; done; echo >> {0}/called\n\
         echo \"$NARROWBOAT_PHASE $NARROWBOAT_MARK\" >> {0}/variables\n\
         case \"$*\" in *unreachable*) echo 'ssh: connect to host unreachable port 22: No route' >&2; exit 255;; esac\n\
         exec sh -c \"$command\"\n",
        folder.display()
    );
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).expect("room");
    fs::write(bin.join("ssh"), script).expect("room");
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("its owner");
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn a_command_on_a_server_goes_through_ssh_and_its_status_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = fake_ssh(folder.path());
    let trace = folder.path().join("it's a trace");
    let words = |words: &[&str]| json!(words).to_string();
    let leave = |what: &str| words(&["sh", "-c", "echo \"$0\" >> \"$1\"", what, trace.to_str().expect("UTF-8")]);
    let hook = |name: &str, to: &str, freeze: &str, thaw: &str| {
        format!("[hook.{name}]\nssh = '{to}'\nssh_key_file = '/etc/a key'\nfreeze = {freeze}\nthaw = {thaw}\n")
    };
    let hooks = hook("db", "root@db1", &leave("frozen $HOME"), &leave("thawed"))
        + "freeze_timeout = '18s'\n"
        + &hook("no", "root@db1", &words(&["false"]), &words(&["true"]))
        + &hook("hang", "root@db1", &words(&["sleep", "60"]), &words(&["true"]))
        + "freeze_timeout = '1s'\n"
        + &hook("away", "root@unreachable", &words(&["true"]), &words(&["true"]));
    let served = serve(folder.path(), &hooks, |command| {
        command.env("PATH", path);
    });
    let (code, marked) = mark(&served, "noon", "db");
    assert_eq!((code, &marked["consistency"]), (0, &json!("application")), "{marked:#}");
    // Every word reached the server as it was written.
    assert_eq!(fs::read_to_string(&trace).expect("a trace"), "frozen $HOME\nthawed\n");
    let called = fs::read_to_string(folder.path().join("called")).expect("it was called");
    let first = called.lines().next().expect("one call");
    for option in
        ["<BatchMode=yes>", "<ConnectTimeout=9>", "<-i></etc/a key>", "<-T><--><root@db1>", "<SendEnv=NARROWBOAT_*>"]
    {
        assert!(first.contains(option), "{option}: {first}");
    }
    let variables = fs::read_to_string(folder.path().join("variables")).expect("it was called");
    assert_eq!(variables, "freeze noon\nthaw noon\n");
    for (hook, why, owed) in
        [("no", "exit status 1", 0), ("hang", "too long", 0), ("away", "ssh failed: exit status 255", 1)]
    {
        let (code, marked) = mark(&served, hook, hook);
        assert_eq!((code, &marked["consistency"]), (5, &json!("crash")), "{hook}: {marked:#}");
        assert!(problem(&marked, 0).contains(why), "{hook}: {marked:#}");
        let status = facts(&served.data, &["status"]);
        assert_eq!(status["owed_thaws"].as_array().expect("a list").len(), owed, "{hook}: {status:#}");
    }
}
