"""What the steps share: the guest with the box in it, its keys, what its client wrote, and the transcript."""

import json
import os
import pathlib
import secrets
import shlex
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
import box  # noqa: E402  (found through the line above)
from guest import Guest  # noqa: E402  (beside this file)

LAB = pathlib.Path(os.environ.get("NARROWBOAT_LAB", ROOT / "target/disks-vm"))
DATA = "/srv/box"
PROGRAM = shlex.quote(str(box.BINARY))
NB = f"{PROGRAM} --data {DATA}"
MOUNT = "vers=3,proto=tcp,mountproto=tcp,hard,nolock,port=2049,mountport=2049"
#: Of each disk.
DISK_MB = 320
#: Runs a program at a terminal of its own, and types a key each time that one is asked for.
TYPED = """
import json, os, pty, select, sys, time
keys = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
seen, ended, deadline = b"", None, time.monotonic() + 400
# Until the command has ended, not until nobody has the terminal any more: it may have left somebody behind who does.
while ended is None or select.select([terminal], [], [], 0)[0]:
    if time.monotonic() > deadline:
        sys.stdout.write(f"\\nstill there after 400 s, {len(keys)} keys not typed\\n")
        os.system("ps -eo pid,ppid,stat,wchan:24,args --forest | grep -v ' \\\\[' | tail -n 30")
        sys.exit(124)
    if ended is None:
        pid, status = os.waitpid(child, os.WNOHANG)
        ended = os.waitstatus_to_exitcode(status) if pid else None
    if not select.select([terminal], [], [], 0.2)[0]:
        continue
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        piece = b""
    if not piece:
        break
    sys.stdout.write(piece.decode(errors="replace"))
    seen += piece
    while b"Key of the array: " in seen and keys:
        seen = seen.split(b"Key of the array: ", 1)[1]
        os.write(terminal, keys.pop(0).encode() + b"\\n")
sys.stdout.flush()
if ended is None:
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
sys.exit(ended)
"""


