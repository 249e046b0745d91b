"""The servers that the guest's kernel is a client of, and what they do for a step when it asks (`wish`)."""

import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import box  # noqa: E402  (found through the line above)
from ledger import Ledger, nanoseconds  # noqa: E402  (beside this file)

#: Where the box serves iSCSI: addresses of its own, so that a path can be cut by taking one away. (TEST-NET-1, RFC 5737.)
PORTALS = ["192.0.2.10", "192.0.2.11"]
#: CHAP secrets: the initiator's, and the box's own towards initiators that ask for it.
SECRET, OWN_SECRET = "what-the-guest-knows", "what-the-box-knows"
#: Ports of this machine's loopback that lead into the guest.
TO_SSH, TO_POSTGRES = 2222, 15432


def prepare_ssh(folder):
    """Makes keys for a run, and a configuration by which this machine's ssh knows the guest and the guest lets the box in. It lies
    over /etc/ssh: in this program's own view of the file system, and in the guest's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    for name in ("key", "host"):
        box.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    public = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{TO_SSH} {public}")
    (folder / "ssh_config").write_text(f"GlobalKnownHostsFile {folder}/known_hosts\nUserKnownHostsFile /dev/null\n")
    (folder / "sshd_config").write_text(
        "HostKey /etc/ssh/host\nAuthorizedKeysFile /etc/ssh/key.pub\nStrictModes no\nUsePAM no\nAcceptEnv NARROWBOAT_*\n"
    )
    box.run("mount", "--bind", folder, "/etc/ssh")


class Narrowboat:
    """Our own server, at the ports that everybody expects. Its data is made anew for every run."""

    options = "port=2049,mountport=2049"
    export = "/vm"

    def __init__(self, folder):
        self.folder = folder
        data = folder / "box"
        shutil.rmtree(data, ignore_errors=True)
        data.with_suffix(".log").unlink(missing_ok=True)
        for name, secret in (("secret", SECRET), ("own-secret", OWN_SECRET)):
            (folder / name).write_text(secret + "\n")
        accounts = (
            f"[iscsi.user.server1]\nsecret_file = '{folder}/secret'\n"
            f"[iscsi.user.server2]\nsecret_file = '{folder}/secret'\n"
            f"mutual_name = 'the-box'\nmutual_secret_file = '{folder}/own-secret'\n"
        )
        # What quiets the database of the step postgres.
        database = pathlib.Path(__file__).resolve().parent / "database"
        hooks = "".join(
            f"[hook.{name}]\nssh = 'ssh://root@127.0.0.1:{TO_SSH}'\nssh_key_file = '{folder}/ssh/key'\nfreeze_timeout = '60s'\n"
            f"thaw_timeout = '60s'\nfreeze = ['{database}', '{freeze}']\nthaw = ['{database}', '{thaw}']\n"
            for name, freeze, thaw in (("stopped", "freeze", "thaw"), ("quick", "quick-freeze", "quick-thaw"))
        )
        portals = [f"{portal}:3260" for portal in PORTALS]
        self.box = box.Box(data, "client-vm", 2049, 4433, accounts + hooks, 111, portals)
        #: Where the guest leaves what is to be looked at.
        self.out = None
        self.ledger = None
        #: Between which times, in nanoseconds, a mark was made, by its name.
        self.marks = {}
        self.memory = self.seconds = self.before = 0

    def start(self):
        for portal in PORTALS:
            self.mend(portal)
        if shutil.which("ssh-keygen"):
            prepare_ssh(self.folder / "ssh")
        self.box.start()
        self.box.tell("share", "create", "vm")

    def restart(self, pause="2"):
        """Kills the process, not the machine, and starts it again after some seconds."""
        self.watch()
        self.box.kill()
        self.before = self.seconds
        time.sleep(float(pause))
        return f"answers {float(pause) + self.box.start():.1f} s after it was killed"

    def grant(self, wish, *words):
        """Does what a step asks for and returns what it is told."""
        return {
            "kill": self.restart,
            "narrowboat": self.box.tell,
            "cut": self.cut,
            "mend": self.mend,
            "examine": self.examine,
            "used": self.used,
            "mark": self.mark,
            "ledger": self.keep_ledger,
        }[wish](*words)

    def cut(self, portal):
        """Nobody hears from that address any more, and no connection is told: as when a cable is pulled."""
        box.run("ip", "address", "delete", f"{portal}/32", "dev", "lo")
        return ""

    def mend(self, portal):
        box.run("ip", "address", "replace", f"{portal}/32", "dev", "lo")
        return ""

    def examine(self, source, kind, *files):
        """Restores a moment of a volume as an image, has it checked by its file system's own program, and returns the SHA-256 of
        files in it. What was not frozen is like a disk after a power failure: its journal is applied first."""
        image = self.folder / "examined"
        image.unlink(missing_ok=True)
        self.box.tell("restore", source, image)
        if kind == "ext4-unfrozen":
            # Done; done and nothing else to do.
            done = subprocess.run(["e2fsck", "-y", "-E", "journal_only", image], capture_output=True, text=True)
            if done.returncode not in (0, 1):
                raise box.Failed(f"the journal of {source} can't be applied: {done.stdout} {done.stderr}")
        if kind == "xfs":
            box.run("xfs_repair", "-n", "-f", image)
        else:
            box.run("e2fsck", "-fn", image)
        sums = []
        for file in files:
            shown = subprocess.run(["debugfs", "-R", f"cat {file}", image], capture_output=True, check=True).stdout
            sums.append(hashlib.sha256(shown).hexdigest())
        image.unlink()
        return "\n".join(sums)

    def used(self, volume):
        """Bytes that a volume takes when all that was written so far is where it stays."""
        name = f"used-{time.monotonic_ns()}"
        self.box.tell("snapshot", "create", volume, "--name", name)
        # To look at a snapshot the box has to bring it to where it stays.
        self.box.tell("diff", f"{volume}@{name}", f"{volume}@{name}")
        self.box.tell("snapshot", "delete", f"{volume}@{name}")
        return next(entry["used_bytes"] for entry in self.box.ask("dataset", "list") if entry["name"] == volume)

    def mark(self, dataset, name, hook):
        """Marks a moment by a hook, which must have worked."""
        said = json.loads(self.box.tell("mark", dataset, name, "--hook", hook, "--json"))
        # It is told in whole milliseconds.
        moment = nanoseconds(said["time"])
        self.marks[name] = (moment, moment + 1_000_000)
        if not said["quiet"]:
            raise box.Failed(f"the mark counts as made in a crash: {said}")
        return json.dumps(said)

    def keep_ledger(self, wish, *words):
        """Starts the writers of rows, stops them and names some seconds, or judges the rows of a database that was taken back to
        a moment."""
        if wish == "start":
            self.ledger = Ledger(TO_POSTGRES, int(words[0]))
            return ""
        if wish == "stop":
            print(f"client-vm: {self.ledger.stop()}", flush=True)
            return self.ledger.moments(int(words[0]), seed=1)
        name, moment = words
        earliest, latest = self.marks.get(moment) or (nanoseconds(moment), nanoseconds(moment))
        wrong, about = self.ledger.judge(self.out / f"rows-{name}", earliest, latest)
        if wrong:
            raise box.Failed("; ".join(wrong))
        return f"{moment}: {about}"

    def stop(self):
        self.watch()
        self.box.stop()
        version = box.run(box.BINARY, "--version").strip()
        print(f"client-vm: {version}; most memory {self.memory / 1e6:.0f} MB, {self.seconds:.0f} s of processor time")
        report = self.box.tell("check", "--deep")
        print("client-vm: check --deep: " + report.strip().splitlines()[-1])
        shutil.rmtree(self.box.data)

    def watch(self):
        if self.box.process.poll() is None:
            self.memory = max(self.memory, self.box.memory_max_bytes())
            self.seconds = self.before + self.box.processor_seconds()


class Ganesha:
    """nfs-ganesha from Debian, to tell whose a failure is."""

    options = "port=2049,mountport=20048"

    def __init__(self, folder):
        self.folder = folder / "ganesha"
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "export").mkdir(parents=True)
        self.export = str(self.folder / "export")
        self.server = self.portmapper = None

    def start(self):
        config = self.folder / "ganesha.conf"
        config.write_text((ROOT / "bench/compare/ganesha.conf").read_text().replace("@FOLDER@", str(self.folder)))
        if not self.portmapper:
            self.portmapper = subprocess.Popen(["rpcbind", "-f"])
        self.server = subprocess.Popen(
            ["ganesha.nfsd", "-F", "-f", config, "-L", self.folder / "log", "-p", self.folder / "pid"]
        )
        wait_for_port(20048)

    def grant(self, wish):
        if wish != "kill":
            raise box.Failed(f"this server does not know how to {wish}")
        self.server.kill()
        self.server.wait()
        time.sleep(2)
        self.start()
        return ""

    def stop(self):
        for process in (self.server, self.portmapper):
            process.terminate()
            process.wait()

    def watch(self):
        pass


class Knfsd:
    """The guest's own kernel server: what runs against it shows what the client itself makes of the steps."""

    options = "port=2049,mountport=20048"
    export = "/exported"

    def __init__(self, folder):
        pass

    def start(self):
        pass

    stop = watch = start

    def grant(self, wish, *_words):
        raise box.Failed(f"a server in the guest can't {wish}")


def wait_for_port(port, patience=30):
    began = time.monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() - began > patience:
                raise box.Failed(f"nothing listens at port {port} after {patience} s") from None
            time.sleep(0.1)
