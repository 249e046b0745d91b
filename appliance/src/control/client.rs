//! Asking a running box.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::{Failed, Message, Request, SOCKET, SocketPath};
use crate::jobs::Progress;

/// Asks the box in a data folder; `tell` hears how far it is. Fails with kind "absent" where no box runs there.
pub fn ask(data: &Path, request: &Request, tell: &mut dyn FnMut(Progress)) -> Result<Value, Failed> {
    let path = data.join(SOCKET);
    let connected = SocketPath::of(data).and_then(|socket| UnixStream::connect(socket.path()));
    let stream = connected.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failed {
            kind: "absent".into(),
            message: format!(
                "no box runs in {}: start it with `narrowboat serve --data {}`",
                data.display(),
                data.display()
            ),
        },
        _ => Failed {
            kind: "environment".into(),
            message: format!("can't reach the box at {}: {error}", path.display()),
        },
    })?;
    let lost = |error: std::io::Error| Failed {
        kind: "environment".into(),
        message: format!("the box went away before it answered: {error}"),
    };
    let mut line = serde_json::to_vec(request).map_err(|error| Failed::refused(error.to_string()))?;
    line.push(b'\n');
    (&stream).write_all(&line).map_err(lost)?;
    for line in BufReader::new(&stream).lines() {
        let message = serde_json::from_str(&line.map_err(lost)?);
        match message.map_err(|error| lost(error.into()))? {
            Message::Progress(progress) => tell(progress),
            Message::Done(value) => return Ok(value),
            Message::Failed(failed) => return Err(failed),
        }
    }
    Err(lost(ErrorKind::UnexpectedEof.into()))
}
