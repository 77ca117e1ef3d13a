"""Collect both halves of ``/metrics`` at once: from the SDK core's endpoint and from the worker.

Neither is waited for longer than :data:`COLLECT_TIMEOUT`; what did not come in time, or came broken,
is served as it was the last time, and marked. Requests that arrive before a collection ends share it.
"""

from __future__ import annotations

import errno
import re
import selectors
import socket
import time

from .exposition import MalformedError, merge, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .exposition import Families
    from .probes import MetricsState

COLLECT_TIMEOUT = 1.0
"""Seconds to wait for metrics; Prometheus waits ten, a worker that holds the GIL takes any time."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,18}) *(?:\r\n|$)", re.IGNORECASE)
_LONGEST_STATUS = 100
_CORE_REQUEST = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"


class MetricsCollector:
    """Collects metrics without blocking the loop that it is part of.

    Args:
        selector: Where the connection to the core is watched.
        ask_worker: Asks the worker for its half, by number; the answer comes through
            :meth:`take_answer`, or is lost.
        report: Takes an event and its fields for the worker's log.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        ask_worker: Callable[[int], None],
        report: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._selector = selector
        self._ask_worker = ask_worker
        self._report = report
        self._last: dict[str, Families] = {"core": {}, "worker": {}}
        self._pending: set[str] = set()
        self._failed: set[str] = set()
        self._question = 0
        self._waiting: list[Callable[[bytes], None]] = []
        self._state: MetricsState | None = None
        self._body = b""
        self._ended = float("-inf")
        self._core: socket.socket | None = None
        self._received = bytearray()
        self.deadline: float | None = None
        """When the running collection ends, on the monotonic clock; None = none runs."""

    def collect(
        self, state: MetricsState, deliver: Callable[[bytes], None], *, arrived: float
    ) -> None:
        """Call *deliver* with the merged exposition, within :data:`COLLECT_TIMEOUT`.

        Args:
            state: How metrics are collected.
            deliver: Takes the exposition.
            arrived: When the request arrived, on the monotonic clock, in seconds. A client that sends many
                requests at once gets one collection for all of them.
        """
        if arrived <= self._ended:
            deliver(self._body)
            return
        self._waiting.append(deliver)
        if self.deadline is not None:
            return
        self.deadline = time.monotonic() + COLLECT_TIMEOUT
        self._state = state
        self._pending = {"worker"}
        self._failed = set()
        self._question += 1
        self._ask_worker(self._question)
        if state["core_port"] is not None:
            self._pending.add("core")
            self._connect_core(state["core_port"])

    def take_answer(self, question: int, text: bytes | None) -> None:
        """Take the worker's half; a late one serves as the last snapshot, and answers nothing else.

        Args:
            question: The number that it was asked by.
            text: Its metrics; None = it could not render them, and has logged why.
        """
        parsed = text is not None and self._keep("worker", text)
        if question == self._question:
            self._settle("worker", failed=not parsed)

    def expire(self, now: float) -> None:
        """End the running collection when its time is over."""
        if self.deadline is None or now < self.deadline:
            return
        for source in sorted(self._pending):
            self._report(
                "metrics did not come in time, the last ones were served",
                {"source": source, "collect_timeout_seconds": COLLECT_TIMEOUT},
            )
        self._failed |= self._pending
        self._finish()

    def _keep(self, source: str, text: bytes) -> bool:
        try:
            self._last[source] = parse(text)
        except MalformedError as error:
            self._report(
                "metrics were malformed, the last ones were served",
                {"source": source, "error": str(error)},
            )
            return False
        return True

    def _settle(self, source: str, *, failed: bool) -> None:
        if source in self._pending:
            self._pending.discard(source)
            if failed:
                self._failed.add(source)
            if not self._pending:
                self._finish()

    def _finish(self) -> None:
        self._close_core()
        stale = {source: source in self._failed for source in self._last}
        assert self._state is not None, "a collection begins with it"
        self._body = merge(self._last["core"], self._last["worker"], self._state, stale).encode()
        self._ended = time.monotonic()
        waiting, self._waiting = self._waiting, []
        self.deadline = None
        self._pending = set()
        for deliver in waiting:
            deliver(self._body)

    def _connect_core(self, port: int) -> None:
        self._received.clear()
        self._core = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._core.setblocking(False)
        code = self._core.connect_ex(("127.0.0.1", port))
        if code in (0, errno.EINPROGRESS):
            self._selector.register(self._core, selectors.EVENT_WRITE, self._on_core)
        else:
            self._lose_core(OSError(code, "connect failed"))

    def _on_core(self, mask: int) -> None:
        if self._core is None:
            return  # closed by an event of the same round
        try:
            if mask & selectors.EVENT_WRITE:
                self._core.sendall(_CORE_REQUEST)
                self._selector.modify(self._core, selectors.EVENT_READ, self._on_core)
            elif chunk := self._core.recv(256 * 1024):
                self._received += chunk
            else:
                self._parse_core_answer()
        except OSError as error:
            self._lose_core(error)

    def _parse_core_answer(self) -> None:
        self._close_core()
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0].decode("latin-1")
        length = _CONTENT_LENGTH.search(head)
        if " 200 " not in f"{status} ":
            self._lose_core(OSError(f"answered {status[:_LONGEST_STATUS] or 'nothing'}"))
        elif length and int(length[1]) != len(body):
            self._lose_core(OSError(f"sent {len(body)} of {int(length[1])} bytes"))
        else:
            self._settle("core", failed=not self._keep("core", body))

    def _lose_core(self, error: OSError) -> None:
        self._close_core()
        self._report("metrics endpoint of the SDK core failed", {"error": str(error)})
        self._settle("core", failed=True)

    def _close_core(self) -> None:
        if self._core is not None:
            core, self._core = self._core, None
            if core in self._selector.get_map():
                self._selector.unregister(core)
            core.close()
