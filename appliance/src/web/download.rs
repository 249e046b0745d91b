//! What somebody takes home: the frames of the box ([`crate::jobs::download`]), handed on as the body of an answer.
//!
//! - One frame is under way at a time: a worker holds some hundred KiB for a download, however large it is and however slowly it is taken.
//! - It is whole, or it breaks off so that a browser says so: without an end the connection is cut, and never ended in order.
//! - What nobody takes is given up, and its connection with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use super::door::Answer;
use super::headers::SANDBOX;
use crate::control::door::Download;
use crate::percent;

/// Longest frame that is taken from the box.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// How long a browser may take none of it.
const UNTAKEN: Duration = Duration::from_secs(60);
/// How long the box may say nothing: a disk that is asked for much is slow.
const SILENT: Duration = Duration::from_secs(120);

/// A connection, as far as downloads have to do with it.
#[derive(Default)]
pub(super) struct Line {
    sending: AtomicUsize,
    given_up: Notify,
}

impl Line {
    /// Whether a download is under way on it.
    pub(super) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::Relaxed) > 0
    }

    /// Returns once nobody has taken a download for too long.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

/// A download under way, which counts until this is dropped.
struct Sending(Arc<Line>);

impl Sending {
    fn on(line: Arc<Line>) -> Sending {
        line.sending.fetch_add(1, Ordering::Relaxed);
        Sending(line)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer with what the box sends.
pub(super) fn answer(head: &Download, from: Answer, place: OwnedSemaphorePermit, line: Arc<Line>) -> Response {
    let (to, parts) = channel(1);
    let (sending, left) = (Sending::on(line), head.bytes);
    tokio::spawn(async move {
        if let Err(error) = pump(from, left, &to, &sending.0).await {
            tracing::info!(%error, "a download was broken off");
        }
        drop((place, sending));
    });
    let body = Body::new(Parts { parts, left, whole: false });
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    let name = HeaderValue::try_from(disposition(&head.name));
    headers.insert(CONTENT_DISPOSITION, name.unwrap_or(HeaderValue::from_static("attachment")));
    response
}

/// Takes frames from the box, and hands on each when the one before it is on its way.
async fn pump(mut from: Answer, mut left: Option<u64>, to: &Sender<Part>, line: &Line) -> io::Result<()> {
    let ended = |_| io::Error::other("the browser went away");
    loop {
        let frame = timeout(SILENT, frame(&mut from)).await.map_err(|_| io::Error::other("the box fell silent"))??;
        let part = match frame {
            Some(bytes) => {
                let short = left.map(|left| left.checked_sub(bytes.len() as u64));
                left = short
                    .map(|left| left.ok_or_else(|| io::Error::other("it is longer than it was said to be")))
                    .transpose()?;
                Part::Bytes(bytes)
            }
            None if left.unwrap_or(0) > 0 => return Err(io::Error::other("it is shorter than it was said to be")),
            None => Part::End,
        };
        let end = matches!(part, Part::End);
        match timeout(UNTAKEN, to.send(part)).await {
            // Nobody asks for the end of what has a length, and has come.
            Ok(_) if end && left == Some(0) => {}
            Ok(sent) => sent.map_err(ended)?,
            Err(_) => {
                line.given_up.notify_one();
                return Err(io::Error::other("nobody took it"));
            }
        }
        if end {
            return Ok(());
        }
    }
}

/// The next frame; none at the end.
async fn frame(from: &mut Answer) -> io::Result<Option<Bytes>> {
    let length = from.read_u32().await?;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other("the box sent something else"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty()))
}

enum Part {
    Bytes(Bytes),
    End,
}

/// The body of an answer: ends in order where the box has said so, and with an error else.
struct Parts {
    parts: Receiver<Part>,
    left: Option<u64>,
    whole: bool,
}

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.whole {
            return Poll::Ready(None);
        }
        self.parts.poll_recv(context).map(|part| match part {
            Some(Part::Bytes(bytes)) => {
                self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Part::End) => {
                self.whole = true;
                None
            }
            None => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download was broken off"))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// What a browser is to call a file (RFC 6266): once as browsers of any age take it, once with all its letters (RFC 8187).
fn disposition(name: &str) -> String {
    let name = harmless(name);
    let plain: String = name.chars().map(|letter| if letter.is_ascii() { letter } else { '_' }).collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent::part(&name))
}

/// A name without what no folder takes, what leads elsewhere, and what makes it look like another one.
fn harmless(name: &str) -> String {
    let odd = |letter: char| letter.is_control() || crate::web::show::turns(letter) || "/\\:*?\"<>|%".contains(letter);
    let name: String = name.chars().map(|letter| if odd(letter) { '_' } else { letter }).collect();
    match name.trim_matches(['.', ' ']) {
        "" => "download".into(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_that_browsers_take() {
        for (name, plain, all) in [
            ("report 7.pdf", "report 7.pdf", "report%207.pdf"),
            ("Zoë.tar", "Zo_.tar", "Zo%C3%AB.tar"),
            ("支店", "__", "%E6%94%AF%E5%BA%97"),
            ("a\"; filename=\"b.exe", "a_; filename=_b.exe", "a_%3B%20filename%3D_b.exe"),
            ("../../etc/passwd", ".._.._etc_passwd", ".._.._etc_passwd"),
            ("a\r\nSet-Cookie: x", "a__Set-Cookie_ x", "a__Set-Cookie_%20x"),
            ("a\u{202e}fdp.exe", "a_fdp.exe", "a_fdp.exe"),
            ("", "download", "download"),
            ("..", "download", "download"),
            ("\u{fffd}", "_", "%EF%BF%BD"),
        ] {
            let wanted = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{all}");
            assert_eq!(disposition(name), wanted, "{name:?}");
            assert!(HeaderValue::try_from(wanted).is_ok());
        }
    }
}
