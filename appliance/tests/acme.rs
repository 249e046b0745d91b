//! Certificates for the page of a real box by a real ACME server of another maker: had, renewed, lost and had again.

#[path = "acme/authority.rs"]
mod authority;
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use authority::{CUSTOMER, Office, connect, free};
use common::{Served, data_folder, facts, fine, until};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

const NAME: &str = "backup.bonn.example.org";
/// How long certificates live here, in seconds: they are renewed after 40, and short after 45.
const LIFE: u32 = 60;

fn box_with(folder: &Path, office: &Office, listen: u16, more: &str) -> PathBuf {
    let data = data_folder(folder, "box");
    let (directory, ca_file) = (office.directory(), office.ca_file());
    let page = format!(
        "[page]\nlisten = '127.0.0.1:0'\nannounce = false\n[page.acme]\ndirectory = '{directory}'\nnames = ['{NAME}', 'Second.example.org']\nagree = true\nlisten = '127.0.0.1:{listen}'\nca_file = '{ca_file}'\n{more}\n[notices]\nafter = '1s'"
    );
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    let with = config.replace("[page]\nlisten = ''", &page);
    assert_ne!(with, config);
    fs::write(&file, with).expect("written");
    data
}

fn certificate(data: &Path) -> Value {
    facts(data, &["certificate"])
}

fn page(data: &Path) -> SocketAddr {
    facts(data, &["status"])["page"].as_str().and_then(|text| text.parse().ok()).expect("a page")
}

fn fingerprint(der: &CertificateDer<'_>) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn shown(stream: &StreamOwned<ClientConnection, TcpStream>) -> String {
    fingerprint(&stream.conn.peer_certificates().expect("a server shows one")[0])
}

/// Asks for a page over a connection that stays.
fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>) -> String {
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).expect("it is open");
    let mut said = Vec::new();
    let mut part = [0; 4096];
    loop {
        let length = stream.read(&mut part).expect("it answers");
        assert!(length > 0, "it was closed: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&said).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let bytes = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= bytes.unwrap_or(0) {
            return text;
        }
    }
}

fn told(data: &Path) -> bool {
    let notices = facts(data, &["notice", "list"]);
    let open = notices["open"].as_array().cloned().unwrap_or_default();
    open.iter().any(|open| open["key"] == "certificate" && open["told"] == true)
}

