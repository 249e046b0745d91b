//! Pebble (Debian), the test server of Let's Encrypt's makers, with a DNS in which every name is this machine.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::common::until;

/// A customer of the authority, and his key.
pub const CUSTOMER: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

/// A process that ends with this.
struct Held(Child);

impl Held {
    fn start(command: &mut Command, log: &Path) -> Held {
        let log = fs::File::create(log).expect("a folder");
        let again = log.try_clone().expect("a file");
        let command = command.stdin(Stdio::null()).stdout(log).stderr(again);
        Held(command.spawn().unwrap_or_else(|error| panic!("{command:?} (Debian package pebble): {error}")))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where everything of it is.
pub struct Office {
    folder: PathBuf,
    directory: u16,
    management: u16,
    /// Where it asks, instead of port 80.
    pub asks: u16,
    names: u16,
    _dns: Held,
}

/// The authority; it ends when this is dropped, and remembers nothing.
pub struct Authority(#[allow(dead_code, reason = "held until its end")] Held);

/// A port of this machine that nobody has.
pub fn free() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn tls(file: &str) -> String {
    format!("{}/tests/tls/{file}", env!("CARGO_MANIFEST_DIR"))
}

impl Office {
    pub fn new(folder: &Path) -> Office {
        let (names, management) = (free(), free());
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", ""]);
        dns.args(["-dns01", &format!("127.0.0.1:{names}"), "-management", &format!("127.0.0.1:{management}")]);
        let dns = Held::start(&mut dns, &folder.join("dns.log"));
        Office { folder: folder.into(), directory: free(), management: free(), asks: free(), names, _dns: dns }
    }

    /// Starts it; its certificates live for so many seconds.
    pub fn open(&self, seconds: u32, for_customers: bool) -> Authority {
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.directory), "managementListenAddress": format!("127.0.0.1:{}", self.management),
            "certificate": tls("server.pem"), "privateKey": tls("server.key"), "httpPort": self.asks, "tlsPort": free(), "ocspResponderURL": "",
            "externalAccountBindingRequired": for_customers, "externalAccountMACKeys": { CUSTOMER.0: CUSTOMER.1 },
            "certificateValidityPeriod": seconds
        }});
        let file = self.folder.join("pebble.json");
        fs::write(&file, config.to_string()).expect("written");
        let mut pebble = Command::new("pebble");
        pebble.arg("-strict").arg("-config").arg(&file).arg("-dnsserver").arg(format!("127.0.0.1:{}", self.names));
        // Every order is asked about anew, and at once; some nonces are refused, as it comes.
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        let held = Held::start(&mut pebble, &self.folder.join("pebble.log"));
        until("the authority is there", || TcpStream::connect(("127.0.0.1", self.directory)).is_ok());
        Authority(held)
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.directory)
    }

    /// Whom the directory's own certificate is believed by.
    pub fn ca_file(&self) -> String {
        tls("ca.pem")
    }

    /// Who vouches for what it gives, as it runs now.
    pub fn root(&self) -> CertificateDer<'static> {
        let ca = fs::read(tls("ca.pem")).expect("there");
        let roots = RootCerts::new_with_certs(&[Certificate::from_pem(&ca).expect("one")]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build();
        let agent = ureq::Agent::config_builder().tls_config(tls).build().new_agent();
        let mut answer = agent.get(format!("https://localhost:{}/roots/0", self.management)).call().expect("its root");
        let pem = answer.body_mut().read_to_vec().expect("its root");
        CertificateDer::from_pem_slice(&pem).expect("one")
    }
}

/// A connection by a name, for whoever believes this root alone; nothing where he does not believe what he is shown.
pub fn connect(
    page: SocketAddr,
    name: &str,
    root: CertificateDer<'static>,
) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("sound");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("sound");
    let mut stream = StreamOwned::new(connection, TcpStream::connect(page).expect("the page is there"));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    Some(stream)
}
