"""The others: each is made ready with day 1, and then asked how many bytes day 2 takes.

What is counted is always in the rival's favour. rsync says itself what it sent and received; a line would add TCP, IP and SSH. Of
repositories, only the bytes of the files count that are there after day 2 and were not after day 1: what must
reach the other side at least, without questions and answers.
"""

import re
import shutil

import data
import measure


class Rival:
    """A program with a folder of its own. `first` takes in day 1, `second` returns the bytes of day 2, both ways."""

    name, for_pages_only = "", False

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)

    def first(self, day):
        raise NotImplementedError

    def second(self, day):
        raise NotImplementedError


class Rsync(Rival):
    """Two rsyncs that talk over a pipe, as they would through ssh."""

    name, options = "rsync -z, whole files", ["--whole-file"]
    # Called as a remote shell: its first argument is the host.
    REMOTE = """sh -c 'exec "$@"'"""

    def first(self, day):
        data.copy_tree(day, self.folder / "copy")

    def second(self, day):
        _, said = measure.run(
            "rsync", "-aHz", "--delete", "--stats", *self.options, f"--rsh={self.REMOTE}", f"{day}/", f"peer:{self.folder}/copy/",
            env={"LC_ALL": "C"},
        )
        left = measure.run(
            "rsync", "-rlcn", "--delete", "--out-format=%n", "--omit-dir-times", f"{day}/", f"{self.folder}/copy/"
        )[1].strip()
        if left:
            raise measure.Failed(f"{self.name} left a difference: {left[:500]}")
        counts = re.findall(r"^Total bytes (?:sent|received): ([\d,]+)", said, re.M)
        return sum(int(count.replace(",", "")) for count in counts)


class RsyncDelta(Rsync):
    name, options = "rsync -z, in place", ["--inplace", "--no-whole-file"]


class RsyncPages(Rsync):
    name, options, for_pages_only = "rsync -z, in place, 4 KiB", ["--inplace", "--no-whole-file", "--block-size=4096"], True


class Repository(Rival):
    """A program that keeps a repository of files. How large the new ones are is what counts."""

    def first(self, day):
        self.prepare()
        self.backup(day, "day1")
        self.before = self.files()

    def second(self, day):
        self.backup(day, "day2")
        return sum(size for path, (size, when) in self.files().items() if self.before.get(path) != (size, when))

    def files(self):
        """Every file that a mirror of the repository would have to fetch."""
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in data.regular_files(self.folder / "repository")}

    def prepare(self):
        raise NotImplementedError

    def backup(self, day, name):
        raise NotImplementedError


class Restic(Repository):
    """Repository version 2, hardest compression. It names chunks by a polynomial of its own for each repository, so its figures
    spread a little."""

    name = "restic"

    def prepare(self):
        self.env = {
            "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(self.folder / "repository"), "RESTIC_COMPRESSION": "max",
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        measure.run("restic", "init", "--repository-version", "2", env=self.env)

    def backup(self, day, name):
        measure.run("restic", "backup", "--tag", name, ".", env=self.env, cwd=day)

class Borg(Repository):
    name, cutting = "borg, zstd", []

    def prepare(self):
        self.env = {
            "BORG_BASE_DIR": str(self.folder / "home"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }
        measure.run("borg", "init", "--encryption=none", self.folder / "repository", env=self.env)

    def backup(self, day, name):
        measure.run(
            "borg", "create", "--compression=zstd", *self.cutting, f"{self.folder / 'repository'}::{name}", ".",
            env=self.env, cwd=day,
        )

    def files(self):
        """borg writes its index, and hints for itself, anew every time; whoever mirrors its data alone can make them."""
        return {path: facts for path, facts in super().files().items() if path.parent.parent.name == "data"}


class BorgPages(Borg):
    name, cutting, for_pages_only = "borg, zstd, 4 KiB", ["--chunker-params=fixed,4096"], True


class Casync(Repository):
    """Its chunk store and its index file."""

    name = "casync"

    def prepare(self):
        (self.folder / "repository").mkdir()

    def backup(self, day, name):
        image = day / "disk.img"
        what, ending = (image, "caibx") if image.exists() else (day, "caidx")
        repository = self.folder / "repository"
        measure.run("casync", "make", f"--store={repository / 'chunks'}", repository / f"{name}.{ending}", what)


class Patch(Rival):
    """What zstd makes of day 2 when it has the whole of day 1 at hand: an outer bound, not a way of backing up. A tree is a tar
    in the order of its names."""

    name, LEVEL = "zstd --patch-from", "-12"

    def packed(self, day, name):
        image = day / "disk.img"
        if image.exists():
            return image
        packed = self.folder / f"{name}.tar"
        measure.run("tar", "--sort=name", "--format=posix", "--pax-option=delete=atime,delete=ctime", "-cf", packed, "-C", day, ".")
        return packed

    def first(self, day):
        self.old = self.packed(day, "day1")

    def second(self, day):
        new, patch = self.packed(day, "day2"), self.folder / "patch"
        measure.run("zstd", "-q", self.LEVEL, "--long=31", f"--patch-from={self.old}", new, "-o", patch)
        return patch.stat().st_size


RIVALS = [Rsync, RsyncDelta, RsyncPages, Restic, Borg, BorgPages, Casync, Patch]


def versions():
    """The programs with their versions, in one line."""
    found = []
    for command in (["rsync", "--version"], ["restic", "version"], ["borg", "--version"], ["casync", "--version"], ["zstd", "--version"]):
        said = measure.run(*command)[1].splitlines()[0]
        number = re.search(r"\d+(\.\d+)*", said.replace("64-bit", ""))
        found.append(f"{command[0]} {number[0] if number else said}")
    return ", ".join(found)


def bytes_of_day2(rival, data_set, folder):
    """Runs one rival on one set; bytes and seconds. It leaves nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    used = rival(folder)
    try:
        used.first(data_set.day(1))
        return used.second(data_set.day(2))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
