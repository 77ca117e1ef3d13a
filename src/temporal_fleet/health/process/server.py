"""The health process's loop: one thread, one selector, nothing that blocks.

Started by :class:`temporal_fleet.health.server.HealthServer` with three inherited descriptors: the
listening socket, one end of the control socket pair and the shared page.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time

from .answers import take_answers
from .collection import MetricsCollector
from .exposition import CONTENT_TYPE
from .http_connection import REQUEST_TIMEOUT, HttpConnection, Request
from .page import SharedPage
from .probes import PROBES, answer_probe, index

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .probes import WorkerState

MAX_CONNECTIONS = 128
"""Clients at a time; one more closes the one that is nearest to its deadline, idle ones first."""
ORPHAN_CHECK_INTERVAL = 5.0
"""Seconds between looks at the parent's process ID. The closed control socket ends this process at
once, unless a forked child of the worker still holds the other end."""
_PATHS = ("/startupz", "/livez", "/readyz", "/metrics")


class HealthProcess:
    """Serves until the worker is gone."""

    def __init__(self, listener: socket.socket, control: socket.socket, page: SharedPage) -> None:
        listener.setblocking(False)
        control.setblocking(False)
        self._listener = listener
        self._control = control
        self._page = page
        self._parent = os.getppid()
        self._orphaned = False
        self._incoming = bytearray()
        self._connections: set[HttpConnection] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(control, selectors.EVENT_READ, self._on_control)
        self._collector = MetricsCollector(self._selector, self._ask_worker, self._report)

    def run(self) -> None:
        """Serve; returns when the worker is gone."""
        while not self._orphaned and os.getppid() == self._parent:
            for key, mask in self._selector.select(self._wait_time()):
                key.data(mask)
            self._expire()

    def _wait_time(self) -> float:
        deadlines = [connection.deadline for connection in self._connections]
        if self._collector.deadline is not None:
            deadlines.append(self._collector.deadline)
        wait = min(deadlines, default=float("inf")) - time.monotonic()
        return max(0.0, min(wait, ORPHAN_CHECK_INTERVAL))

    def _expire(self) -> None:
        now = time.monotonic()
        self._collector.expire(now)
        for connection in [c for c in self._connections if now >= c.deadline]:
            if not connection.idle:
                self._send_to_worker(
                    {
                        "level": "debug",
                        "event": "health client was too slow, connection closed",
                        "request_timeout_seconds": REQUEST_TIMEOUT,
                    }
                )
            connection.close()

    def _accept(self, _mask: int) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # the client gave up before we came to it
        if len(self._connections) >= MAX_CONNECTIONS:
            min(self._connections, key=lambda c: (not c.idle, c.deadline)).close()
        self._connections.add(
            HttpConnection(client, self._selector, self._handle, self._connections.discard)
        )

    def _handle(self, connection: HttpConnection, request: Request) -> None:
        name = request.path[1:]
        if name in PROBES:
            verbose = "verbose" in [part.partition("=")[0] for part in request.query.split("&")]
            passed, text = answer_probe(
                name, self._state(), self._page.heartbeat_age(), verbose=verbose
            )
            connection.answer(200 if passed else 503, text.encode())
        elif name == "metrics":
            self._answer_metrics(connection, request)
        elif name == "":
            connection.answer(200, index(_PATHS).encode())
        else:
            connection.answer(404, f"not found; there are {', '.join(_PATHS)}\n".encode())

    def _answer_metrics(self, connection: HttpConnection, request: Request) -> None:
        metrics = self._state()["metrics"]
        if metrics is None:
            connection.answer(404, b"metrics are off (FLEET_METRICS_ENABLED=false)\n")
        else:
            self._collector.collect(
                metrics,
                lambda body: connection.answer(200, body, content_type=CONTENT_TYPE),
                arrived=request.arrived,
            )

    def _state(self) -> WorkerState:
        state: WorkerState = json.loads(self._page.read())
        return state

    def _ask_worker(self, question: int) -> None:
        self._send_to_worker({"ask": "metrics", "question": question})

    def _report(self, event: str, fields: dict[str, object]) -> None:
        self._send_to_worker({"level": "warning", "event": event, **fields})

    def _send_to_worker(self, message: dict[str, object]) -> None:
        try:
            self._control.send(json.dumps(message).encode() + b"\n")
        except BlockingIOError:
            return  # the worker has not read for long: it misses a log line or a question
        except OSError:
            self._orphaned = True

    def _on_control(self, _mask: int) -> None:
        try:
            chunk = self._control.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._orphaned = True
            return
        self._incoming += chunk
        for question, text in take_answers(self._incoming):
            self._collector.take_answer(question, text)


def main() -> None:
    """Serve with the descriptors given as arguments: listener, control, page."""
    # The worker decides when this ends: until then somebody must say that it is draining.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    listener, control, page = (int(argument) for argument in sys.argv[-3:])
    HealthProcess(
        socket.socket(fileno=listener), socket.socket(fileno=control), SharedPage(page)
    ).run()