class Day:
    """What the steps share: the guest, the keys, what was written, and the transcript."""

    def __init__(self, folder):
        self.folder = folder
        self.guest = Guest(LAB / "guest", folder)
        self.transcript = open(folder / "transcript", "a")
        mark = secrets.token_hex(8)
        #: What is written and must be found on no disk: contents, names of files, of datasets.
        self.canaries = {"contents": f"canary-contents-{mark}", "file name": f"canary-name-{mark}", "dataset name": f"canary{mark}"}
        self.share = self.canaries["dataset name"]
        self.recovery = None
        self.root = None

    def save(self):
        """Writes down what a later run needs to go on with these disks."""
        facts = {"canaries": self.canaries, "recovery": self.recovery, "root": self.root, "disks": list(self.guest.disks)}
        (self.folder / "state.json").write_text(json.dumps(facts))

    def go_on(self, needs_box):
        """Takes up the disks of an earlier run."""
        facts = json.loads((self.folder / "state.json").read_text())
        self.canaries, self.recovery, self.root = facts["canaries"], facts["recovery"], facts["root"]
        self.share = self.canaries["dataset name"]
        self.guest.disks = {name: self.folder / f"{name}.img" for name in facts["disks"]}
        if needs_box:
            self.boot()
            self.do("disks open")
            self.serve()

    def say(self, text=""):
        print(text, flush=True)
        print(text, file=self.transcript, flush=True)

    def do(self, command, data=None, says=None, **more):
        """A command of the product in the guest, shown with what it says, which has `says` in it."""
        began = time.monotonic()
        said = self.guest.run(f"{PROGRAM} --data {data or DATA} {command}", **more)
        other = f"--data {data} " if data else ""
        self.say(f"# narrowboat {other}{command}    ({time.monotonic() - began:.0f} s)")
        for line in (said + said.err).rstrip().splitlines():
            self.say(f"  {line}")
        if says is not None and says not in said + said.err:
            raise box.Failed(f"`{command}` does not say {says!r}")
        return said

    def typed(self, command, keys, says, code=0):
        """A command at a terminal at which these keys are typed, each when it is asked for."""
        self.guest.run("cat > /run/typed.py", input=TYPED)
        arguments = shlex.join([json.dumps(keys), *shlex.split(NB), *command.split()])
        said = self.guest.begin(f"python3 /run/typed.py {arguments}")()
        self.say(f"# narrowboat {command}    (typed: {len(keys)} keys; exit code {said.code})")
        for line in said.rstrip().splitlines():
            self.say(f"  {line.rstrip()}")
        if (said.code != 0) != (code != 0) or says not in said or any(key in said for key in keys):
            raise box.Failed(f"`{command}` ended with {said.code} and said: {said}{said.err}")

    def keep_recovery(self, said):
        """Writes down the recovery key, as a person would."""
        self.recovery = next(line.split()[2] for line in said.splitlines() if line.strip().startswith("RECOVERY KEY"))
        self.guest.run(f"printf %s {self.recovery} > /run/recovery.key")

    def ask(self, command):
        said = self.guest.begin(f"{NB} {command} --json")()
        return json.loads(said)

    def array(self):
        return self.ask("disks status")["array"]

    def boot(self):
        self.say(f"-- the guest is up after {self.guest.boot(tpm=True):.0f} s, with the disks {', '.join(self.guest.disks)}")
        self.guest.run("printf 'correct horse battery' > /run/first.key; printf 'staple of another horse' > /run/second.key; umask 077")
        if self.recovery:
            self.guest.run(f"printf %s {self.recovery} > /run/recovery.key")

    def wait_for(self, health, seconds=900):
        deadline = time.monotonic() + seconds
        while (now := self.array())["health"] != health:
            if time.monotonic() > deadline:
                raise box.Failed(f"the array is {now['health']} and not {health} after {seconds} s")
            time.sleep(1)

    def wait_in_sync(self, serial, seconds=900):
        deadline = time.monotonic() + seconds
        while not any(member["serial"] == serial and "in_sync" in member["state"] for member in self.array()["members"]):
            if time.monotonic() > deadline:
                raise box.Failed(f"{serial} is not in sync after {seconds} s")
            time.sleep(1)

    def serve(self):
        """Starts the box in the guest, and mounts its share."""
        config = 'name = "box"\n[nfs]\nlisten = "127.0.0.1:2049"\nroot_squash = false\nportmap = ""\n[wan]\nlisten = ""\n'
        self.guest.run(f"cat > {DATA}/narrowboat.toml", input=config)
        self.guest.run(f"nohup {NB} serve > /run/box.log 2>&1 & for _ in $(seq 600); do {NB} status > /run/status 2>&1 && exit 0; sleep 0.2; done; cat /run/box.log; exit 1")
        if self.share not in self.guest.run(f"{NB} dataset list"):
            self.guest.run(f"{NB} share create {self.share}")
        self.guest.run(f"mkdir -p /mnt/share; mount -t nfs -o {MOUNT} 127.0.0.1:/{self.share} /mnt/share")

    def end_box(self):
        self.guest.run(f"umount /mnt/share; {NB} stop")

    def write_canaries(self):
        name, contents = self.canaries["file name"], self.canaries["contents"]
        # Each is synced by its name: a box that has no room says so then, and not to who only closes the file.
        self.guest.run(f"cd /mnt/share; for n in 1 2 3; do (head -c 20000 /dev/urandom; echo {contents}; head -c 20000 /dev/urandom) > {name}-$n && sync {name}-$n || exit 1; done")

    def begin_writing(self, name, seconds):
        """A client that writes, syncs, and notes the sum of what it has written, for so long."""
        return self.guest.begin(
            f"mkdir -p /mnt/share/{name}; cd /mnt/share/{name}; n=0; end=$((SECONDS + {seconds})); while [ $SECONDS -lt $end ]; do n=$((n + 1)); "
            f"dd if=/dev/urandom of=f$n bs=64k count=8 conv=fsync status=none || exit 1; sha256sum f$n >> /run/{name}.sums || exit 1; done; echo $n",
            timeout=seconds + 600)

    def verify(self, name):
        files = int(self.guest.run(f"wc -l < /run/{name}.sums"))
        self.guest.run(f"echo 3 > /proc/sys/vm/drop_caches; cd /mnt/share/{name} && sha256sum --quiet -c /run/{name}.sums")
        self.say(f"-- {files} files of the client are as it wrote them")

    def snapshot(self, name):
        self.guest.run(f"{NB} snapshot create {self.share} --name {name}")
        deadline = time.monotonic() + 120
        while not (root := self.root_of(name)):
            if time.monotonic() > deadline:
                raise box.Failed("the snapshot is not sealed")
            time.sleep(1)
        return root

    def root_of(self, name):
        snapshots = self.ask(f"snapshot list {self.share}")
        snapshots = snapshots if isinstance(snapshots, list) else snapshots["snapshots"]
        return next(snapshot["root"] for snapshot in snapshots if snapshot["name"].split("@")[-1] == name)

    def same_as_ever(self):
        """The snapshot has the root that it was made with, and every byte of the store is verified."""
        if self.root_of("before") != self.root:
            raise box.Failed("the snapshot has another root")
        self.do("check --deep")
