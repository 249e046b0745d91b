"""iSCSI targets as child processes, ours and tgt, and what initiators do to them: `qemu-img bench`, and fio over qemu-nbd.

All of it runs in a network namespace of its own, so that ports are free and nothing else is in the way.
"""

import json
import os
import pathlib
import signal
import subprocess
import time

import box
import measure
from measure import fresh_folder, run  # noqa: F401  (whoever makes disks begins with a fresh folder)

ROOT = box.ROOT
NULL = box.BINARY.parent / "examples/iscsi-null"
PORT = 3260
#: What a target of tgt is told beyond its defaults: lengths of 256 KiB, data that comes unasked, several R2Ts at once.
TUNING = {
    "MaxRecvDataSegmentLength": 262144, "MaxXmitDataSegmentLength": 262144, "MaxBurstLength": 1 << 20,
    "FirstBurstLength": 262144, "InitialR2T": "No", "ImmediateData": "Yes", "MaxOutstandingR2T": 16,
}


def memory_max_bytes(pid):
    """The most memory of a process that was ever resident."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Server:
    """A target with one disk; `url` is what initiators open."""

    def processor_seconds(self):
        return measure.processor_seconds(self.pid)

    def memory_max_bytes(self):
        return memory_max_bytes(self.pid)

    def settle(self):
        """Lets it do all that it puts off, so that the next load does not pay for it."""
        measure.settle_disk()


class Null(Server):
    """Our target over a disk that keeps nothing."""

    def __init__(self, port=PORT):
        self.process = subprocess.Popen(
            [NULL, f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.pid, self.url = self.process.pid, f"iscsi://127.0.0.1:{port}/iqn.2025-01.org.example:null/0"
        wait_for_disk(self.url)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


class Ours(Server):
    """A box with one volume, and with a rewind window where one is asked for."""

    def __init__(self, folder, size, port=PORT, window=None, config=""):
        more = port - PORT
        self.box = box.Box(
            folder / "box", "bench", 20491 + more, 44331 + more, config, portals=(f"127.0.0.1:{port}",)
        )
        self.box.start()
        self.box.tell("volume", "create", "disk", "--size", str(size))
        if window:
            self.box.tell("window", "disk", "--keep", window, "--bytes", str(64 << 30))
        self.moments = 0
        self.pid = self.box.process.pid
        self.url = f"iscsi://127.0.0.1:{port}/iqn.2026-11.net.narrowboat:disk/0"
        wait_for_disk(self.url)

    def settle(self):
        # A snapshot makes the drain take everything, however little waits.
        self.moments += 1
        self.box.tell("snapshot", "create", "disk", "--name", f"moment-{self.moments}")
        measure.wait_until_idle(self.pid)
        measure.settle_disk()

    def close(self):
        self.box.stop()


class Tgt(Server):
    """Debian's tgt over a file, or over its own null store where `folder` is None."""

    def __init__(self, folder, size, port=PORT, tuned=True):
        lab = folder or pathlib.Path("/dev/shm")
        self.socket = lab / f"tgt-{os.getpid()}-{port}"
        self.environment = {**os.environ, "TGT_IPC_SOCKET": str(self.socket)}
        self.process = subprocess.Popen(
            ["tgtd", "-f", "--iscsi", f"portal=127.0.0.1:{port}"], env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.pid, name = self.process.pid, "iqn.2025-01.org.example:tgt"
        self.url = f"iscsi://127.0.0.1:{port}/{name}/1"
        self.told_when_up("--op", "new", "--mode", "target", "--tid", 1, "-T", name)
        if tuned:
            for key, value in TUNING.items():
                self.tell("--op", "update", "--mode", "target", "--tid", 1, "--name", key, "--value", value)
        unit = ["--op", "new", "--mode", "logicalunit", "--tid", 1, "--lun", 1]
        if folder:
            image = folder / "tgt.img"
            with open(image, "wb") as file:
                file.truncate(size)
            self.tell(*unit, "-b", image)
        else:
            self.tell(*unit, "--bstype", "null", "-b", "/dev/null")
        self.tell("--op", "bind", "--mode", "target", "--tid", 1, "-I", "ALL")
        wait_for_disk(self.url)

    def tell(self, *words):
        run("tgtadm", "--lld", "iscsi", *words, env=self.environment)

    def told_when_up(self, *words, patience=20):
        began = time.monotonic()
        while True:
            try:
                return self.tell(*words)
            except measure.Failed:
                if time.monotonic() - began > patience or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def close(self):
        # It takes SIGTERM for a wish while sessions stand; all its data is in the page cache, which outlives it.
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        for path in self.socket.parent.glob(self.socket.name + "*"):
            path.unlink()


def wait_for_disk(url, patience=30):
    """Waits until an initiator can log in and read the capacity."""
    began = time.monotonic()
    while True:
        try:
            return run("qemu-img", "info", "-f", "raw", url)
        except measure.Failed:
            if time.monotonic() - began > patience:
                raise
            time.sleep(0.1)


class Disk:
    """A disk of a server behind qemu-nbd, as fio knows how to use it: one session, no cache on the client's side."""

    def __init__(self, server, folder):
        self.socket = folder / "nbd"
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            ["qemu-nbd", "-f", "raw", "-t", "-k", self.socket, "--cache=none", "--discard=unmap", server.url]
        )
        began = time.monotonic()
        while not self.socket.exists():
            if time.monotonic() - began > 20 or self.process.poll() is not None:
                raise measure.Failed("qemu-nbd did not begin")
            time.sleep(0.02)

    def fio(self, *options, log=None):
        """Runs one job and returns its report."""
        words = [
            "fio", "--name=load", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}", "--refill_buffers",
            "--output-format=json", "--percentile_list=50:99:99.9", "--group_reporting", *options,
        ]
        if log:
            words += [f"--write_iops_log={log}", "--log_avg_msec=1000"]
        _, output = run(*words)
        # Warnings may stand before the report.
        return json.loads(output[output.index("{"):])["jobs"][0]

    def close(self):
        self.process.terminate()
        self.process.wait(30)
