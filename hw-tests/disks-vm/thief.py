"""The steps of the thief, who searches disks for what was written; and of the canary, whether he would see it."""

import search
from day import box

#: Of each of the two: a mirror has the room of one, and the box keeps 256 MiB free beside its journal.
PLAIN_MB = 768


def stolen(day):
    """Every disk that was ever in the array is searched, as who has stolen it would."""
    day.guest.cut_power()
    wanted = {**day.canaries, **search.FORMATS}
    found = 0
    for name in sorted(image.stem for image in day.folder.glob("D*.img")):
        hits, bits = search.search(day.folder / f"{name}.img", wanted)
        found += len(hits)
        day.say(f"-- disk {name}: {', '.join(hits) if hits else 'nothing found'}; {bits:.4f} bits a byte where anything was written")
        if bits < 7.99:
            raise box.Failed(f"what is on {name} is not like noise: {bits:.4f} bits a byte")
    if found:
        raise box.Failed("a stolen disk tells what is on it")


def plain(day):
    """The same search finds everything where nothing is encrypted: it can see."""
    day.guest.disks.clear()
    for name in ("P1", "P2"):
        day.guest.make_disk(name, PLAIN_MB)
    day.boot()
    day.do("disks make P1 P2 --yes --key none")
    day.serve()
    day.write_canaries()
    day.snapshot("before")
    day.end_box()
    day.do("disks close")
    day.guest.cut_power()
    wanted = {**day.canaries, **search.FORMATS}
    for name in ("P1", "P2"):
        hits, bits = search.search(day.folder / f"{name}.img", wanted)
        day.say(f"-- disk {name}, not encrypted: {', '.join(hits)}; {bits:.4f} bits a byte where anything was written")
        if set(hits) != set(wanted):
            raise box.Failed(f"the search does not see {', '.join(set(wanted) - set(hits))}")
