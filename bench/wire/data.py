"""What a data set is, and what all of them share: two days of the same thing in a folder of their own, made once and kept.

`FOLDER/day1` and `FOLDER/day2` hold the days, `FOLDER/set.json` says what they are. That file is written last: a set that
has it is whole.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import stat
import sys

import box
import measure

LAB = pathlib.Path(os.environ.get("NARROWBOAT_LAB", box.ROOT / "target/wire"))
PAGE = 4096


def say(text):
    """Tells the person how far it is; standard output is for the table alone."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass
class DataSet:
    """Two days of data. A `volume` is one file, `disk.img`; a `share` is a tree of files. Where pages are written in place,
    it is `paged`, and rivals are also tried with blocks as large as pages."""

    name: str
    title: str
    kind: str
    about: str
    paged: bool = False
    day2_bytes: int = 0
    changed_bytes: int = 0
    folder: pathlib.Path = None

    def day(self, number):
        return self.folder / f"day{number}"


def kept(name, options, make):
    """The set of that name with those options, made now if it is not there. `make(folder)` fills the folder and returns a
    DataSet."""
    folder = LAB / "sets" / "-".join([name, *(str(option) for option in options)])
    facts = folder / "set.json"
    if not facts.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"{name}: making the data")
        made = make(folder)
        made.day2_bytes, made.changed_bytes = sizes(folder / "day1", folder / "day2")
        facts.write_text(json.dumps({**dataclasses.asdict(made), "folder": None}, indent=1))
    data = DataSet(**json.loads(facts.read_text()))
    data.folder = folder
    say(f"{name}: {data.day2_bytes / 1e6:,.1f} MB, of them {data.changed_bytes / 1e6:,.2f} MB in changed pages")
    return data


def sizes(before, after):
    """Bytes of the later day, and those of its pages of 4 KiB that differ from the page at the same offset of the file of
    the same name. What is in a file of a new name is all changed."""
    total = changed = 0
    for path in regular_files(after):
        total += path.lstat().st_size
        old = before / path.relative_to(after)
        changed += changed_pages(old if old.is_file() and not old.is_symlink() else os.devnull, path)
    return total, changed


def changed_pages(old, new):
    changed = 0
    with open(old, "rb") as before, open(new, "rb") as after:
        while block := after.read(256 * PAGE):
            other = before.read(len(block))
            if block == other:
                continue
            for start in range(0, len(block), PAGE):
                page = block[start:start + PAGE]
                if page != other[start:start + PAGE]:
                    changed += len(page)
    return changed


def regular_files(folder):
    """Regular files below a folder, in the order of their names."""
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = pathlib.Path(below, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def copy_tree(source, target):
    """A copy with everything that belongs to the files; holes stay holes."""
    measure.run("cp", "-a", "--sparse=always", "--reflink=auto", source, target)
