//! Standard output. Whoever reads it may stop before the end (`| head`): then there is nothing left to say, and no harm done.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::process::exit;

/// Prints one line. Ends the program quietly where nobody reads any more, and with a sentence where it cannot be written.
pub(super) fn line(text: Arguments) {
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
