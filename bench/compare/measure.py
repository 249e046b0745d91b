"""What the comparisons share: commands with their processor time, spreads, and a table for the documents."""

import dataclasses
import datetime
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import box

BENCH = box.ROOT / "target/release/narrowboat-bench"


@dataclasses.dataclass
class Spent:
    """What a piece of work took."""

    seconds: float
    processor_seconds: float
    memory_max_bytes: int = 0
    client_processor_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0


class Failed(Exception):
    """A command that ended with an error."""


def run(*command, env=None, cwd=None):
    """Runs a command with all its children to the end; what it spent. Its output goes into the error when it fails."""
    command = [str(word) for word in command]
    began = time.monotonic()
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{' '.join(command)}: {output.decode(errors='replace')[-2000:]}")
    # What went to and came from disks, in blocks of 512 bytes.
    spent = Spent(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024,
                  read_bytes=usage.ru_inblock * 512, written_bytes=usage.ru_oublock * 512)
    return spent, output.decode(errors="replace")


def processor_seconds(pid):
    """User and system time of a living process, its threads included."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until_idle(pid, patience=120):
    """Waits until a server has finished what it does behind its clients' backs: less than 2 % of a core for a second."""
    began = time.monotonic()
    before = processor_seconds(pid)
    while time.monotonic() - began < patience:
        time.sleep(1)
        now = processor_seconds(pid)
        if now - before < 0.02:
            return
        before = now


def settle_disk():
    """Lets nobody pay for what somebody else wrote."""
    os.sync()


def drop_caches():
    """Has the next one read from the disk. Without privilege it reads from memory, and says so."""
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
    except PermissionError:
        print("the page cache stays: dropping it needs root", file=sys.stderr)


def fresh_folder(path):
    """An empty folder."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def corpus(lab, size_mb):
    """The corpus of that size, made where it is not there."""
    folder = lab / f"corpus-{size_mb}"
    if not (folder / "day1.manifest").exists():
        run(BENCH, "corpus", "make", folder, "--size-mb", size_mb)
    return folder


class Series:
    """One figure over several rounds."""

    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)

    @property
    def median(self):
        return statistics.median(self.values)

    def scaled(self, factor):
        """The same in another unit."""
        result = Series()
        for value in self.values:
            result.add(value * factor)
        return result

    def text(self, digits=0):
        """The median with the lowest and highest."""
        show = lambda number: f"{number:,.{digits}f}"  # noqa: E731
        return f"{show(self.median)} ({show(min(self.values))}–{show(max(self.values))})"


def machine():
    """The machine in one line, and the day."""
    model = next(
        (line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown processor",
    )
    memory = next(
        int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    return (f"{os.cpu_count()} cores of {model}, {memory / 2**20:.0f} GiB of memory, Linux {os.uname().release}, "
            f"{datetime.date.today():%Y-%m-%d}")


def table(header, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def goals(rows):
    """The table of goals, of (label, value, sign, wanted, unit)."""
    return table(["goal", "wanted", "measured", ""], [
        [label, f"{sign} {wanted}{unit}", f"{value:.2f}{unit}",
         "met" if (value >= wanted if sign == ">=" else value <= wanted) else "**missed**"]
        for label, value, sign, wanted, unit in rows
    ])


def replace_between(page, name, text):
    """Replaces what lies between `<!-- NAME -->` and `<!-- /NAME -->` in a page; the page must have both."""
    page = pathlib.Path(page)
    old = page.read_text()
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in old or end not in old:
        raise Failed(f"{page} has no place for {name}")
    before, rest = old.split(start, 1)
    page.write_text(f"{before}{start}\n{text}\n{end}{rest.split(end, 1)[1]}")
