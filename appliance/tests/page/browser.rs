//! As much of a browser as the tests need: one request a connection, over TLS, with a jar for cookies.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// From what came.
    pub fn of(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Answer { status, headers, body: body.to_owned() }
    }

    /// A header that is there once; empty where it is not.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// What stands between two texts.
    pub fn between(&self, before: &str, after: &str) -> &str {
        let from = self.body.find(before).unwrap_or_else(|| panic!("no {before:?} in {}", self.body)) + before.len();
        let length = self.body[from..].find(after).expect("its end");
        &self.body[from..from + length]
    }

    /// The token of its first form.
    pub fn token(&self) -> String {
        self.between("name=\"form\" value=\"", "\"").to_owned()
    }
}

/// A connection with TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects to the page, and believes the certificate of these tests.
pub fn connect(address: SocketAddr) -> Stream {
    let ca = format!("{}/tests/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("an authority")).expect("an authority that is one");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).expect("a page");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream)
}

/// Whoever looks at the page.
pub struct Browser {
    pub address: SocketAddr,
    pub cookies: BTreeMap<String, String>,
    /// What is sent as `Origin` with forms.
    pub origin: Option<String>,
}

impl Browser {
    pub fn new(address: SocketAddr) -> Browser {
        let origin = Some(format!("https://localhost:{}", address.port()));
        Browser { address, cookies: BTreeMap::new(), origin }
    }

    /// One that has a session already.
    pub fn signed_in(address: SocketAddr, session: &str) -> Browser {
        let mut browser = Browser::new(address);
        browser.cookies.insert("__Host-narrowboat".into(), session.into());
        browser
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "", &[])
    }

    /// Sends a form with the token of the page `from`.
    pub fn submit(&mut self, from: &Answer, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = from.token();
        self.post(path, &[&[("form", token.as_str())], fields].concat())
    }

    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect::<Vec<_>>()
            .join("&");
        let origin = self.origin.clone();
        let more: Vec<(&str, &str)> = origin.iter().map(|origin| ("Origin", origin.as_str())).collect();
        self.send("POST", path, &body, &more)
    }

    pub fn send(&mut self, method: &str, path: &str, body: &str, more: &[(&str, &str)]) -> Answer {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n", self.address.port());
        if !cookies.is_empty() {
            head += &format!("Cookie: {cookies}\r\n");
        }
        if method == "POST" {
            head += &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", body.len());
        }
        for (name, value) in more {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = connect(self.address);
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).expect("a page that listens");
        let answer = read(&mut stream);
        for (_, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, rest) = value.split_once('=').expect("a cookie");
            let value = rest.split(';').next().unwrap_or_default();
            assert!(rest.contains("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{rest}");
            match rest.contains("Max-Age=0") {
                true => drop(self.cookies.remove(name)),
                false => drop(self.cookies.insert(name.into(), value.into())),
            }
        }
        answer
    }
}

/// Reads an answer to its end.
pub fn read(stream: &mut Stream) -> Answer {
    Answer::of(&String::from_utf8(read_bytes(stream)).expect("text"))
}

/// The same as it came.
pub fn read_bytes(stream: &mut Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // The worker may close without a word after the answer, which has a length.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
