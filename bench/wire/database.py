"""A database before and after a day of updates: PostgreSQL's data folder, or SQLite's one file.

Both hold the same: the catalogue of packages that this machine's apt knows (real names, texts, sizes and checksums), and a
table of stock movements, made from a seed. Day 2 changes some per cent of the rows, adds some, removes some, and
vacuums; the database lays out and dirties its pages as it always does.
"""

import contextlib
import glob
import os
import pathlib
import pwd
import random
import shutil
import sqlite3
import subprocess
import tempfile

import data
import measure

TABLES = """
CREATE TABLE packages(id INTEGER PRIMARY KEY, name TEXT, version TEXT, section TEXT, maintainer TEXT, depends TEXT,
  size INTEGER, sha256 TEXT, description TEXT);
CREATE TABLE movements(id INTEGER PRIMARY KEY, package INTEGER, place TEXT, pieces INTEGER, moved INTEGER, note TEXT);
"""
INDEXES = """
CREATE INDEX packages_by_name ON packages(name);
CREATE INDEX packages_by_maintainer ON packages(maintainer);
CREATE INDEX movements_by_package ON movements(package, moved);
"""
PLACES = ["north yard", "quay 3", "head office", "workshop", "lock house", "basin", "store room 12"]
NOTES = ["", "", "", "counted again", "box was open", "returned by customer", "for repair, see ticket", "damaged"]
FIELDS = ["Package", "Version", "Section", "Maintainer", "Depends", "Size", "SHA256", "Description"]


def catalogue(limit):
    """Rows of the packages that apt knows: [id, name, version, …]."""
    rows = []
    _, text = measure.run("apt-cache", "dumpavail", env={"LC_ALL": "C.UTF-8"})
    for entry in text.split("\n\n"):
        fields, name = {}, None
        for line in entry.split("\n"):
            if line.startswith(" "):
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                fields[name] = value.strip()
        if fields.get("Size", "").isdigit():
            rows.append([len(rows) + 1, *(int(fields[key]) if key == "Size" else fields.get(key, "") for key in FIELDS)])
        if len(rows) == limit:
            break
    if len(rows) < limit // 2:
        raise measure.Failed(f"apt knows of {len(rows)} packages only: run `apt-get update`")
    return rows


def movement(number, packages, dice):
    return [
        number, dice.randrange(1, packages + 1), dice.choice(PLACES), dice.randrange(-40, 400), 1_760_000_000 + 7 * number,
        dice.choice(NOTES) or f"delivery {dice.randrange(10**6)}",
    ]


