//! The programs that do the work (mdadm, cryptsetup, sfdisk, mkfs.ext4, ...), and how they are called: what is secret goes by standard input or by a file in memory,
//! never in an argument, a message or a log; what they say is read only where it is JSON.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use super::facts::{Facts, LSBLK};
use crate::control::Failed;

/// Where the programs are: who is not root by login often has no sbin in the path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs, and the packages that have them.
const TOOLS: [(&str, &str); 12] = [
    ("lsblk", "util-linux"),
    ("wipefs", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("sfdisk", "fdisk"),
    ("mdadm", "mdadm"),
    ("cryptsetup", "cryptsetup-bin"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("e2label", "e2fsprogs"),
    ("systemd-cryptenroll", "systemd"),
    ("smartctl", "smartmontools"),
];

/// What must not be seen. It is overwritten when it is dropped, and can't be printed.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes bytes for a secret.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// What is in a file, or comes by standard input (`-`), without the line's end.
    pub fn read(path: &Path) -> Result<Secret, Failed> {
        let mut bytes = Vec::new();
        let read = match path == Path::new("-") {
            true => io::stdin().lock().take(1 << 20).read_to_end(&mut bytes),
            false => File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)),
        };
        read.map_err(|error| Failed::environment(format!("the key file {} can't be read: {error}", path.display())))?;
        while bytes.last().is_some_and(|byte| *byte == b'\n' || *byte == b'\r') {
            bytes.pop();
        }
        match bytes.is_empty() {
            true => Err(Failed::refused(format!("the key file {} is empty", path.display()))),
            false => Ok(Secret(bytes)),
        }
    }

    /// Whether it is the same as another one.
    pub fn is(&self, other: &Secret) -> bool {
        self.0 == other.0
    }

    /// As text, where it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether it is a recovery key, by its form.
    pub fn is_recovery_key(&self) -> bool {
        super::luks::is_recovery_key(&self.0)
    }

    /// A file in memory that holds it, for a program that wants a path. It goes with the value.
    pub fn file(&self) -> Result<KeyFile, Failed> {
        let failed = |error: io::Error| Failed::environment(format!("no memory for a key: {error}"));
        // Without CLOEXEC: the program that is started inherits it.
        let memory =
            rustix::fs::memfd_create("key", rustix::fs::MemfdFlags::empty()).map_err(|error| failed(error.into()))?;
        let mut file = File::from(memory);
        rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR).map_err(|error| failed(error.into()))?;
        file.write_all(&self.0).map_err(failed)?;
        Ok(KeyFile(file))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
    }
}

/// A secret as a file that only this program and those that it starts can open.
pub struct KeyFile(File);

impl KeyFile {
    /// Its path, which means the same to the program that is started.
    pub fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// What a program ended with.
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// Its standard output.
    pub out: Vec<u8>,
    /// The last that it wrote beside.
    pub complaint: String,
}

/// Runs a program to its end, whatever that is.
pub fn try_run(program: &str, args: &[&str], input: &[u8]) -> Result<Ended, Failed> {
    let started = Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| not_started(program, &error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not want it all has said why by its exit code.
        let _ = stdin.write_all(input);
    }
    let done = child.wait_with_output().map_err(|error| Failed::environment(format!("{program}: {error}")))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&done.stdout) } else { said };
    let complaint = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim().to_owned();
    Ok(Ended { code: done.status.code().unwrap_or(-1), out: done.stdout, complaint })
}

/// Runs a program that has to succeed.
pub fn run(program: &str, args: &[&str]) -> Result<Vec<u8>, Failed> {
    run_with(program, args, &[])
}

/// The same, with something on its standard input.
pub fn run_with(program: &str, args: &[&str], input: &[u8]) -> Result<Vec<u8>, Failed> {
    let ended = try_run(program, args, input)?;
    match ended.code {
        0 => Ok(ended.out),
        code => Err(Failed::environment(format!(
            "`{program} {}` ended with {code} and said: {}",
            args.join(" "),
            ended.complaint
        ))),
    }
}

/// The same, with a secret there.
pub fn run_with_secret(program: &str, args: &[&str], secret: &Secret) -> Result<Ended, Failed> {
    try_run(program, args, &secret.0)
}

fn not_started(program: &str, error: &io::Error) -> Failed {
    let package = TOOLS.iter().find(|(tool, _)| *tool == program).map_or("", |(_, package)| package);
    match error.kind() {
        io::ErrorKind::NotFound => Failed::environment(format!(
            "the program {program} is not installed; Debian has it in the package {package}: apt install {package}"
        )),
        _ => Failed::environment(format!("{program} can't be started: {error}")),
    }
}

/// Refuses who is not root, before anything is begun.
pub fn need_root() -> Result<(), Failed> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Failed::refused("only root works on disks: run it with sudo")),
    }
}

/// Refuses where a program is missing that would be needed halfway.
pub fn need(programs: &[&str]) -> Result<(), Failed> {
    let found = |program: &str| PATH.split(':').any(|folder| Path::new(folder).join(program).exists());
    match programs.iter().find(|program| !found(program)) {
        None => Ok(()),
        Some(program) => Err(not_started(program, &io::ErrorKind::NotFound.into())),
    }
}

/// What disks there are, once the kernel's news of them have been dealt with.
pub fn facts() -> Result<Facts, Failed> {
    settle();
    facts_now()
}

/// The same as it looks now, for who only looks.
pub fn facts_now() -> Result<Facts, Failed> {
    let json = run("lsblk", &LSBLK)?;
    Facts::parse(&json).map_err(|error| Failed::environment(format!("what lsblk says is not understood: {error}")))
}

/// Waits until udev has done what it does about new devices. Where there is no udev there is nothing to wait for.
pub fn settle() {
    let _ = try_run("udevadm", &["settle", "--timeout=30"], &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_goes_by_descriptor_and_by_standard_input() {
        let secret = Secret::new(b"open sesame".to_vec());
        let file = secret.file().expect("a file in memory");
        assert_eq!(run("cat", &[&file.path()]).expect("read"), b"open sesame");
        let ended = run_with_secret("cat", &["-"], &secret).expect("started");
        assert_eq!((ended.code, ended.out.as_slice()), (0, b"open sesame".as_slice()));
    }

    #[test]
    fn a_key_file_loses_its_line_end_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, b" a b \r\n").expect("written");
        assert_eq!(Secret::read(&path).expect("read").0, b" a b ");
        std::fs::write(&path, b"\n").expect("written");
        assert!(Secret::read(&path).err().is_some_and(|failed| failed.message.contains("is empty")));
        let missing = Secret::read(&folder.path().join("none")).err().expect("refused");
        assert!(missing.message.contains("can't be read"), "{}", missing.message);
    }

    #[test]
    fn failures_say_what_was_run_what_it_said_and_what_is_missing() {
        let failed = run("ls", &["/there/is/no/such/thing"]).expect_err("fails");
        assert!(
            failed.message.starts_with("`ls /there/is/no/such/thing` ended with 2 and said: "),
            "{}",
            failed.message
        );
        assert!(need(&["sh", "no-such-program"]).is_err());
        assert!(not_started("mdadm", &io::ErrorKind::NotFound.into()).message.contains("apt install mdadm"));
    }
}
