//! Asking a running box.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use super::{Failed, Message, Request, SOCKET, SocketPath, is_trusted, second_socket};
use crate::jobs::Progress;

/// Asks the box in a data folder; `tell` hears how far it is. Fails with kind "absent" where no box runs there.
pub fn ask(data: &Path, request: &Request, tell: &mut dyn FnMut(Progress)) -> Result<Value, Failed> {
    talk(data, request, tell).map(|(answer, _)| answer)
}

/// Asks the box in a data folder to stop, and returns once it has ended, whatever runs there afterwards.
pub fn stop(data: &Path) -> Result<Value, Failed> {
    let (answer, mut rest) = talk(data, &Request::Stop, &mut |_| {})?;
    // A box that is killed on the way has ended, too.
    let _ = io::copy(&mut rest, &mut io::sink());
    Ok(answer)
}

/// Connects to the box in a data folder: where the disk does not answer, by the socket's second name.
fn connect(data: &Path) -> io::Result<UnixStream> {
    let failed = match SocketPath::of(data).and_then(|socket| UnixStream::connect(socket.path())) {
        // There is no box, or one that takes no more.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => error,
        connected => return connected,
    };
    let second = second_socket(data).and_then(|address| UnixStream::connect_addr(&address));
    second.ok().filter(is_trusted).ok_or(failed)
}

/// Asks, and returns the answer and what may follow it.
fn talk(
    data: &Path,
    request: &Request,
    tell: &mut dyn FnMut(Progress),
) -> Result<(Value, BufReader<UnixStream>), Failed> {
    let path = data.join(SOCKET);
    let connected = connect(data);
    let stream = connected.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failed::of(
            "absent",
            format!("no box runs in {}: start it with `narrowboat serve --data {}`", data.display(), data.display()),
        ),
        _ => Failed::of("environment", format!("can't reach the box at {}: {error}", path.display())),
    })?;
    let lost = |error: io::Error| Failed::of("environment", format!("the box went away before it answered: {error}"));
    let mut line = serde_json::to_vec(request).map_err(|error| Failed::refused(error.to_string()))?;
    line.push(b'\n');
    // A box that is asked too much says so before it has heard what is asked.
    let asked = (&stream).write_all(&line);
    let mut answer = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if answer.read_line(&mut line).map_err(lost)? == 0 {
            return Err(lost(asked.err().unwrap_or(ErrorKind::UnexpectedEof.into())));
        }
        match serde_json::from_str(&line).map_err(|error| lost(error.into()))? {
            Message::Progress(progress) => tell(progress),
            Message::Done(value) => return Ok((value, answer)),
            Message::Failed(failed) => return Err(failed),
        }
    }
}
