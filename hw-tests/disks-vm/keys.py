"""The step of keys: another TPM, mistyped, exchanged, and all data encrypted anew with a power cut in the middle."""

import time

from day import DATA, NB, box


def keys(day):
    """The disks in another box open by the recovery key alone; a passphrase is exchanged; all data is encrypted anew, with a power cut in the middle."""
    day.end_box()
    day.do("disks close")
    day.guest.cut_power()
    day.guest.forget_tpm()
    day.say("-- the disks are in another box, with another TPM")
    day.boot()
    day.do("disks open < /dev/null", refused="a key is needed")
    day.do("disks open --key-file /run/second.key", refused="it is not one of the array's keys")
    day.typed("disks open", ["not this one", "nor this one", "nor that"], "3 keys were typed", code=1)
    day.typed("disks open", ["not this one", day.recovery], f"open at {DATA}")
    day.do("disks key rotate tpm --key-file /run/recovery.key")
    day.do("disks close")
    day.do("disks open < /dev/null")
    day.do("disks key add passphrase --new-key-file /run/first.key")
    day.do("disks key rotate passphrase --key-file /run/second.key --new-key-file /run/first.key", refused="not one of the array's keys")
    day.do("disks key rotate passphrase --key-file /run/first.key --new-key-file /run/second.key")
    day.do("disks key list")
    day.do("disks key rotate passphrase --key-file /run/first.key --new-key-file /run/second.key", refused="not one of the array's keys")
    day.do("disks key remove 9", refused="there is no key in slot 9")
    broken_off(day)
    day.guest.run(by_another_program("/run/first.key"))
    slot = {key["kind"]: key["slot"] for key in day.ask("disks key list")["keys"]}
    day.do(f"disks key remove {slot['passphrase']}")
    day.do(f"disks key remove {slot['recovery']}", refused="no passphrase or recovery key would be left")
    day.do(f"disks key remove {slot[None]}")
    day.do("disks key add passphrase --key-file /run/recovery.key --new-key-file /run/second.key")
    day.keep_recovery(day.do("disks key rotate recovery"))
    day.serve()
    day.say("-- all data is encrypted anew while the box serves, and the power is cut in the middle of that")
    renewing = day.guest.begin(f"{NB} disks key rotate data --key-file /run/recovery.key", timeout=1800)
    deadline = time.monotonic() + 300
    while not day.ask("disks key list")["renewing"] and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(8)
    day.guest.cut_power()
    if renewing().code == 0:
        raise box.Failed("all was done before the power was cut")
    day.boot()
    day.do("disks open --key-file /run/recovery.key")
    day.do("disks key list")
    day.serve()
    day.same_as_ever()
    day.do("disks key rotate data --key-file /run/recovery.key", timeout=1800)
    day.do("disks key list")
    day.same_as_ever()
    day.do("disks key rotate passphrase --key-file /run/second.key --new-key-file /run/first.key", refused="not one of the array's keys")
    day.end_box()
    day.do("disks close")
    day.do("disks open --key-file /run/second.key", says="nor looked at")
    day.do("disks close")
    day.do("disks open < /dev/null")
    day.do("disks close")


def by_another_program(file):
    """The command by which another program adds a key, or an exchange that is broken off right after: nothing says what the key is."""
    return f"cryptsetup luksAddKey --batch-mode --pbkdf pbkdf2 --key-file /run/recovery.key /dev/$(ls /sys/class/block | grep ^md | head -n1) {file}"


def broken_off(day):
    """An exchange of a passphrase that was broken off after the new one was added is finished by the same command."""
    day.guest.run("printf 'a third horse, not so correct' > /run/third.key")
    day.guest.run(by_another_program("/run/third.key"))
    day.say("-- an exchange of the passphrase is broken off: the new one is added, and not noted")
    rotate = "disks key rotate passphrase --key-file"
    day.do(f"{rotate} /run/second.key --new-key-file /run/third.key")
    day.do(f"{rotate} /run/third.key --new-key-file /run/third.key", refused="the new key is the old one")
    day.do(f"{rotate} /run/third.key --new-key-file /run/second.key")
