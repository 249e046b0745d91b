//! A program that uses the interface: a token, JSON, one request a connection.

use std::io::Write;
use std::net::SocketAddr;

use serde_json::Value;

use crate::browser::{Answer, connect, read};

/// Whoever shows a token; nobody where it is empty.
pub struct Program {
    pub address: SocketAddr,
    pub token: String,
}

impl Program {
    pub fn new(address: SocketAddr, token: &str) -> Program {
        Program { address, token: token.into() }
    }

    /// Sends a request as it is.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        if !self.token.is_empty() {
            head += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut stream = connect(self.address);
        stream.write_all(head.as_bytes()).expect("a worker that listens");
        stream.write_all(b"\r\n").expect("a worker that listens");
        // It may have heard enough before.
        let _ = stream.write_all(body);
        read(&mut stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", &format!("/api/v1{path}"), &[], b"")
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", &format!("/api/v1{path}"), &[], b"")
    }

    /// Sends JSON.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.keyed(method, path, body, &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body)
    }

    /// The same with more in its head.
    pub fn keyed(&self, method: &str, path: &str, body: &Value, more: &[(&str, &str)]) -> Answer {
        let headers = [&[("Content-Type", "application/json")], more].concat();
        self.send(method, &format!("/api/v1{path}"), &headers, body.to_string().as_bytes())
    }
}

/// What an answer holds that was to be a good one.
pub fn good(answer: &Answer) -> Value {
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The status of a problem, its name, and the field that it is about.
pub fn problem(answer: &Answer) -> (u16, String, Option<String>) {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{} {}", answer.status, answer.body);
    let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(problem["status"], answer.status);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 8), "{problem}");
    let name = problem["type"].as_str().and_then(|urn| urn.strip_prefix("urn:narrowboat:problem:")).expect("a name");
    assert_eq!(answer.header("www-authenticate").is_empty(), answer.status != 401);
    assert_eq!(answer.header("allow").is_empty(), answer.status != 405);
    (answer.status, name.to_owned(), problem["field"].as_str().map(str::to_owned))
}
