"""What it costs to find out that nothing changed: a tree of a terabyte, all holes but for a page in each file, replicated,
and a second snapshot of the same replicated again.

The line between the boxes is a relay with a long delay: so long that what the transfer took, divided by its round trip, is the
number of round trips. The delay is there from the beginning: a line that is a thousand times longer from one moment to the next makes QUIC
say everything several times, because it knows the line as it was. The relay counts from before the transfer until nothing passes any more."""

import random
import shutil
import time

import boxes
import data
import measure
import relay

ROUND_TRIP_SECONDS = 1.0
# By then the largest packet that the line takes has been found, at one try a round trip.
SETTLED_SECONDS = 20
# What is acknowledged late has passed by then.
QUIET_SECONDS = 4


def make_tree(folder, gigabytes):
    """Files of a gigabyte each, with one page of data somewhere."""
    dice = random.Random(1)
    for number in range(gigabytes):
        path = folder / f"{number // 100:02}" / f"{number:04}.img"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.seek(dice.randrange(10**9 // data.PAGE - 1) * data.PAGE)
            file.write(dice.randbytes(data.PAGE))
            file.truncate(10**9)


def figures(gigabytes):
    """What the second replication took."""
    folder = data.LAB / "unchanged"
    shutil.rmtree(folder, ignore_errors=True)
    line = None

    def through(port):
        nonlocal line
        line = relay.Relay(port)
        line.delay_seconds = ROUND_TRIP_SECONDS / 2
        return line.port

    pair = boxes.Pair(folder, relay=through)
    try:
        make_tree(folder / "tree", gigabytes)
        pair.start()
        pair.pair()
        pair.branch.tell("share", "create", "data")
        data.say(f"unchanged: taking in {gigabytes:,} GB of holes")
        measure.run(boxes.LOADER, "put", folder / "tree", "127.0.0.1:/data", "--port", boxes.NFS)
        pair.branch.tell("snapshot", "create", "data", "--name", "day1")
        first = pair.replicate(1)
        pair.branch.tell("snapshot", "create", "data", "--name", "day2")
        time.sleep(SETTLED_SECONDS)
        before = line.bytes
        report = pair.replicate(2)
        time.sleep(QUIET_SECONDS)
        counted = line.bytes - before
        pair.stop()
    finally:
        pair.kill()
        if line:
            line.close()
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "logical_bytes": first["logical_bytes"], "first_wire_bytes": boxes.wire_bytes(first),
        "wire_bytes": boxes.wire_bytes(report), "relay_bytes": counted, "seconds": report["seconds"],
        "round_trips": report["seconds"] / ROUND_TRIP_SECONDS,
    }


def text(found):
    return (
        f"An unchanged tree of {found['logical_bytes'] / 1e12:.1f} TB, all holes but for {found['logical_bytes'] // 10**9:,} pages: "
        f"{found['wire_bytes']:,} bytes on the wire, both ways and with all headers (a relay on the line counted "
        f"{found['relay_bytes']:,}), in {found['round_trips']:.1f} round trips."
    )
