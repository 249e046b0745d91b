//! Test data that is real: the machine's own files, as a backup would meet them on two days.
//!
//! A day is a folder with four things in it, each of which a deduplicating store meets differently:
//!
//! | name | what | day 2 |
//! | --- | --- | --- |
//! | `files/` | a tree of files with symlinks and hard links | some edited, added, removed, renamed |
//! | `tree.tar` | the same tree as one stream | written anew |
//! | `database.sqlite` | documents and orders with an index | 3 % of the rows updated, some added and removed |
//! | `disk.img` | an ext4 in a disk image, sparse | files inside changed, added, removed |
//!
//! What is chosen and what changes follow from the seed alone; the same seed on the same machine gives the same bytes.
//! Beside each day lies its manifest ([`Manifest`]), so that a day can be compared after it is gone.
//!
//! It never changes the tree it takes files from, and never follows a symlink out of it.

mod database;
mod edit;
mod image;
mod manifest;
mod random;
mod select;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

pub use manifest::{Aspect, Manifest};
use random::Random;
pub use tree::regular_files;

/// An error with the path or program that it concerns, ready to be printed.
#[derive(Debug)]
pub struct Error(String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error(error.to_string())
    }
}

/// What this module returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds to an I/O error which path it concerns.
trait Concerning<T> {
    fn concerning(self, path: &Path) -> Result<T>;
}

impl<T, E: std::fmt::Display> Concerning<T> for std::result::Result<T, E> {
    fn concerning(self, path: &Path) -> Result<T> {
        self.map_err(|error| Error(format!("{}: {error}", path.display())))
    }
}

/// What to make.
pub struct Order {
    /// The folder that holds the days.
    pub dir: PathBuf,
    /// The tree to take files from.
    pub from: PathBuf,
    /// About how large a day is.
    pub size_bytes: u64,
    /// Decides every choice.
    pub seed: u64,
}

impl Order {
    fn day(&self, day: u8) -> PathBuf {
        self.dir.join(format!("day{day}"))
    }

    /// Bytes for the tree; the tar takes as many again.
    fn tree_bytes(&self) -> u64 {
        self.size_bytes * 40 / 100
    }

    fn database_bytes(&self) -> u64 {
        self.size_bytes * 8 / 100
    }

    fn image_bytes(&self) -> u64 {
        (self.size_bytes * 12 / 100).next_multiple_of(1 << 20).max(24 << 20)
    }
}

/// When the work of a day was done, as far as its files tell: a fixed moment, so that days are the same every time.
fn day_time(day: u8) -> SystemTime {
    // 2025-06-02 and 2025-06-03, 18:00 UTC, with a fraction, because backups lose fractions first.
    SystemTime::UNIX_EPOCH + Duration::new(1_748_887_200 + 86_400 * u64::from(day - 1), 123_456_789)
}

/// Makes `day1` from the machine's files.
pub fn make_day1(order: &Order) -> Result<String> {
    let day = fresh_folder(&order.day(1))?;
    let units = select::units(&order.from, order.tree_bytes() / 4)?;
    let mut random = Random::new(order.seed);
    let (chosen, rest) = select::choose(units, order.tree_bytes(), &mut random);

    let files = day.join("files");
    tree::copy(&order.from, &chosen, &files)?;
    tree::add_hard_links(&files, &mut random)?;
    make_tar(&day)?;
    database::create(&day.join("database.sqlite"), &files, order.database_bytes(), &mut random)?;
    // What the file system needs for itself, and room for the second day.
    let room = (order.image_bytes() - (12 << 20)) * 7 / 10;
    let in_image = select::up_to(&order.from, &chosen, room, &mut random);
    image::create(&day.join("disk.img"), &order.from, &in_image, order.image_bytes(), order.seed)?;
    select::save(
        &order.dir.join("spare.list"),
        &select::up_to(&order.from, &rest, order.tree_bytes() / 33, &mut random),
    )?;
    finish(order, 1)
}

/// Makes `day2` from `day1`, which must be there and unchanged.
pub fn make_day2(order: &Order) -> Result<String> {
    let before = order.day(1);
    if !before.join("disk.img").exists() {
        return Err(Error(format!("{}: make day 1 first", before.display())));
    }
    let day = fresh_folder(&order.day(2))?;
    let mut random = Random::new(order.seed ^ 0x6461_7932);
    let files = day.join("files");
    let spare = select::load(&order.dir.join("spare.list"))?;
    tree::clone_tree(&before.join("files"), &files)?;
    edit::one_day(&files, &order.from, &spare, &mut random)?;
    make_tar(&day)?;
    copy_whole(&before.join("database.sqlite"), &day.join("database.sqlite"))?;
    database::update(&day.join("database.sqlite"), &mut random)?;
    copy_whole(&before.join("disk.img"), &day.join("disk.img"))?;
    image::update(&day.join("disk.img"), &files, &mut random)?;
    finish(order, 2)
}

/// Sets the times of the day's large files, writes the manifest and sums up.
fn finish(order: &Order, number: u8) -> Result<String> {
    let day = order.day(number);
    for name in ["tree.tar", "database.sqlite", "disk.img", ""] {
        tree::set_modified(&day.join(name), day_time(number))?;
    }
    let manifest = Manifest::scan(&day)?;
    let path = order.dir.join(format!("day{number}.manifest"));
    let mut out = io::BufWriter::new(fs::File::create(&path).concerning(&path)?);
    manifest.write(&mut out)?;
    Ok(format!("{}: {}", day.display(), manifest.summary()))
}

/// An empty folder where `path` is; what was there is removed.
fn fresh_folder(path: &Path) -> Result<PathBuf> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).concerning(path),
        _ => fs::create_dir_all(path).concerning(path)?,
    }
    Ok(path.to_owned())
}

/// Copies a large file with its holes.
fn copy_whole(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").arg("--preserve=mode,ownership").arg(from).arg(to), None)
}

fn make_tar(day: &Path) -> Result<()> {
    let tar = day.join("tree.tar");
    run(
        Command::new("tar").arg("-C").arg(day).args(["--sort=name", "--numeric-owner", "-cf"]).arg(&tar).arg("files"),
        None,
    )
}

/// A program by name, looked for where the superuser's tools are as well.
fn program(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Writes a program's standard input.
type Feed<'a> = &'a mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>;

/// Runs a program to its end, optionally feeding it; its error text becomes ours.
fn run(command: &mut Command, input: Option<Feed<'_>>) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().concerning(Path::new(&program))?;
    let mut fed = Ok(());
    if let (Some(feed), Some(pipe)) = (input, child.stdin.take()) {
        let mut pipe = io::BufWriter::with_capacity(1 << 20, pipe);
        fed = feed(&mut pipe).and_then(|()| io::Write::flush(&mut pipe));
    }
    let output = child.wait_with_output().concerning(Path::new(&program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error(format!("{program} failed ({}): {}", output.status, said.trim())));
    }
    fed.concerning(Path::new(&program))
}

#[cfg(test)]
mod tests;
