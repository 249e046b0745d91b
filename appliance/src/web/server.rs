//! Sockets: TLS and HTTP/1.1, with a bound to whatever a stranger can hold.
//!
//! HTTP/2 is left out: the page is a handful of files, and its streams, windows and resets would be one more parser in front of everybody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as Listener};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::door::Door;
use super::download::Line;
use super::tls::Tls;
use super::visitor::Seen;

use super::{headers, pages};
use crate::clock;

/// Connections at once.
const CONNECTIONS_MAX: usize = 256;
/// Of these, from one address (IPv6: from one network of 2^64).
const ADDRESS_MAX: usize = 16;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD: Duration = Duration::from_secs(20);
/// How long a connection may last in all: a browser makes a new one without anybody noticing.
const CONNECTION: Duration = Duration::from_secs(600);
/// How long its last request may take then.
const LAST: Duration = Duration::from_secs(90);
/// How long they all may take once the box has ended: it waits a little longer for this process.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest head, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Most lines of a head.
const HEADERS_MAX: usize = 64;
/// The first byte of a TLS handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Serves until the box ends, and answers then what was asked before.
pub(super) async fn serve(listener: Listener, door: OwnedFd, tls: Tls, name: String) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (api, run) = (Default::default(), run());
    let web = Arc::new(pages::Web { name, door: Door::new(door)?, live: Default::default(), api, run });
    let router = pages::router(web.clone());
    let (acceptor, open) = (TlsAcceptor::from(tls.config()?), Open::default());
    let (end, ending) = watch::channel(false);
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let Some(place) = open.enter(from) else { continue };
                    let (acceptor, router, ending) = (acceptor.clone(), router.clone(), ending.clone());
                    tokio::spawn(async move {
                        connection(stream, place.from, acceptor, router, ending).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the page could not take a connection");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = web.door.ended(|told| tls.told(told)) => {}
    }
    // Whoever had the box restart is still to be told so.
    end.send_replace(true);
    let deadline = Instant::now() + FAREWELL;
    while !open.lock().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// A name for this worker that none before it had.
fn run() -> String {
    format!("{:x}", clock::wall().0)
}

/// Connections that are open, by where they come from.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; it counts until this is dropped.
struct Place {
    open: Open,
    from: IpAddr,
}

impl Open {
    fn enter(&self, from: SocketAddr) -> Option<Place> {
        let from = from.ip().to_canonical();
        let mut open = self.lock();
        let all: usize = open.values().sum();
        let own = open.get(&network(from)).copied().unwrap_or_default();
        if all >= CONNECTIONS_MAX || own >= ADDRESS_MAX {
            tracing::debug!(%from, all, own, "too many connections to the page");
            return None;
        }
        open.insert(network(from), own + 1);
        Some(Place { open: self.clone(), from })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        let network = network(self.from);
        match open.get_mut(&network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&network)),
        }
    }
}

/// Whom an address stands for: one host has a whole network of IPv6 addresses.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(from) => IpAddr::from((u128::from(from) >> 64 << 64).to_be_bytes()),
    }
}

async fn connection(
    stream: TcpStream,
    from: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let at = stream.local_addr().ok().map(|at| at.ip().to_canonical());
    let mut first = [0];
    match timeout(HANDSHAKE, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == TLS_HANDSHAKE => {}
        Ok(Ok(1)) => return point_to_tls(stream).await,
        _ => return,
    }
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return tracing::debug!(%from, "no TLS came about");
    };
    let inner = TowerToHyperService::new(router);
    let line = Arc::new(Line::default());
    let of_requests = line.clone();
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Seen { from, at });
        request.extensions_mut().insert(of_requests.clone());
        let response = inner.call(request.map(Body::new));
        async move {
            let mut response: Response<Body> = response.await?;
            headers::put(response.headers_mut());
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut serving = pin!(serving);
    let serving = async {
        let lasts = async {
            tokio::select! {
                () = tokio::time::sleep(CONNECTION) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%from, %error, "a connection to the page ended");
                }
                return;
            }
            () = lasts => {}
        }
        serving.as_mut().graceful_shutdown();
        // A download takes the time that it takes. One that nobody takes is given up.
        while timeout(LAST, serving.as_mut()).await.is_err() && line.is_sending() {}
    };
    tokio::select! {
        () = serving => {}
        () = line.given_up() => tracing::debug!(%from, "a download was given up: nobody took it"),
    }
}

/// Sends whoever forgot the `s` of `https` to the right address. Nothing else is answered without TLS.
async fn point_to_tls(mut stream: TcpStream) {
    let mut head = vec![0; 4096];
    let mut length = 0;
    let read = async {
        while length < head.len() && !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut head[length..]).await {
                Ok(count) if count > 0 => length += count,
                _ => break,
            }
        }
    };
    if timeout(HANDSHAKE, read).await.is_err() {
        return;
    }
    let answer = match host_of(&head[..length]) {
        Some(host) => format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: https://{host}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        None => "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 34\r\nConnection: close\r\n\r\nThis page is there by https alone.".into(),
    };
    let _ = timeout(HANDSHAKE, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
}

/// The host that a request in the clear asks for, where it is one that can stand in an address.
fn host_of(head: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(head).ok()?;
    let line =
        text.lines().skip(1).find(|line| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("host:")))?;
    let host = line[5..].trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
    (!host.is_empty() && host.bytes().all(plain)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let open = Open::default();
        let at = |text: &str| SocketAddr::new(text.parse().expect("an address"), 1);
        let mut places: Vec<_> = (0..ADDRESS_MAX).map(|_| open.enter(at("192.0.2.1")).expect("a place")).collect();
        assert!(open.enter(at("192.0.2.1")).is_none() && open.enter(at("::ffff:192.0.2.1")).is_none());
        assert!(open.enter(at("192.0.2.2")).is_some(), "which is free again at once");
        places.pop();
        assert!(open.enter(at("192.0.2.1")).is_some());
        let _six: Vec<_> =
            (0..ADDRESS_MAX).map(|host| open.enter(at(&format!("2001:db8::{host:x}"))).expect("a place")).collect();
        assert!(open.enter(at("2001:db8::ffff")).is_none(), "one network");
        assert!(open.enter(at("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn all_places_are_bounded() {
        let open = Open::default();
        let enter = |host: usize| open.enter(SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 1)));
        let places: Vec<_> = (0..CONNECTIONS_MAX).map(enter).collect();
        assert!(places.iter().all(Option::is_some) && enter(CONNECTIONS_MAX).is_none());
        drop(places);
        assert!(open.lock().is_empty());
    }

    #[test]
    fn only_plain_hosts_are_pointed_to() {
        let host = |head: &'static str| host_of(head.as_bytes());
        assert_eq!(host("GET / HTTP/1.1\r\nHost: box.local:8443\r\n\r\n"), Some("box.local:8443"));
        assert_eq!(host("GET / HTTP/1.1\r\nHOST: [::1]:8443\r\n\r\n"), Some("[::1]:8443"));
        for wrong in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", "", "\u{16}\u{3}", "a\r\nhöst"]
        {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }
}
