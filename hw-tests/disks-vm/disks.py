"""The steps in which disks and power go: made, pulled, replaced, and without power under load."""

import time

from day import DISK_MB, NB, box


def make(day):
    """Three disks: refusals, a plan, a power cut while it is made; made, closed, opened by the TPM, served."""
    day.guest.make_disk("small", 64)
    for name in ("D1", "D2", "D3"):
        day.guest.make_disk(name, DISK_MB)
    day.boot()
    day.do("disks list")
    day.do("disks make D1 small --yes --key tpm", refused="too small")
    day.do("disks make D1 D2 D3 --key tpm", refused="say --yes")
    day.do("disks make D1 nosuch --yes --key tpm", refused="there is no disk nosuch")
    day.do("disks plan D1 D2 D3 --key tpm")
    day.say("-- and the power is cut while it is made")
    making = day.guest.begin(f"{NB} disks make D1 D2 D3 --yes --key tpm")
    deadline = time.monotonic() + 300
    while "linux_raid_member" not in day.guest.run("lsblk --noheadings --output FSTYPE") and time.monotonic() < deadline:
        time.sleep(0.2)
    day.guest.cut_power()
    if making().code == 0:
        raise box.Failed("the array was made before the power was cut")
    day.guest.disks.pop("small")
    day.boot()
    day.keep_recovery(day.do("disks make D1 D2 D3 --yes --key tpm", timeout=1200))
    day.do("disks make D1 D2 D3 --yes --key tpm", refused="` it first")
    day.do("disks status")
    day.do("disks key list")
    day.do("disks close")
    day.do("serve", refused="is not open")
    day.do("disks open")
    day.serve()
    day.write_canaries()
    day.begin_writing("early", 10)()
    day.verify("early")
    day.root = day.snapshot("before")
    day.wait_for("healthy")


def pull(day):
    """A disk is pulled while a client writes; a new one takes its place while it goes on."""
    writing = day.begin_writing("pulled", 60)
    time.sleep(10)
    day.say("-- the disk D2 is pulled out")
    day.guest.pull("D2")
    day.wait_for("degraded", 120)
    status = day.guest.run(f"{NB} status")
    day.say("# narrowboat status")
    for line in [line for line in status.splitlines() if "array" in line or "PROBLEM" in line]:
        day.say(f"  {line}")
    if "PROBLEM      1 of 3 disks missing: serial number D2" not in status:
        raise box.Failed("status does not name the disk")
    code = day.guest.begin(f"{NB} disks status")().code
    day.say(f"# narrowboat disks status    (exit code {code})")
    if code != 4:
        raise box.Failed(f"the exit code is {code}")
    day.guest.plug("D4", DISK_MB)
    day.say("-- a new disk D4 is plugged in")
    day.do("disks replace D2 nosuch", refused="there is no disk nosuch")
    day.do("disks replace D1x D4", refused="no disk D1x is or was in the array")
    day.do("disks replace D2 D4")
    began = time.monotonic()
    day.wait_for("healthy")
    day.say(f"-- rebuilt in {time.monotonic() - began:.0f} s")
    said = writing()
    if said.code != 0:
        raise box.Failed(f"the client saw an error: {said.err}")
    day.say(f"-- the client wrote {said.strip()} files of 512 KiB meanwhile and saw no error")
    day.do("disks status")
    day.verify("pulled")
    day.same_as_ever()


def power(day):
    """The power is cut while a client writes and one disk of the three is missing; the array opens again, and nothing acknowledged is lost."""
    writing = day.begin_writing("cut", 900)
    time.sleep(10)
    day.guest.pull("D3")
    time.sleep(15)
    sums = day.guest.run("cat /run/cut.sums /run/early.sums /run/pulled.sums")
    day.say("-- the disk D3 is pulled, and then the power is cut under load")
    day.guest.cut_power()
    writing()
    day.boot()
    day.do("disks open")
    day.serve()
    day.guest.run("cat > /run/all.sums", input=sums)
    day.guest.run("cd /mnt/share; sha256sum cut/* early/* pulled/* | cut -d' ' -f1 | sort -u > /run/there; cut -d' ' -f1 /run/all.sums | sort -u > /run/written; "
                  "test -z \"$(comm -13 /run/there /run/written)\"")
    day.say(f"-- all {len(sums.splitlines())} files that were synced are there, byte for byte")
    day.same_as_ever()
    day.guest.plug("D5", DISK_MB)
    day.do("disks replace missing D5")
    day.wait_for("healthy")
    day.do("disks check")
    time.sleep(1)
    day.wait_for("healthy")
    day.do("disks status")
