"""Two boxes of the product: a branch office with both days, and a head office with day 1, to which day 2 is sent.

Shares are filled over NFS, volumes over iSCSI, as clients do it. What is counted is what both boxes' sockets count: every
datagram both ways with its UDP and IP headers, handshake, acknowledgements and repetitions included, from before the
replication to its end. The way there has a cap, so that loopback's own buffers lose nothing.
"""

import shutil
import time

import box
import data
import measure

LOADER = box.ROOT / "target/nfsload"
NFS, WAN, ISCSI = 20691, 20701, 20711
# Day 1 may go as fast as loopback's buffers take it; day 2 goes over an office's line, which the effort of packing depends on.
FIRST_RATE, RATE = "200Mbit", "20Mbit"
# How often a transfer is begun anew from the kept boxes when its connection breaks: only an undisturbed one is a figure.
TRIES = 5

# The parts of the product, added one by one, as (name, lines for the [wan] section of both boxes). How hard it packs of itself depends
# on what the processor has to do besides; so that figures can be repeated the last one, which goals are held against, has
# a fixed level.
LEVEL = 'compression = "9"\n'
VARIANTS = [
    ("Narrowboat, dedup and LZ4", 'compression = "stored"\ndelta = false\n'),
    ("Narrowboat, and zstd", LEVEL + "delta = false\n"),
    ("Narrowboat, and by place", LEVEL + "resemblance = false\n"),
    ("Narrowboat, adapting itself", ""),
    ("Narrowboat", LEVEL),
]


class Pair:
    """A branch office and a head office that know each other."""

    def __init__(self, folder, relay=None):
        """`relay(port)` may put something between the two: it returns the port that the branch dials instead."""
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.relay = relay or (lambda port: port)
        self.configure("")

    def configure(self, settings):
        """Gives both boxes lines for their [wan] section; they count from the next start on."""
        self.branch = box.Box(self.folder / "branch", "branch", NFS, WAN, settings, portals=[f"127.0.0.1:{ISCSI}"])
        self.head = box.Box(self.folder / "head", "headoffice", NFS + 1, WAN + 1, settings)

    def start(self):
        for one in (self.head, self.branch):
            one.start()

    def pair(self):
        code = self.head.ask("peer", "invite")["code"]
        self.branch.tell("peer", "join", code, f"127.0.0.1:{self.relay(self.head.wan_port)}")
        self.limit(FIRST_RATE)

    def limit(self, rate):
        self.branch.tell("limit", "headoffice", "--rate", rate)

    def wait_until_connected(self, patience=60, quiet=3):
        """Waits until the boxes are connected and it has been quiet for some seconds: each dials the other, and where both get
        through, one of the connections is closed again, which would interrupt a replication on it."""
        began = changed = time.monotonic()
        seen = None
        while time.monotonic() < changed + quiet:
            connected = any(peer["connected_from"] for peer in self.branch.ask("status")["peers"])
            now = (connected, *(one.log.read_text(errors="replace").count("connected peer=") for one in (self.branch, self.head)))
            if now != seen or not connected:
                seen, changed = now, time.monotonic()
            if changed - began > patience:
                raise measure.Failed(f"the boxes are not connected after {patience} s:\n{self.branch.last_words()}")
            time.sleep(0.1)

    def stop(self):
        for one in (self.branch, self.head):
            one.stop()

    def kill(self):
        for one in (self.branch, self.head):
            one.kill()

    def create(self, data_set):
        if data_set.kind == "volume":
            self.branch.tell("volume", "create", "data", "--size", str((data_set.day(1) / "disk.img").stat().st_size))
        else:
            self.branch.tell("share", "create", "data")

    def take_in(self, data_set, number):
        """Brings a day into the branch as its clients would, and makes a snapshot of it."""
        if data_set.kind == "volume":
            self.write_volume(data_set, number)
        else:
            measure.run(LOADER, "put" if number == 1 else "sync", data_set.day(number), "127.0.0.1:/data", "--port", NFS)
        self.branch.tell("snapshot", "create", "data", "--name", f"day{number}")

    def write_volume(self, data_set, number):
        (facts,) = [one for one in self.branch.ask("dataset", "list") if one["name"] == "data"]
        url = f"iscsi://127.0.0.1:{ISCSI}/{facts['target']}/{facts['lun']}"
        image = data_set.day(number) / "disk.img"
        measure.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, url)

    def replicate(self, number):
        """Sends a snapshot; the report, which must prove that it arrived."""
        self.wait_until_connected()
        report = self.branch.ask("replicate", f"data@day{number}", "--to", "headoffice", "--wait")
        if not report["proved"]:
            raise measure.Failed(f"the head office did not prove that it has day {number}: {report}")
        return report

    def interruptions(self):
        """How often a replication was interrupted and went on, so far."""
        return self.branch.log.read_text(errors="replace").count("replication interrupted")

    def compare_restored(self, data_set, number):
        """Restores a day at the head office and compares every byte with the source."""
        target = self.folder / "restored"
        self.head.tell("restore", f"branch/data@day{number}", target)
        if data_set.kind == "volume":
            measure.run("cmp", data_set.day(number) / "disk.img", target)
            target.unlink()
        else:
            measure.run("diff", "-r", "--no-dereference", data_set.day(number), target)
            shutil.rmtree(target)


def bytes_of_day2(data_set, folder, variants=None):
    """For each variant: (name, report). Every variant begins with the same two boxes: they are kept as they were before."""
    pair, kept, reports = Pair(folder / "pair"), folder / "kept", []
    try:
        pair.start()
        pair.pair()
        pair.create(data_set)
        pair.take_in(data_set, 1)
        pair.replicate(1)
        pair.take_in(data_set, 2)
        pair.limit(RATE)
        pair.stop()
        for one in (pair.branch, pair.head):
            kept.mkdir(exist_ok=True)
            one.data.rename(kept / one.name)
        for name, settings in VARIANTS if variants is None else variants:
            pair.stop()
            pair.configure(settings)
            reports.append((name, undisturbed(pair, kept)))
        pair.compare_restored(data_set, 2)
        pair.stop()
    finally:
        pair.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return reports


def undisturbed(pair, kept):
    """Sends day 2 from the boxes as they were kept, and leaves the pair running."""
    for _ in range(TRIES):
        pair.stop()
        for one in (pair.branch, pair.head):
            shutil.rmtree(one.data, ignore_errors=True)
            data.copy_tree(kept / one.name, one.data)
        before = pair.interruptions()
        pair.start()
        report = pair.replicate(2)
        if pair.interruptions() == before:
            return report
        data.say("   the connection broke on the way: once more")
    raise measure.Failed(f"no transfer of {TRIES} was left undisturbed:\n{pair.branch.last_words()}")


def wire_bytes(report):
    """Both ways, all headers counted."""
    return report["wire_bytes_sent"] + report["wire_bytes_received"]
