"""Rows that are committed in a database, with the times at which each was sent and acknowledged, kept outside of it."""

import datetime
import pathlib
import random
import subprocess
import threading
import time


def rfc3339(seconds):
    """A whole second as the box takes it."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def nanoseconds(text):
    """A time that the box has told."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.datetime.strptime(f"{whole}+0000", "%Y-%m-%dT%H:%M:%S%z")
    return int(moment.timestamp()) * 1_000_000_000 + int(f"{fraction:0<9}")


class Ledger:
    """Writers that each insert one row after the other, every row a transaction of its own. The clock is this machine's, as the
    box's is."""

    def __init__(self, port, writers):
        #: (writer, number) to (sent, acknowledged or None), in nanoseconds since 1970.
        self.rows = {}
        self.began = time.time_ns()
        self.ended = None
        self.port = port
        self.threads = [threading.Thread(target=self.write, args=(writer,), daemon=True) for writer in range(writers)]
        for thread in self.threads:
            thread.start()

    def write(self, writer):
        """Inserts until told to end. A row that nobody acknowledged (the server was stopped) is never sent again."""
        chance = random.Random(writer)
        command = f"psql -X -q -A -t -h 127.0.0.1 -p {self.port} -U postgres -v ON_ERROR_STOP=1 postgres".split()
        number = 0
        while not self.ended:
            shell = subprocess.Popen(
                ["stdbuf", "-oL", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            try:
                while not self.ended:
                    number += 1
                    filler = chance.randbytes(chance.randrange(1500)).hex()
                    key, sent = (writer, number), time.time_ns()
                    self.rows[key] = (sent, None)
                    shell.stdin.write(f"insert into ledger values ({writer}, {number}, '{filler}') returning number;\n")
                    shell.stdin.flush()
                    if shell.stdout.readline().strip() != str(number):
                        break
                    self.rows[key] = (sent, time.time_ns())
            except BrokenPipeError:
                pass
            shell.kill()
            shell.wait()
            time.sleep(0.3)

    def stop(self):
        self.ended = time.time_ns()
        for thread in self.threads:
            thread.join(30)
        return f"{len(self.acknowledged())} rows acknowledged, {len(self.rows) - len(self.acknowledged())} not"

    def acknowledged(self):
        return [times for times in list(self.rows.values()) if times[1]]

    def moments(self, count, seed):
        """Seconds within the load, one a line."""
        first, last = self.began // 1_000_000_000 + 2, self.ended // 1_000_000_000 - 1
        chosen = random.Random(seed).sample(range(first, last), count)
        return "\n".join(rfc3339(second) for second in sorted(chosen))

    def judge(self, file, earliest, latest):
        """Compares the rows that a database has, as lines `writer number`, with those that it must and must not have if its
        moment lies between two times. Returns what is wrong, and how many rows it was about."""
        found = {tuple(map(int, line.split())) for line in pathlib.Path(file).read_text().splitlines()}
        must = {key for key, (_, acknowledged) in self.rows.items() if acknowledged and acknowledged <= earliest}
        must_not = {key for key, (sent, _) in self.rows.items() if sent >= latest}
        lost, future, strange = must - found, must_not & found, found - set(self.rows)
        wrong = [
            f"{len(keys)} rows {what}, such as {sorted(keys)[:5]}"
            for keys, what in ((lost, "are lost"), (future, "are of the future"), (strange, "were never written"))
            if keys
        ]
        return wrong, f"{len(found)} rows, {len(must)} of which it must have; {len(must_not)} it must not have"
