//! The files and commands that put a set-up in force: systemd-networkd's, and nothing else of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::files::{Files, Layout, names};
use super::kept::State;
use super::runner::Hands;
use super::seen;
use super::trial::{Ended, Present};
use crate::whole::exchange;

/// Where files lie that outlive a power cut, and those that do not.
const ETC: &str = "/etc/systemd/network";
const RUN: &str = "/run/systemd/network";
/// Lies beside the files of a trial while networkd has not been told of all of them; by its name nothing for networkd.
const UNTOLD: &str = "09-narrowboat-trial.untold";
/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer of a command, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// This machine.
pub struct System {
    data: PathBuf,
    etc: PathBuf,
    run: PathBuf,
    /// Ends that the audit log has not got yet.
    pub ended: Vec<Ended>,
}

impl System {
    /// With the data folder of its box.
    pub fn new(data: &Path) -> System {
        System { data: data.to_owned(), etc: ETC.into(), run: RUN.into(), ended: Vec::new() }
    }

    /// Whether this process may write the files.
    pub fn may_write(&self) -> bool {
        let reach = |folder: &Path| folder.ancestors().find(|folder| folder.exists()).map(Path::to_owned);
        [&self.etc, &self.run].into_iter().all(|folder| {
            let write = rustix::fs::Access::WRITE_OK;
            reach(folder).is_some_and(|folder| rustix::fs::access(&folder, write).is_ok())
        })
    }

    /// Has exactly these files of ours in a folder; true where something was changed.
    fn put(&self, folder: &Path, files: &Files) -> io::Result<bool> {
        let mut changes = Vec::new();
        for name in names() {
            let there = match fs::read_to_string(folder.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                there => Some(there?),
            };
            if there.as_ref() != files.get(&name) {
                changes.push(name);
            }
        }
        if changes.is_empty() {
            return Ok(false);
        }
        open_to_all(&self.run)?;
        fs::write(self.run.join(UNTOLD), [])?;
        open_to_all(folder)?;
        for name in changes {
            match files.get(&name) {
                // Others may read it: networkd is not root.
                Some(text) => exchange(folder, &name, text.as_bytes(), 0o644)?,
                None => fs::remove_file(folder.join(&name))?,
            }
        }
        fs::File::open(folder)?.sync_all()?;
        Ok(true)
    }
}

/// Makes a folder that is not there yet; networkd, which is another user, may look into it.
fn open_to_all(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

impl Hands for System {
    fn keep(&mut self, state: &State) -> Result<(), String> {
        state.store(&self.data).map_err(|error| error.to_string())
    }

    fn lay(&mut self, interface: &str, layout: &Layout) -> Result<(), String> {
        let wrong = |folder: &Path| {
            let folder = folder.display().to_string();
            move |error: io::Error| format!("{folder} can't be written: {error}")
        };
        self.put(&self.etc, &layout.kept).map_err(wrong(&self.etc))?;
        self.put(&self.run, &layout.trial).map_err(wrong(&self.run))?;
        let untold = self.run.join(UNTOLD);
        if !untold.exists() {
            return Ok(());
        }
        // One that goes: networkd makes devices, and leaves it to others to take them away.
        for device in seen::devices().into_iter().filter(|device| layout.device.as_ref() != Some(device)) {
            networkctl(&["delete", &device])?;
        }
        networkctl(&["reload"])?;
        if !interface.is_empty() {
            networkctl(&["reconfigure", interface])?;
        }
        fs::remove_file(&untold).map_err(wrong(&self.run))
    }

    fn tell(&mut self, ended: &Ended) {
        self.ended.push(ended.clone());
    }
}

/// What networkd says of a device: nothing where it does not run, or does not know it.
pub fn present(device: &str) -> Option<Vec<Present>> {
    let answer = networkctl(&["--json=short", "status", device]).ok()?;
    understood(&answer)
}

fn understood(answer: &str) -> Option<Vec<Present>> {
    let link: Value = serde_json::from_str(answer).ok()?;
    link.get("AdministrativeState")?;
    let address = |one: &Value| {
        let bytes: Vec<u8> =
            one.get("Address")?.as_array()?.iter().map(|byte| Some(byte.as_u64()? as u8)).collect::<Option<_>>()?;
        let address = match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
            16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
            _ => return None,
        };
        let source = one.get("ConfigSource").and_then(Value::as_str).unwrap_or_default();
        Some(Present { address, asked: ["DHCPv4", "DHCPv6", "NDisc"].contains(&source) })
    };
    let all = link.get("Addresses").and_then(Value::as_array);
    Some(all.into_iter().flatten().filter_map(address).collect())
}

