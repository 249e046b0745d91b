"""The programs that are compared as keepers of backups: Narrowboat, borg and restic, each with a store of its own in a folder.

borg: encryption none (its fastest; it has no default), compression lz4 (its default).
restic: repository version 2, compression auto (on); it always encrypts.
Narrowboat: default settings, filled over NFS through libnfs; a backup counts as done when its snapshot exists.
"""

import pathlib
import re

import box
import measure
from measure import Spent, run

LOADER = box.ROOT / "target/nfsload"


class Command:
    """A program that lives as long as one command."""

    def fresh(self):
        """The machine does not remember what it read."""
        measure.drop_caches()

    def close(self):
        pass


class Borg(Command):
    name = "borg"

    def __init__(self, folder):
        self.repository, self.folder = folder / "borg", folder
        self.env = {"BORG_BASE_DIR": str(folder / "borg-home"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        run("borg", "init", "--encryption=none", self.repository, env=self.env)

    def backup(self, source, name):
        return run("borg", "create", f"{self.repository}::{name}", ".", env=self.env, cwd=source)[0]

    #: What changed since the last one is found by its cache of files.
    next_day = backup

    def restore(self, name, target):
        target.mkdir()
        return run("borg", "extract", f"{self.repository}::{name}", env=self.env, cwd=target)[0]

    def check(self):
        return run("borg", "check", "--verify-data", self.repository, env=self.env)[0]

    def forget(self, name):
        run("borg", "delete", f"{self.repository}::{name}", env=self.env)

    forget_day = forget

    def reclaim(self):
        return run("borg", "compact", self.repository, env=self.env)[0]

    def stored(self):
        return box.tree_bytes(self.repository)

    #: All of it is what is kept and what finds it.
    containers = stored


class Restic(Command):
    name = "restic"
    prune_options = ()

    def __init__(self, folder):
        self.repository = folder / self.name.replace(" ", "")
        self.env = {
            "RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(self.repository),
            "XDG_CACHE_HOME": str(self.repository) + "-cache",
        }
        run("restic", "init", "--repository-version", "2", env=self.env)

    def copy(self, program, folder):
        """The same store once more, for another program."""
        copy = program.__new__(program)
        copy.repository = folder / program.name.replace(" ", "")
        copy.env = {**self.env, "RESTIC_REPOSITORY": str(copy.repository), "XDG_CACHE_HOME": f"{copy.repository}-cache"}
        run("cp", "-a", self.repository, copy.repository)
        return copy

    def backup(self, source, name):
        return run("restic", "backup", "--tag", name, ".", env=self.env, cwd=source)[0]

    #: What changed since the last one is found by its parent.
    next_day = backup

    def restore(self, name, target):
        # The path inside is the source's own; what is compared is the time.
        return run("restic", "restore", "latest", "--tag", name, "--target", target, env=self.env)[0]

    def check(self):
        return run("restic", "check", "--read-data", env=self.env)[0]

    def forget(self, name):
        _, listed = run("restic", "snapshots", "--tag", name, "--compact", env=self.env)
        run("restic", "forget", re.search(r"^([0-9a-f]{8}) ", listed, re.M).group(1), env=self.env)

    forget_day = forget

    def reclaim(self):
        return run("restic", "prune", *self.prune_options, env=self.env)[0]

    def stored(self):
        return box.tree_bytes(self.repository)

    #: All of it is what is kept and what finds it.
    containers = stored


class ResticWhole(Restic):
    """The same, told to leave nothing that is unused."""

    name = "restic, all of it"
    prune_options = ("--max-unused", "0")


class Narrowboat:
    name = "Narrowboat"

    def __init__(self, folder, config="", port=20591):
        self.box = box.Box(folder / "narrowboat", "bench", port, port + 10, config)
        self.box.start()

    def backup(self, source, name):
        self.box.tell("share", "create", name)
        return self.filled("put", source, name, "done")

    def next_day(self, source, name):
        """A moment of one share that is kept equal to a folder."""
        if not any(one["name"] == "data" for one in self.box.ask("dataset", "list")):
            self.box.tell("share", "create", "data")
        return self.filled("sync", source, "data", name)

    def filled(self, mode, source, share, snapshot):
        before = self.box.processor_seconds()
        spent, _ = run(LOADER, mode, source, f"127.0.0.1:/{share}", "--port", self.box.nfs_port, "--json")
        made, _ = run(box.BINARY, "snapshot", "create", share, "--name", snapshot, "--data", self.box.data)
        # What the box still does behind the client's back costs processor time, too.
        measure.wait_until_idle(self.box.process.pid)
        return Spent(
            spent.seconds + made.seconds, self.box.processor_seconds() - before, self.box.memory_max_bytes(),
            spent.processor_seconds,
        )

    def told(self, *words):
        """What a command takes, and the box with it."""
        return self.with_box(box.BINARY, *words, "--data", self.box.data)

    def loaded(self, mode, source):
        """What a client takes who reads the share, and the box with it."""
        return self.with_box(LOADER, mode, source, "127.0.0.1:/data", "--port", self.box.nfs_port)

    def with_box(self, *command):
        self.box.forget_memory_max()
        before, io = self.box.processor_seconds(), self.box.disk_bytes()
        spent, _ = run(*command)
        # As after a backup: what the box still does of it counts.
        measure.wait_until_idle(self.box.process.pid)
        spent.processor_seconds += self.box.processor_seconds() - before
        spent.memory_max_bytes = self.box.memory_max_bytes()
        read, written = self.box.disk_bytes()
        spent.read_bytes += read - io[0]
        spent.written_bytes += written - io[1]
        return spent

    def fresh(self):
        """Neither the box nor the machine remembers what it read."""
        self.box.stop()
        measure.drop_caches()
        self.box.start()
        measure.wait_until_idle(self.box.process.pid)

    def restore(self, name, target):
        return self.told("restore", f"{name}@done", target)

    def check(self):
        return self.told("check", "--deep")

    def forget(self, name):
        """What was deleted leaves the quarantine at once: else it keeps its room for days."""
        self.box.tell("dataset", "delete", name)
        self.box.tell("quarantine", "empty")

    def forget_day(self, name):
        self.box.tell("snapshot", "delete", f"data@{name}")
        self.box.tell("quarantine", "empty")

    def reclaim(self):
        return self.told("reclaim")

    def stored(self):
        return box.tree_bytes(self.box.data)

    def containers(self):
        """What is kept; index, catalogue and journal lie beside it."""
        return box.tree_bytes(pathlib.Path(self.box.data) / "containers")

    def journal(self):
        return box.tree_bytes(pathlib.Path(self.box.data) / "journal")

    def close(self):
        self.box.stop()


PROGRAMS = [Narrowboat, Borg, Restic]

