//! Commands of hooks: on the box, or over `ssh`.
//!
//! A command gets no environment but `PATH` and what the call is about, no input, a process group of its own, and a time.
//! What it says is read to its end and kept only as far as a person would read it.

use std::io::{ErrorKind, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::call::{About, Ended};

/// What of its output is shown, in bytes: the end of it.
const SAID_BYTES_MAX: usize = 1024;
/// How long a command that was told to end may take before it is killed, and then to be gone.
const GRACE: Duration = Duration::from_secs(1);
/// How often is looked whether a command has ended that keeps its output open, or whether it is to be cut off.
const LOOK: Duration = Duration::from_millis(20);
/// Where commands are looked for where the box itself was not told.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What `ssh` ends with where it, and not the command, failed.
const SSH_FAILED: i32 = 255;

/// Runs a command on the box.
pub(super) fn run_here(words: &[String], about: &About, time: Duration, cut: &AtomicBool) -> Ended {
    let Some((program, args)) = words.split_first() else { return Ended::NotBegun("no command".into()) };
    let mut command = Command::new(program);
    command.args(args);
    run(command, about, time, cut)
}

/// Runs a command on a server. Its shell takes the words as they are. The variables are offered to it, and there where its
/// `sshd` accepts them (`AcceptEnv NARROWBOAT_*`).
pub(super) fn run_there(
    to: &str,
    key: Option<&Path>,
    words: &[String],
    about: &About,
    time: Duration,
    cut: &AtomicBool,
) -> Ended {
    let mut command = Command::new("ssh");
    // A server under load, or one that looks up names first, may take long to say who it is; what is left is for the command.
    let patience = (time.as_secs() / 2).clamp(1, 30);
    let silence = (time.as_secs() / 4).clamp(1, 15);
    let options = [
        "BatchMode=yes".to_owned(),
        format!("ConnectTimeout={patience}"),
        // A line that went dead is found within the time, too, so that what holds it over there is let go.
        format!("ServerAliveInterval={silence}"),
        "ServerAliveCountMax=2".to_owned(),
        "SendEnv=NARROWBOAT_*".to_owned(),
        "ClearAllForwardings=yes".to_owned(),
        "ForwardAgent=no".to_owned(),
    ];
    command.args(options.iter().flat_map(|option| ["-o", option]));
    if let Some(key) = key {
        command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key);
    }
    command.args(["-T", "--", to]).arg(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "));
    match run(command, about, time, cut) {
        Ended::Refused { code: Some(SSH_FAILED), why } => Ended::Unknown(format!("ssh failed: {why}")),
        ended => ended,
    }
}

/// A word as the shell over there takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn run(mut command: Command, about: &About, time: Duration, cut: &AtomicBool) -> Ended {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    command.env_clear().env("PATH", path).envs(about.variables());
    command.current_dir("/").process_group(0).stdin(Stdio::null());
    let begun = std::io::pipe().and_then(|(reader, writer)| {
        rustix::io::ioctl_fionbio(&reader, true)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        Ok((child, reader))
    });
    // With it go the pipe's ends for writing that are not the child's.
    drop(command);
    match begun {
        Ok((child, reader)) => Running { child, said: Said { reader: Some(reader), tail: Vec::new(), more: false } }
            .wait(Instant::now() + time, cut),
        Err(error) => Ended::NotBegun(format!("it can't be started: {error}")),
    }
}

/// A command that has not ended.
struct Running {
    child: Child,
    said: Said,
}

impl Running {
    fn wait(mut self, deadline: Instant, cut: &AtomicBool) -> Ended {
        loop {
            self.said.listen();
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.said.listen();
                    return judged(status, &self.said.text());
                }
                Ok(None) => {}
                Err(error) => return Ended::Unknown(format!("it can't be waited for: {error}")),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match () {
                () if cut.load(Ordering::Acquire) => "it was cut off, for the box is stopping",
                () if left.is_zero() => "it took too long and was ended",
                () => {
                    self.said.wait(left.min(LOOK));
                    continue;
                }
            };
            self.end();
            self.said.listen();
            return Ended::Unknown(with_said(why, &self.said.text()));
        }
    }

    /// Ends the command and all that it started, first by asking.
    fn end(&mut self) {
        let group = Pid::from_child(&self.child);
        for signal in [Signal::TERM, Signal::KILL] {
            // An error says that nobody is left.
            let _ = kill_process_group(group, signal);
            let deadline = Instant::now() + GRACE;
            while !self.has_ended(group) && Instant::now() < deadline {
                self.said.listen();
                self.said.wait(LOOK);
            }
        }
        // What even this does not end waits for its disk or its server; nobody can do more.
        let _ = self.child.try_wait();
    }

    /// Looks without reaping: as long as the leader is not reaped, its number is not another's.
    fn has_ended(&self, pid: Pid) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }
}

fn judged(status: ExitStatus, said: &str) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::Done,
        (Some(code), _) => Ended::Refused { code: Some(code), why: with_said(&format!("exit status {code}"), said) },
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Ended::Unknown(with_said(&format!("it was ended by signal {signal}"), said))
        }
    }
}

