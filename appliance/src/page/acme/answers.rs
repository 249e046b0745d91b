//! Answers to what an authority asks in the clear (http-01, RFC 8555, 8.3), while something is ordered: a token's text to whoever knows the token, and
//! nothing else to anybody.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Where authorities ask.
const PATH: &str = "/.well-known/acme-challenge/";
/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// How long one may last.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Texts by tokens.
type Known = Arc<Mutex<HashMap<String, String>>>;

/// A port that answers until this is dropped.
pub struct Answers {
    known: Known,
    serving: JoinHandle<()>,
}

impl Answers {
    /// Opens the port.
    pub async fn open(listen: SocketAddr) -> io::Result<Answers> {
        let listener = TcpListener::bind(listen).await?;
        let known = Known::default();
        let serving = tokio::spawn(serve(listener, known.clone()));
        Ok(Answers { known, serving })
    }

    /// Answers this, too.
    pub fn add(&self, token: &str, text: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(token.to_owned(), text.to_owned());
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, known: Known) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // One that finds no place waits in the kernel: nobody keeps one for long.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let known = known.clone();
                tokio::spawn(async move {
                    let _ = timeout(PATIENCE, answer(stream, &known)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "an authority's question could not be taken");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, known: &Known) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut part = [0; 1024];
        match stream.read(&mut part).await? {
            0 => return Ok(()),
            length if head.len() + length > HEAD_BYTES_MAX => return Ok(()),
            length => head.extend_from_slice(&part[..length]),
        }
    }
    let text = token(&head).and_then(|token| known.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned());
    let (status, text) = text.map_or(("404 Not Found", String::new()), |text| ("200 OK", text));
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The token that a request asks about.
fn token(head: &[u8]) -> Option<&str> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    (method == "GET").then_some(path)?.strip_prefix(PATH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_in_the_first_line_alone() {
        let of = |text: &'static str| token(text.as_bytes());
        assert_eq!(of("GET /.well-known/acme-challenge/abc-_1 HTTP/1.1\r\nHost: x\r\n\r\n"), Some("abc-_1"));
        for other in [
            "POST /.well-known/acme-challenge/abc HTTP/1.1\r\n\r\n",
            "GET /.well-known/acme-challenge/abc\r\n\r\n",
            "GET / HTTP/1.1\r\nx: GET /.well-known/acme-challenge/abc HTTP/1.1\r\n\r\n",
            "\u{fffd} \u{16}\u{3}",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn only_known_tokens_are_answered_and_nobody_holds_the_port() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let at = free.expect("a port");
            let answers = Answers::open(at).await.expect("it is free again");
            answers.add("abc", "abc.thumb");
            // So many say nothing, and more than all.
            let mut silent = Vec::new();
            for _ in 0..CONNECTIONS_MAX + 4 {
                silent.push(TcpStream::connect(at).await.expect("the port is open"));
            }
            for (token, expected) in [("abc", "200 OK"), ("ab", "404"), ("abcd", "404"), ("", "404"), ("../abc", "404")]
            {
                let mut stream = TcpStream::connect(at).await.expect("the port is open");
                let asked = format!("GET {PATH}{token} HTTP/1.1\r\nHost: box\r\n\r\n");
                stream.write_all(asked.as_bytes()).await.expect("written");
                let mut said = String::new();
                stream.read_to_string(&mut said).await.expect("an answer");
                assert!(said.contains(expected) && said.ends_with("abc.thumb") == (token == "abc"), "{token}: {said}");
            }
            drop((silent, answers));
            tokio::task::yield_now().await;
            assert!(TcpStream::connect(at).await.is_err(), "it is closed with the order");
        });
    }
}