def day_of_changes(packages, movements, percent, dice):
    """What happens on day 2, as (statement, values) with `?` for values. Packages get a new version, size and checksum, as when
    they are released anew; movements are booked, corrected and cleared."""
    for number in dice.sample(range(1, packages + 1), packages * percent // 100):
        yield ("UPDATE packages SET version = version || '+b1', size = size + ?, sha256 = ? WHERE id = ?",
               (dice.randrange(4000), f"{dice.getrandbits(256):064x}", number))
    for number in dice.sample(range(1, movements + 1), movements * percent // 100):
        yield "UPDATE movements SET pieces = ?, note = ? WHERE id = ?", (dice.randrange(400), f"corrected {number}", number)
    for number in dice.sample(range(1, movements + 1), movements // 200):
        yield "DELETE FROM movements WHERE id = ?", (number,)
    for number in range(movements + 1, movements + 1 + movements // 100):
        yield "INSERT INTO movements VALUES (?, ?, ?, ?, ?, ?)", tuple(movement(number, packages, dice))


def sqlite(folder, packages, movements, percent, seed):
    """The data set in SQLite."""
    rows, dice = catalogue(packages), random.Random(seed)
    (folder / "day1").mkdir()
    file = folder / "day1/office.sqlite"
    # Committed by hand: the module's own transactions would keep VACUUM and PRAGMA out.
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as base:
        base.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; {TABLES}")
        base.execute("BEGIN")
        base.executemany("INSERT INTO packages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        base.executemany("INSERT INTO movements VALUES (?, ?, ?, ?, ?, ?)",
                         (movement(number, len(rows), dice) for number in range(1, movements + 1)))
        base.execute("COMMIT")
        base.executescript(INDEXES)
    data.copy_tree(folder / "day1", folder / "day2")
    with contextlib.closing(sqlite3.connect(folder / "day2/office.sqlite", isolation_level=None)) as base:
        base.execute("PRAGMA synchronous = OFF")
        base.execute("BEGIN")
        for statement, values in day_of_changes(len(rows), movements, percent, dice):
            base.execute(statement, values)
        base.execute("COMMIT")
    what = about(rows, movements, percent, f"SQLite {sqlite3.sqlite_version}, one file")
    return data.DataSet("sqlite", "SQLite", "share", what, paged=True)


def about(rows, movements, percent, what):
    return (f"{what}, {len(rows):,} packages with their texts and {movements:,} movements, indexed; day 2: {percent} % of the rows "
            "updated, 1 % of the movements added, 0.5 % deleted")


class Postgres:
    """A server of its own below a folder: its data in `data`, its socket in `socket`. It never runs as root."""

    def __init__(self, folder):
        self.data, self.socket = folder / "data", folder / "socket"
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
        if not programs:
            raise measure.Failed("PostgreSQL is missing: run `.ci/setup wire`")
        self.programs = pathlib.Path(programs[-1])
        # The server refuses to run as root; its package brings a user for it.
        self.as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        self.user = "postgres" if self.as_user else pwd.getpwuid(os.getuid()).pw_name
        for path in (self.data, self.socket):
            path.mkdir(mode=0o700)
        for path in (folder, self.data, self.socket):
            shutil.chown(path, self.user)

    def call(self, program, *arguments):
        return measure.run(*self.as_user, self.programs / program, *arguments, cwd="/")[1]

    def __enter__(self):
        # No autovacuum: when it runs depends on the clock. The rest are the defaults.
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.socket}' -c autovacuum=off -c fsync=off"
        self.call("pg_ctl", "start", "--wait", "--silent", "-D", self.data, "-o", options, "-l", self.socket / "log")
        return self

    def __exit__(self, *_):
        self.call("pg_ctl", "stop", "--wait", "--silent", "-m", "fast", "-D", self.data)

    def feed(self, lines):
        """Gives psql a script, line by line."""
        psql = subprocess.Popen(
            [*self.as_user, self.programs / "psql", "-qXv", "ON_ERROR_STOP=1", "-h", self.socket, "-d", "postgres"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd="/",
        )
        with contextlib.suppress(BrokenPipeError):
            for line in lines:
                psql.stdin.write(line + "\n")
        said = psql.communicate()[1]
        if psql.returncode != 0:
            raise measure.Failed(f"psql: {said[-2000:]}")


def literal(value):
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def filled(statement, values):
    """The statement with its values in place of the question marks."""
    pieces = statement.split("?")
    return "".join(piece + literal(value) for piece, value in zip(pieces, values)) + pieces[-1] + ";"


def copied(table, rows):
    """COPY's text format."""
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    yield f"COPY {table} FROM stdin;"
    for row in rows:
        yield "\t".join(str(value).translate(escapes) for value in row)
    yield "\\."


def postgres(folder, packages, movements, percent, seed):
    """The data set in PostgreSQL: the data folder of a server that was shut down, without its log of changes (pg_wal), which
    a backup keeps apart."""
    rows, dice = catalogue(packages), random.Random(seed)
    # Not below the other data: the server's user must get there, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="narrowboat-wire-") as work:
        server = Postgres(pathlib.Path(work))
        server.call("initdb", "--no-sync", "--locale=C.UTF-8", f"--username={server.user}", "-D", server.data)
        with server:
            server.feed([TABLES, *copied("packages", rows), *copied("movements", (
                movement(number, len(rows), dice) for number in range(1, movements + 1))), INDEXES, "VACUUM ANALYZE;"])
        keep(server.data, folder / "day1")
        with server:
            changes = day_of_changes(len(rows), movements, percent, dice)
            server.feed([*(filled(*change) for change in changes), "VACUUM ANALYZE;"])
        keep(server.data, folder / "day2")
        version = server.call("postgres", "--version").split()[2]
    what = about(rows, movements, percent, f"data folder of PostgreSQL {version}")
    return data.DataSet("postgres", "PostgreSQL", "share", what, paged=True)


def keep(work, day):
    """A copy of a data folder at rest."""
    data.copy_tree(work, day)
    for file in (day / "pg_wal").iterdir():
        if file.is_file():
            file.unlink()
    if os.getuid() == 0:
        measure.run("chown", "-R", "0:0", day)