#[test]
fn a_certificate_is_had_renewed_lost_and_had_again_and_the_page_is_always_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let office = Office::new(folder.path());
    let authority = office.open(LIFE, false);
    let data = box_with(folder.path(), &office, office.asks, "contact = 'admin@example.org'");
    let served = Served::start(&data);
    until("it is had", || certificate(&data)["kind"] == "authority");
    let first = certificate(&data);
    assert_eq!(first["names"], serde_json::json!([NAME, "second.example.org"]), "{first}");
    assert!(first["issuer"].as_str().is_some_and(|issuer| issuer.contains("Pebble")), "{first}");
    let (page_at, root) = (page(&data), office.root());
    let mut stays = connect(page_at, "second.example.org", root.clone()).expect("a browser believes it");
    assert_eq!(first["fingerprint"], shown(&stays));
    assert!(connect(page_at, "other.example.org", root.clone()).is_none(), "not for any name");
    assert!(TcpStream::connect(("127.0.0.1", office.asks)).is_err(), "nobody asks now");
    for file in ["acme.pem", "acme.json"] {
        let mode = fs::metadata(data.join("page").join(file)).expect("it is kept").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    // Renewed, while somebody goes on asking over one connection.
    let mut asked = 0;
    while certificate(&data)["fingerprint"] == first["fingerprint"] {
        assert!(ask(&mut stays).contains("200 OK"));
        asked += 1;
        assert!(asked < 600, "it was not renewed: {}", certificate(&data));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(ask(&mut stays).contains("200 OK"), "the old connection stays");
    let second = certificate(&data);
    let new = connect(page_at, NAME, root.clone()).expect("the new one is believed, too");
    assert_eq!(second["fingerprint"], shown(&new), "{second}");
    assert_eq!(shown(&stays), first["fingerprint"].as_str().unwrap_or_default());

    // A restart shows the same, though the authority is gone, which nobody notices yet.
    drop(authority);
    served.kill();
    let served = Served::start(&data);
    let again = certificate(&data);
    assert_eq!(again["fingerprint"], second["fingerprint"], "{again}");
    assert!(again["authority"]["error"].is_null(), "{again}");

    // Told when little is left, and then the box's own takes its place.
    until("it is said why", || certificate(&data)["authority"]["error"].is_string());
    until("it is told", || told(&data));
    let failing = certificate(&data);
    assert!(
        failing["authority"]["remedy"].as_str().is_some_and(|text| text.contains("certificate order")),
        "{failing}"
    );
    until("it has ended", || certificate(&data)["kind"] == "own");
    let page_at = page(&data);
    assert!(connect(page_at, NAME, root).is_none());
    let own = fs::read(data.join("page/certificate.pem")).expect("there");
    let own = <CertificateDer<'static> as rustls::pki_types::pem::PemObject>::from_pem_slice(&own).expect("one");
    assert_eq!(certificate(&data)["fingerprint"], fingerprint(&own));
    let tries = certificate(&data)["authority"]["tries"].as_u64().unwrap_or_default();
    assert!((2..30).contains(&tries), "it does not hammer: {tries}");

    // It comes back, and has forgotten every account.
    let _authority = office.open(3600, false);
    until("another one is had", || certificate(&data)["kind"] == "authority");
    assert!(connect(page(&data), NAME, office.root()).is_some());
    until("all is well", || !told(&data));
    assert!(certificate(&data)["authority"]["error"].is_null());
    let audit = facts(&data, &["audit"]).to_string();
    assert!(audit.contains("certificate-order"), "{audit}");
    assert!(!served.log().contains("PRIVATE KEY"));
}

#[test]
fn what_is_wrong_is_said_with_what_to_do_and_not_tried_all_the_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let office = Office::new(folder.path());
    let _authority = office.open(3600, true);
    let elsewhere = free();
    let data = box_with(folder.path(), &office, elsewhere, "");
    let served = Served::start(&data);
    let error = || certificate(&data)["authority"]["error"].as_str().unwrap_or_default().to_owned();
    let remedy = || certificate(&data)["authority"]["remedy"].as_str().unwrap_or_default().to_owned();
    until("the authority says no", || !error().is_empty());
    assert!(error().contains("externalAccountRequired") && remedy().contains("account_id"), "{} {}", error(), remedy());
    assert!(fine(&data, &["certificate"]).contains("account_id"));

    // As a customer, but at a port where it does not ask.
    let key = folder.path().join("customer.key");
    fs::write(&key, format!("{}\n", CUSTOMER.1)).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
    let file = data.join("narrowboat.toml");
    let customer = format!("agree = true\naccount_id = '{}'\naccount_key_file = '{}'", CUSTOMER.0, key.display());
    let config = fs::read_to_string(&file).expect("a config").replace("agree = true", &customer);
    fs::write(&file, &config).expect("written");
    served.kill();
    let served = Served::start(&data);
    std::thread::sleep(Duration::from_secs(3));
    assert!(error().contains("externalAccountRequired"), "after a restart it waits as before: {}", error());
    fine(&data, &["certificate", "order"]);
    until("the authority asks in vain", || error().contains("\"connection\""));
    assert!(
        remedy().contains(&format!("port {elsewhere}")) && error().contains("example.org"),
        "{} {}",
        error(),
        remedy()
    );

    fs::write(&file, config.replace(&format!(":{elsewhere}"), &format!(":{}", office.asks))).expect("written");
    served.kill();
    let _served = Served::start(&data);
    fine(&data, &["certificate", "order"]);
    until("it is had", || certificate(&data)["kind"] == "authority");
    assert!(connect(page(&data), NAME, office.root()).is_some());
}