/// Runs `networkctl`; what it says, or what it complains of.
fn networkctl(words: &[&str]) -> Result<String, String> {
    let said = || format!("networkctl {}", words.join(" "));
    let mut command = Command::new("networkctl");
    command.args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    let output = run(&mut command).map_err(|error| format!("{}: {error}", said()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", said(), complaint.lines().next().unwrap_or("it failed and does not say why")))
}

/// Runs a command that may not take long, nor say much.
fn run(command: &mut Command) -> io::Result<Output> {
    use std::io::Read;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let pipe = pipe.map(|pipe| pipe.take(ANSWER_BYTES_MAX as u64));
            let read = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            read.transpose().map(|_| bytes)
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end"));
            }
        }
    };
    let joined = |thread: std::thread::JoinHandle<io::Result<Vec<u8>>>| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("what it said could not be read")))
    };
    Ok(Output { status, stdout: joined(stdout)?, stderr: joined(stderr)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::wanted::Wanted;

    #[test]
    fn files_of_ours_come_and_go_and_others_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let system =
            System { etc: folder.path().join("etc"), run: folder.path().join("run"), ..System::new(folder.path()) };
        fs::create_dir(&system.etc).expect("made");
        fs::write(system.etc.join("80-office.network"), "[Match]\n").expect("written");
        let sound =
            |vlan: Option<&str>| Wanted { vlan: vlan.map(str::to_owned), ..Wanted::default() }.sound().expect("sound");
        let there = || {
            let mut names: Vec<_> =
                fs::read_dir(&system.etc).expect("there").flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        let with = Layout::of("eth0", Some(&sound(Some("7"))), None);
        assert!(
            system.put(&system.etc, &with.kept).expect("written")
                && !system.put(&system.etc, &with.kept).expect("same")
        );
        assert_eq!(there().len(), 4);
        assert!(system.run.join(UNTOLD).exists(), "networkd is still to be told");
        let without = Layout::of("eth0", Some(&sound(None)), None);
        assert!(system.put(&system.etc, &without.kept).expect("written"));
        assert_eq!(there(), ["10-narrowboat.network", "80-office.network"]);
        assert!(system.put(&system.etc, &Files::new()).expect("written"));
        assert_eq!(there(), ["80-office.network"]);
    }

    #[test]
    fn networkd_says_which_addresses_the_network_gave() {
        let answer = r#"{"Name":"up0","AdministrativeState":"configured","Addresses":[
            {"Family":2,"Address":[10,9,0,2],"ConfigSource":"static"},{"Family":2,"Address":[10,9,5,26],"ConfigSource":"DHCPv4"},
            {"Family":10,"Address":[254,128,0,0,0,0,0,0,60,53,73,255,254,16,20,154],"ConfigSource":"foreign"},{"Family":2,"Address":[1]}]}"#;
        let present = understood(answer).expect("it runs");
        let said: Vec<(String, bool)> = present.iter().map(|one| (one.address.to_string(), one.asked)).collect();
        let expected = [("10.9.0.2", false), ("10.9.5.26", true), ("fe80::3c35:49ff:fe10:149a", false)];
        assert_eq!(said, expected.map(|(address, asked)| (address.to_owned(), asked)));
        assert_eq!((understood(r#"{"Name":"up0"}"#), understood("no answer")), (None, None));
    }

    #[test]
    fn a_command_that_fails_says_why() {
        let output = run(Command::new("sh").args(["-c", "echo out; echo no >&2; exit 3"])).expect("it ran");
        assert_eq!(
            (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
            (Some(3), &b"out\n"[..], &b"no\n"[..])
        );
        assert!(run(&mut Command::new("/no/such/program")).is_err());
    }
}
