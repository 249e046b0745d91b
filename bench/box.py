"""A box as a child process: started, asked, measured, stopped or killed. Used by the demo, the benches and the client
guest, so that all of them run the product in the same way."""

import json
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("NARROWBOAT", ROOT / "target/release/narrowboat"))


class Failed(Exception):
    """A command that ended with an error; its text says which and what it said."""


def run(*command, timeout=900, check=True):
    """Runs a command to its end and returns its standard output."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-2000:]
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode} and said: {said}")
    return done.stdout


class Box:
    """One box with its data folder. Ports are loopback's. The portmapper's is off unless named: 111 needs privilege; so are
    the page, and iSCSI, unless its portals are named, as addresses with ports; who comes from there may log in."""

    def __init__(self, data, name, nfs_port, wan_port, more_config="", portmap_port=None, portals=(), page=""):
        self.data, self.name, self.nfs_port, self.wan_port = pathlib.Path(data), name, nfs_port, wan_port
        self.config = self.data.with_suffix(".toml")
        self.log = self.data.with_suffix(".log")
        self.data.mkdir(parents=True, exist_ok=True)
        portmap = f"127.0.0.1:{portmap_port}" if portmap_port else ""
        allowed = [f"{portal.rsplit(':', 1)[0]}/32" for portal in portals]
        # Backups made by root keep their owners, so root must be root on the share.
        self.config.write_text(
            f'name = "{name}"\n\n[nfs]\nlisten = "127.0.0.1:{nfs_port}"\nroot_squash = false\n'
            f'portmap = "{portmap}"\n\n[page]\nlisten = "{page}"\n\n'
            f'[iscsi]\nlisten = {json.dumps(list(portals))}\nallow = {json.dumps(allowed)}\n\n[wan]\nlisten = "127.0.0.1:{wan_port}"\n{more_config}'
        )
        self.process = None

    def start(self, patience=60, detached=False):
        """Starts the box and returns when it answers. A detached one outlives this program."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--create", "--data", self.data, "--config", self.config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=detached,
            )
        began = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise Failed(f"box {self.name} ended with {self.process.returncode}:\n{self.last_words()}")
            try:
                self.ask("status", timeout=5)
                return time.monotonic() - began
            except (Failed, subprocess.TimeoutExpired, json.JSONDecodeError):
                if time.monotonic() - began > patience:
                    self.kill()
                    raise Failed(f"box {self.name} does not answer after {patience} s:\n{self.last_words()}") from None
                time.sleep(0.05)

    def last_words(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def tell(self, *words, timeout=900):
        """Runs a command of the box and returns what it prints."""
        return run(BINARY, *words, "--data", self.data, timeout=timeout)

    def ask(self, *words, timeout=900):
        """Runs a command of the box with --json and returns the facts."""
        return json.loads(self.tell(*words, "--json", timeout=timeout))

    def processor_seconds(self):
        """User and system time of the box's process so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_max_bytes(self):
        """The most memory that was ever resident."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0

    def forget_memory_max(self):
        """Counts the most memory from now on; needs root, and else does nothing."""
        try:
            pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        except PermissionError:
            pass

    def disk_bytes(self):
        """Bytes that the box has had from disks so far, and those that it gave them."""
        lines = pathlib.Path(f"/proc/{self.process.pid}/io").read_text().splitlines()
        facts = dict(line.split(": ") for line in lines)
        return int(facts["read_bytes"]), int(facts["write_bytes"])

    def kill(self):
        """Ends the process as a power cut would: it gets no chance to do anything."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self, patience=60):
        """Asks the box to stop, and waits for it."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed(f"box {self.name} did not stop within {patience} s:\n{self.last_words()}") from None


def tree_bytes(path):
    """Bytes that the files below `path` take on disk."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total