fn with_said(why: &str, said: &str) -> String {
    if said.is_empty() { why.to_owned() } else { format!("{why}: {said}") }
}

/// What a command says: read as it comes, so that it never waits to be heard, and mostly forgotten.
struct Said {
    /// `None` once nobody has the other end any more.
    reader: Option<PipeReader>,
    tail: Vec<u8>,
    /// There was more before.
    more: bool,
}

impl Said {
    /// Reads what there is.
    fn listen(&mut self) {
        let mut piece = [0; 4096];
        while let Some(reader) = &mut self.reader {
            match reader.read(&mut piece) {
                Ok(0) => self.reader = None,
                Ok(bytes) => {
                    self.tail.extend_from_slice(&piece[..bytes]);
                    let surplus = self.tail.len().saturating_sub(SAID_BYTES_MAX);
                    self.more |= surplus > 0;
                    self.tail.drain(..surplus);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.reader = None,
            }
        }
    }

    /// Waits for more, or for the end of it.
    fn wait(&self, time: Duration) {
        match &self.reader {
            Some(reader) => {
                let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
                // However it ends, the caller looks.
                let _ = poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&time));
            }
            // Output that is closed mostly means that the rest of it follows at once.
            None => std::thread::sleep(time.min(Duration::from_millis(2))),
        }
    }

    fn text(&self) -> String {
        super::call::one_line(&String::from_utf8_lossy(&self.tail), self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About { phase: "freeze", datasets: vec!["disk 1".into(), "log".into()], mark: "noon".into() }
    }

    fn shell_for(time: Duration, script: &str) -> Ended {
        let words = ["sh", "-c", script].map(String::from);
        run_here(&words, &about(), time, &AtomicBool::new(false))
    }

    fn shell(script: &str) -> Ended {
        shell_for(Duration::from_secs(20), script)
    }

    #[test]
    fn a_command_sees_what_it_is_about_and_nothing_else() {
        assert_eq!(shell("exit 0"), Ended::Done);
        let Ended::Refused { code: Some(3), why } = shell("env | sort; pwd; cat; exit 3") else { panic!("it says 3") };
        let said = "NARROWBOAT_DATASET=disk 1; NARROWBOAT_MARK=noon; NARROWBOAT_PHASE=freeze; PATH=";
        assert!(why.starts_with("exit status 3: ") && why.contains(said) && why.ends_with("; log; /"), "{why}");
        let known = ["NARROWBOAT_", "PATH=", "PWD=", "OLDPWD=", "SHLVL=", "_="];
        let said = why.trim_start_matches("exit status 3: ");
        for variable in said.split("; ").filter(|line| line.contains('=')) {
            assert!(known.iter().any(|name| variable.starts_with(name)), "{variable}");
        }
    }

    #[test]
    fn what_a_command_says_is_bounded_and_never_holds_it_up() {
        let Ended::Refused { why, .. } = shell("yes 'more and more' | head -c 3000000; echo the end; exit 1") else {
            panic!("it fails")
        };
        assert!(
            why.len() < 2 * SAID_BYTES_MAX && why.ends_with("the end") && why.contains("more; more and more"),
            "{why}"
        );
        assert!(why.starts_with("exit status 1: …"), "{why}");
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        // Neither listens to being asked.
        let script = format!(
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & echo $$ >> {0}; wait; wait",
            pids.display()
        );
        let begun = Instant::now();
        let ended = shell_for(Duration::from_millis(300), &script);
        assert!(matches!(&ended, Ended::Unknown(why) if why.contains("too long")), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pids = std::fs::read_to_string(pids).expect("both began");
        assert_eq!(pids.lines().count(), 2);
        std::thread::sleep(Duration::from_millis(50));
        for pid in pids.lines() {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(state.is_empty() || state.contains(") Z "), "{pid} is alive: {state}");
        }
    }

    #[test]
    fn a_command_that_leaves_somebody_behind_has_ended_all_the_same() {
        let begun = Instant::now();
        assert_eq!(shell("sleep 5 & exit 0"), Ended::Done);
        assert!(begun.elapsed() < Duration::from_secs(4), "the other one keeps the output open");
    }

    #[test]
    fn what_can_not_begin_has_not_begun_and_what_is_cut_off_may_have() {
        let nobody = ["/nowhere/at/all".to_owned()];
        let time = Duration::from_secs(5);
        assert!(matches!(run_here(&nobody, &about(), time, &AtomicBool::new(false)), Ended::NotBegun(_)));
        let sleep = ["sleep", "30"].map(String::from);
        assert!(matches!(run_here(&sleep, &about(), time, &AtomicBool::new(true)), Ended::Unknown(_)));
        assert!(matches!(shell("kill -9 $$"), Ended::Unknown(why) if why.contains("signal 9")));
    }

    #[test]
    fn words_reach_the_shell_over_there_as_they_are() {
        for (word, there) in
            [("a", "a"), ("", "''"), ("it's", r"'it'\''s'"), ("$(x)", "'$(x)'"), ("/srv/db", "/srv/db")]
        {
            assert_eq!(quoted(word), there);
        }
    }
}
