"""The step of what was broken off, comes late, or belongs to another box."""

import json
import time

from day import DATA, DISK_MB, NB, box


def again(day):
    """What was broken off is finished, a disk that was kicked out or comes late is taken in, and the array of another box is not taken for the own one."""
    device = day.array()["device"]
    md = f"/sys/block/{device}/md"
    by_hand = (f"source=$(ls {md} | sed -n 's/^dev-\\([a-z]*\\)[0-9]*$/\\1/p' | head -n1); new=/dev/$(lsblk -dno NAME,SERIAL | awk '$2 == \"NEW\" {{ print $1 }}'); "
               f"sfdisk -d /dev/$source | sed 's/uuid=[^,]*,//; /^label-id/d; /^last-lba/d' | sfdisk -q $new; udevadm settle; mdadm /dev/{device} --add ${{new}}1")
    day.guest.pull("D5")
    day.wait_for("degraded", 120)
    day.guest.plug("D6", DISK_MB)
    day.say("-- D5 is pulled out, and an exchange with D6 broken off: it was added while all is held back")
    day.guest.run(f"echo frozen > {md}/sync_action; " + by_hand.replace("NEW", "D6"))
    time.sleep(3)
    day.do("disks status", says="was broken off", refused="was broken off")
    day.do("disks replace D5 D6", says="is in the array now")
    day.wait_for("healthy")
    day.do("disks replace D5 D6", says="is in the array already")
    day.say("-- the kernel kicks D6 out")
    day.guest.run(f"mdadm /dev/{device} --fail /dev/$(lsblk -rno NAME,SERIAL | awk '$2 == \"D6\" {{ print $1 }}')1")
    day.do("disks replace missing D6", says="is in the array now")
    day.wait_for("healthy")
    day.guest.plug("D7", DISK_MB)
    day.say("-- an exchange of D1, which works, with D7 is broken off: D7 is a spare that nobody said whom to replace")
    day.guest.run(by_hand.replace("NEW", "D7"))
    day.do("disks replace D1 D7", says="is in the array now")
    day.wait_in_sync("D7")
    day.do("disks replace D1 D7", says="is in the array already")
    slots = sorted((member["slot"], member["serial"]) for member in day.array()["members"] if member["slot"] is not None)
    if {serial for _, serial in slots} != {"D7", "D4", "D6"}:
        raise box.Failed(f"the description says {slots}")
    day.guest.pull("D1")
    day.end_box()
    day.say("-- the power went right after the array was made: its folder still says that it was not")
    day.guest.run(f"echo 'The array was not made to its end' > {DATA}/array-is-not-open")
    day.do("disks close")
    late(day)
    other_box(day)
    day.serve()
    day.same_as_ever()


def late(day):
    """A disk comes while `open` waits for it; then it does not come."""
    day.guest.pull("D7")
    day.say("-- D7 comes late")
    opening = day.guest.begin(f"{NB} disks open --wait 120")
    time.sleep(8)
    day.guest.plug("D7")
    said = opening()
    for line in (said + said.err).splitlines():
        day.say(f"  {line}")
    if said.code != 0 or "2 of 3 disks of the array are here: waiting" not in said.err or day.array()["degraded"] != 0:
        raise box.Failed("the array was not opened with the disk that came late")
    day.do("disks close")
    day.guest.pull("D7")
    day.say("-- D7 does not come")
    day.do("disks open --wait 6", says="2 of 3 disks of the array are here: waiting for the others")
    day.guest.plug("D7")
    day.do("disks replace missing D7", says="is in the array now")
    day.wait_for("healthy")


def other_box(day):
    """Beside the own array there is one of another box."""
    day.guest.plug("X1", DISK_MB)
    day.guest.plug("X2", DISK_MB)
    day.do("disks make X1 X2 --yes --key none", data="/srv/other", refused="is open, and one is at a time")
    day.do("disks close")
    day.do("disks make X1 X2 --yes --key none", data="/srv/other")
    day.do("disks close", data="/srv/other")
    day.say("-- disks of two arrays are here")
    day.do("disks open", says=f"open at {DATA}")
    if {member["serial"] for member in day.array()["members"]} != {"D7", "D4", "D6"}:
        raise box.Failed("another array was opened")
    other = array_of(day, "X1")
    day.do("disks make X1 X2 --yes --key none --overwrite", data="/srv/third", refused=f"--give-up {other}")
    day.guest.switch_off()
    day.boot()
    day.say("-- the folder below the array has forgotten which it was")
    day.do("disks open", refused="it is not known which array is this box's")
    day.do(f"disks close --array {other}")
    day.do("disks make X1 X2 --yes --key none --overwrite", data="/srv/third", refused=f"--give-up {other}")
    half(day, other)
    day.do(f"disks open --array {array_of(day, 'D4')[:8]}")
    day.guest.pull("X1")


def array_of(day, disk):
    """The id of the array that a disk is in which is not mounted."""
    listed = json.loads(day.guest.run(f"{NB} disks list --json"))["disks"]
    used = next(other["used"] for other in listed if other["serial"] == disk)
    if not used.startswith("part of the array "):
        raise box.Failed(f"the disk {disk} is in no array: {used}")
    return used.split()[-1]


def half(day, other):
    """A disk of the other array is here alone, and the system holds it while it waits for the rest: it can be given up all the same."""
    day.guest.switch_off()
    del day.guest.disks["X2"]
    day.boot()
    held = day.guest.run("cat /proc/mdstat")
    if "inactive" not in held:
        raise box.Failed(f"the system does not hold half an array: {held}")
    alone = "disks make X1 --redundancy none --key none --yes"
    day.do(alone, data="/srv/third", refused=f"disks close --array {other}")
    day.do(f"{alone} --give-up {other}", data="/srv/third", refused=f"disks close --array {other}")
    day.do(f"disks close --array {other}")
    day.do(f"{alone} --overwrite", data="/srv/third", refused=f"--give-up {other}")
    day.do(f"{alone} --give-up {other}", data="/srv/third")
    day.do("disks close", data="/srv/third")
