//! Standard output. Whoever reads it may stop before the end (`| head`): then there is nothing left to say, and no harm done.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::process::exit;

/// Prints one line. Names in it come from clients and peers: what would move the cursor, or begin another line, is shown
/// and not done.
pub(super) fn line(text: Arguments) {
    write(shown(&text.to_string()));
}

/// Prints text as it is, such as JSON, which has its own way to show odd characters.
pub(super) fn verbatim(text: &str) {
    write(text.into());
}

fn shown(text: &str) -> Cow<'_, str> {
    match text.chars().any(char::is_control) {
        false => text.into(),
        true => {
            let show = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
            text.chars().map(show).collect::<String>().into()
        }
    }
}

/// Ends the program quietly where nobody reads any more, and with a sentence where it cannot be written.
fn write(text: Cow<str>) {
    // Only complete lines leave the lock, and a terminal shows each at once.
    let written = writeln!(io::stdout().lock(), "{text}");
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            eprintln!("cannot write the answer: {error}");
            exit(1);
        }
    }
}

/// Like `println!`, for an output that may be closed early.
macro_rules! say {
    () => { $crate::cli::out::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_do_nothing_to_the_terminal() {
        assert_eq!(super::shown("+ plain ü name"), "+ plain ü name");
        assert_eq!(super::shown("+ \u{1b}[2Jx\nfake\u{9b}1m"), "+ \\u{1b}[2Jx\\nfake\\u{9b}1m");
    }
}
