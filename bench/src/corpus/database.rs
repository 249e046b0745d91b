//! A database as a branch office has one: documents (real texts of the corpus) and orders with an index, made and
//! changed by the real `sqlite3`, so that its pages are laid out and dirtied as a database does it.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use super::edit::words;
use super::random::Random;
use super::{Error, Result, run, tree};

/// Longest text of one document, so that some rows overflow their page and most do not.
const TEXT_BYTES_MAX: usize = 6_000;

/// Makes the database at `path`, about `bytes` large, with texts from the files below `files`.
pub fn create(path: &Path, files: &Path, bytes: u64, random: &mut Random) -> Result<()> {
    let sources = tree::regular_files(files)?;
    sqlite(path, &mut |out| {
        out.write_all(
            b"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA page_size=4096;
              CREATE TABLE documents(id INTEGER PRIMARY KEY, name TEXT, body TEXT, version INTEGER DEFAULT 1);
              CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, placed INTEGER, cents INTEGER, note TEXT);
              BEGIN;\n",
        )?;
        let mut written = 0;
        // Texts run out on a small corpus; then orders fill the rest.
        for source in &sources {
            if written > bytes * 6 / 10 {
                break;
            }
            let Some(text) = text_of(source) else { continue };
            let name = source.strip_prefix(files).unwrap_or(source).to_string_lossy();
            writeln!(out, "INSERT INTO documents(name,body) VALUES('{}','{}');", quoted(&name), quoted(&text))?;
            written += (text.len() + name.len() + 16) as u64;
        }
        while written < bytes {
            written += insert_order(out, random)? as u64;
        }
        out.write_all(b"COMMIT; CREATE INDEX orders_by_customer ON orders(customer, placed);\n")
    })
}

/// A day of transactions: 3 % of the orders and documents change, some come, few go.
pub fn update(path: &Path, random: &mut Random) -> Result<()> {
    let (orders, documents) = (count(path, "orders")?, count(path, "documents")?);
    sqlite(path, &mut |out| {
        out.write_all(b"PRAGMA synchronous=OFF;\nBEGIN;\n")?;
        for number in 0..orders * 3 / 100 {
            let id = 1 + random.below(orders);
            writeln!(
                out,
                "UPDATE orders SET cents=cents+{}, note='paid {number}' WHERE id={id};",
                1 + random.below(999)
            )?;
            if number % 50 == 49 {
                out.write_all(b"COMMIT; BEGIN;\n")?;
            }
        }
        for _ in 0..documents * 3 / 100 {
            let id = 1 + random.below(documents);
            let addition = String::from_utf8(words(random, 120)).unwrap_or_default();
            writeln!(out, "UPDATE documents SET version=version+1, body=body||'{addition}' WHERE id={id};")?;
        }
        for _ in 0..orders / 100 {
            insert_order(out, random)?;
        }
        for _ in 0..orders / 200 {
            writeln!(out, "DELETE FROM orders WHERE id={};", 1 + random.below(orders))?;
        }
        out.write_all(b"COMMIT;\n")
    })
}

fn sqlite(path: &Path, feed: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    run(Command::new("sqlite3").args(["-batch", "-bail"]).arg(path), Some(feed))
}

fn count(path: &Path, table: &str) -> Result<u64> {
    let output = Command::new("sqlite3").arg(path).arg(format!("SELECT count(*) FROM {table}")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| Error(format!("sqlite3 cannot count {table} in {}", path.display())))
}

/// Writes one order; returns about how many bytes it takes in the database.
fn insert_order(out: &mut dyn Write, random: &mut Random) -> io::Result<usize> {
    let length = 20 + random.below(120) as usize;
    let note = String::from_utf8(words(random, length)).unwrap_or_default();
    let (customer, placed, cents) =
        (random.below(5_000), 1_700_000_000 + random.below(40_000_000), random.below(90_000));
    writeln!(out, "INSERT INTO orders(customer,placed,cents,note) VALUES({customer},{placed},{cents},'{note}');")?;
    Ok(length + 34)
}

/// The beginning of a file that is text, else none.
fn text_of(path: &Path) -> Option<String> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(TEXT_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    let valid = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        // The limit may have cut a character in two; anything else is not text.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return None,
    };
    bytes.truncate(valid);
    let text = String::from_utf8(bytes).ok()?;
    (text.len() > 64 && !text.contains('\0')).then_some(text)
}

fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}
