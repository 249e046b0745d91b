"""A folder of real files and a disk image that live through days of work: what changes on each is chosen by a seed, so that every
run sees the same.

A day changes a share of the bytes in three ways. Pages of 4 KiB at random places of the image are written over; files get some
bytes more in their middle, until as many bytes lie in files that changed; and the folder `today` holds what belongs to that day alone.
What is new is cut out of real files in pieces of some hundred bytes and put together anew: no chunk of it was ever there, and it
compresses as real data does.
"""

import os
import pathlib
import random
import shutil

from measure import run

PAGE = 4096
#: The pieces that new data is put together of, and the files of a day's own folder.
PIECE_BYTES, TODAY_BYTES = (200, 2000), 256 << 10
FIRST_DAY = 1_760_000_000


class Days:
    """A folder, and the number of the day that it shows."""

    def __init__(self, corpus, folder, seed=1):
        """Takes over the corpus's files and its image, as day 0."""
        self.folder, self.number, self.dice = pathlib.Path(folder), 0, random.Random(seed)
        shutil.rmtree(folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        run("cp", "-a", corpus / "files", corpus / "disk.img", self.folder)
        walked = (pathlib.Path(base) / name for base, _, names in os.walk(self.folder / "files") for name in names)
        regular = sorted(path for path in walked if path.is_file() and not path.is_symlink())
        # Of several names of one file the first: to edit it under another would touch all of them.
        self.files = list({path.stat().st_ino: path for path in reversed(regular)}.values())
        self.donors = [path.read_bytes() for path in self.dice.sample(self.files, min(len(self.files), 2000))
                       if PIECE_BYTES[1] < path.stat().st_size < 1 << 20]
        self.bytes = sum(path.stat().st_size for path in self.files) + (self.folder / "disk.img").stat().st_size

    def fresh(self, length):
        """So many bytes that were never there."""
        made = bytearray()
        while len(made) < length:
            donor, size = self.dice.choice(self.donors), self.dice.randint(*PIECE_BYTES)
            start = self.dice.randrange(len(donor) - size)
            made += donor[start:start + size]
        return bytes(made[:length])

    def next(self, percent, today_percent=0.0):
        """A day of work: `percent` of the image's pages and of the files' bytes, and so much in `today`."""
        self.number += 1
        image = self.folder / "disk.img"
        pages = image.stat().st_size // PAGE
        with open(image, "r+b") as disk:
            for page in sorted(self.dice.sample(range(pages), round(pages * percent / 100))):
                disk.seek(page * PAGE)
                disk.write(self.fresh(PAGE))
        left = (self.bytes - image.stat().st_size) * percent / 100
        while left > 0:
            path = self.dice.choice(self.files)
            old = path.read_bytes()
            left -= max(len(old), 1)
            middle = self.dice.randint(0, len(old))
            with open(path, "wb") as file:
                file.write(old[:middle] + self.fresh(self.dice.randint(40, 2000)) + old[middle:])
            self.touch(path)
        shutil.rmtree(self.folder / "today", ignore_errors=True)
        (self.folder / "today").mkdir()
        for number in range(round(self.bytes * today_percent / 100 / TODAY_BYTES)):
            path = self.folder / f"today/{number}"
            path.write_bytes(self.fresh(TODAY_BYTES))
            self.touch(path)
        self.touch(image)

    def extra(self, folder, percent):
        """Another folder, so large beside this one, with nothing in it that was ever there; returns it."""
        folder.mkdir()
        for number in range(max(1, round(self.bytes * percent / 100 / TODAY_BYTES))):
            (folder / f"{number}").write_bytes(self.fresh(TODAY_BYTES))
        return folder

    def touch(self, path):
        """The day's own time: what did not change must look so."""
        os.utime(path, (FIRST_DAY + self.number * 86400,) * 2)
