"""A line between two boxes on this machine: it delays every datagram and counts them. What it counts, nobody else has to be
believed."""

import heapq
import selectors
import socket
import threading
import time

# What UDP and IPv4 add to each datagram.
HEADERS = 28


class Relay:
    """Passes datagrams between whoever sends to `port` and 127.0.0.1:`target`. The delay may change while it runs."""

    def __init__(self, target):
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self.near, self.far):
            one.bind(("127.0.0.1", 0))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.far.connect(("127.0.0.1", target))
        self.port = self.near.getsockname()[1]
        self.delay_seconds = 0.0
        self.bytes, self.caller, self.waiting, self.number = 0, None, [], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        with selectors.DefaultSelector() as ready:
            ready.register(self.near, selectors.EVENT_READ)
            ready.register(self.far, selectors.EVENT_READ)
            while not self.over.is_set():
                due = self.waiting[0][0] - time.monotonic() if self.waiting else 0.1
                for key, _ in ready.select(max(0, min(due, 0.1))):
                    self.receive(key.fileobj)
                while self.waiting and self.waiting[0][0] <= time.monotonic():
                    self.send(*heapq.heappop(self.waiting)[2:])

    def receive(self, source):
        while True:
            try:
                datagram, sender = source.recvfrom(65536)
            except (BlockingIOError, ConnectionRefusedError):
                return
            if source is self.near:
                self.caller = sender
            self.bytes += len(datagram) + HEADERS
            self.number += 1
            heapq.heappush(self.waiting, (time.monotonic() + self.delay_seconds, self.number, source, datagram))

    def send(self, source, datagram):
        try:
            if source is self.near:
                self.far.send(datagram)
            else:
                self.near.sendto(datagram, self.caller)
        except OSError:
            pass  # A full buffer or an end that is gone loses it, as a line would.

    def close(self):
        self.over.set()
        self.thread.join()
        self.near.close()
        self.far.close()
