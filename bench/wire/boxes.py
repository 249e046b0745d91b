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
RATE = "200Mbit"
NFS, WAN, ISCSI = 20691, 20701, 20711

# The parts of the product, added one by one, as (name, environment of both boxes). What a part needs to be switched off is written
# here; the last one is the product as it is.
VARIANTS = [("Narrowboat", {})]


class Pair:
    """A branch office and a head office that know each other."""

    def __init__(self, folder, relay=None):
        """`relay(port)` may put something between the two: it returns the port that the branch dials instead."""
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.branch = box.Box(folder / "branch", "branch", NFS, WAN, portals=[f"127.0.0.1:{ISCSI}"])
        self.head = box.Box(folder / "head", "headoffice", NFS + 1, WAN + 1)
        self.relay = relay or (lambda port: port)

    def start(self, environment=None):
        for one in (self.head, self.branch):
            one.environment = environment or {}
            one.start()

    def pair(self):
        code = self.head.ask("peer", "invite")["code"]
        self.branch.tell("peer", "join", code, f"127.0.0.1:{self.relay(self.head.wan_port)}")
        self.branch.tell("limit", "headoffice", "--rate", RATE)

    def wait_until_connected(self, patience=60):
        """Waits until the branch has its line to the head office, so that no dialling is under way when a replication begins."""
        began = time.monotonic()
        while not any(peer["connected_from"] for peer in self.branch.ask("status")["peers"]):
            if time.monotonic() - began > patience:
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
        if report["payload_bytes"] > report["wire_bytes_sent"]:
            # Objects count as sent when they are handed to a connection; one that breaks may lose some.
            data.say("   the connection broke on the way: the figure is not that of one transfer")
        return report

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
    reports = []
    pair = Pair(folder / "pair")
    try:
        pair.start()
        pair.pair()
        pair.create(data_set)
        pair.take_in(data_set, 1)
        pair.replicate(1)
        pair.take_in(data_set, 2)
        pair.stop()
        variants = VARIANTS if variants is None else variants
        for number, (name, environment) in enumerate(variants):
            last = number + 1 == len(variants)
            if not last:
                save(pair, folder / "kept")
            pair.start(environment)
            reports.append((name, pair.replicate(2)))
            if last:
                pair.compare_restored(data_set, 2)
            pair.stop()
            if not last:
                restore(pair, folder / "kept")
    finally:
        pair.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return reports


def save(pair, kept):
    for one in (pair.branch, pair.head):
        kept.mkdir(parents=True, exist_ok=True)
        data.copy_tree(one.data, kept / one.name)


def restore(pair, kept):
    for one in (pair.branch, pair.head):
        shutil.rmtree(one.data)
        (kept / one.name).rename(one.data)


def wire_bytes(report):
    """Both ways, all headers counted."""
    return report["wire_bytes_sent"] + report["wire_bytes_received"]
