"""Whether this worker is started, alive and ready, and the server that tells it.

:class:`HealthState` holds what is known; anybody may set its checks from any thread.
:class:`HealthServer` publishes it in shared memory for a child process
(:mod:`temporal_fleet.health.process`), which answers probes even while a thread of this process
holds the GIL. Nothing here looks after the server or the pollers itself.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from temporal_fleet.errors import PortInUseError, Problem, SettingsError
from temporal_fleet.health.process.page import SharedPage, create_page_file

if TYPE_CHECKING:
    from temporal_fleet.health.process.probes import Check, MetricsState
    from temporal_fleet.settings import HealthSettings

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = timedelta(seconds=2)
"""How long the child may take to end before it is killed; it needs milliseconds."""
RESTART_DELAY = timedelta(seconds=0.1)
"""Wait before a child that died is replaced; doubled up to :data:`RESTART_DELAY_MAXIMUM`."""
RESTART_DELAY_MAXIMUM = timedelta(seconds=5)
_LONGEST_REASON = 500
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from process.server import main; main()"
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


class Phase(StrEnum):
    """Where in its life a worker is."""

    STARTING = "starting"
    POLLING = "polling"
    DRAINING = "draining"
    STOPPED = "stopped"


class HealthState:
    """What is known about this worker's health; safe in all threads.

    The checks ``temporal`` (the server accepts us) and ``pollers`` (the server sees us poll) exist
    from the beginning and fail until somebody says otherwise, so a worker that forgets to look is
    never ready.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = Phase.STARTING
        self._since = time.monotonic()
        self._started = False
        self._was_ready = False
        self._checks: dict[str, Check] = {
            name: {"ok": False, "reason": "not confirmed yet", "since": self._since}
            for name in ("temporal", "pollers")
        }
        self._publish: Callable[[dict[str, Any]], None] = lambda _document: None

    @property
    def phase(self) -> Phase:
        """The phase this worker is in."""
        return self._phase

    @property
    def started(self) -> bool:
        """Whether pollers were confirmed once; stays true."""
        return self._started

    @property
    def ready(self) -> bool:
        """Whether the worker polls and every check is ok."""
        return self._phase is Phase.POLLING and not self.failures()

    def failures(self) -> dict[str, str]:
        """Return the reasons of the checks that fail, by name."""
        with self._lock:
            return {name: c["reason"] for name, c in self._checks.items() if not c["ok"]}

    def set_phase(self, phase: Phase) -> None:
        """Enter *phase*."""
        with self._lock:
            if phase is not self._phase:
                self._phase, self._since = phase, time.monotonic()
                self._changed()
        self._log_readiness()

    def set_check(self, name: str, ok: bool, reason: str = "") -> None:
        """Say whether the check *name* holds; a name seen for the first time adds a check.

        Args:
            name: ``temporal``, ``pollers``, ``workload:<check>`` or any other.
            ok: Whether it holds.
            reason: Why, shown by ``/readyz``; cut after 500 characters. It is shown to everyone who
                can reach the port, so it must hold no secrets.
        """
        reason = " ".join(reason.split())[:_LONGEST_REASON]
        with self._lock:
            before = self._checks.get(name)
            if before and before["ok"] == ok and before["reason"] == reason:
                return
            unchanged = before is not None and before["ok"] == ok
            since = before["since"] if before and unchanged else time.monotonic()
            self._checks[name] = {"ok": ok, "reason": reason, "since": since}
            self._changed()
        self._log_readiness()

    def publish_to(self, publish: Callable[[dict[str, Any]], None]) -> None:
        """Call *publish* with the state now and whenever it changes, never twice at a time."""
        with self._lock:
            self._publish = publish
            self._changed()

    def _changed(self) -> None:
        if self._phase is Phase.POLLING and self._checks["pollers"]["ok"]:
            self._started = True
        self._publish(
            {
                "phase": self._phase,
                "since": self._since,
                "started": self._started,
                "checks": self._checks,
            }
        )

    def _log_readiness(self) -> None:
        with self._lock:
            failing = {name: c["reason"] for name, c in self._checks.items() if not c["ok"]}
            ready = self._phase is Phase.POLLING and not failing
            if ready == self._was_ready:
                return
            self._was_ready = ready
            polling = self._phase is Phase.POLLING
        if ready:
            log.info("worker is ready")
        elif polling:
            log.warning("worker is not ready", failing=failing)
        else:
            log.info("worker is not ready", phase=str(self._phase))


class HealthServer:
    """Serves ``/startupz``, ``/livez``, ``/readyz`` and ``/metrics`` from a child process.

    The child outlives nothing: it ends when this process does, however that happens. When the child
    dies, a new one takes over the same listening socket, so clients that connect meanwhile only
    wait.

    Attributes:
        port: The port that is listened on; known when the object has been made.
    """

    def __init__(
        self,
        settings: HealthSettings,
        state: HealthState,
        *,
        render_metrics: Callable[[], bytes] | None = None,
        labels: Mapping[str, str] | None = None,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        """Bind the port and start the child; neither is waited for.

        Args:
            settings: Address, port and liveness timeout.
            state: What to serve.
            render_metrics: Returns this process's metrics as Prometheus text; called in a thread of
                the server. None = ``/metrics`` answers 404.
            labels: Labels added to all metrics that *render_metrics* returns; None = none.
            on_restart: Called whenever the child had to be replaced.

        Raises:
            PortInUseError: Another process listens on the port.
            SettingsError: The address is not one of this machine's, or the port may not be used.
        """
        self._render_metrics = render_metrics
        self._on_restart = on_restart
        self._liveness_timeout = settings.liveness_timeout.total_seconds()
        self._metrics: MetricsState | None = (
            {"core_port": None, "labels": dict(labels or {})} if render_metrics else None
        )
        self._listener = _listen(settings)
        self.port: int = self._listener.getsockname()[1]
        self._page_file = create_page_file()
        self._page = SharedPage(self._page_file)
        self.beat = self._page.beat
        """Say that the event loop is alive; cheap enough for every iteration."""
        self.beat()
        self._state = state
        state.publish_to(self._write)
        self._closing = threading.Event()
        self._spawning = threading.Lock()
        self._control, self._process = self._spawn()
        self._watcher = threading.Thread(target=self._watch, name="health-server", daemon=True)
        self._watcher.start()
        log.info("health server listens", address=settings.bind_address, port=self.port)

    @property
    def child_pid(self) -> int:
        """Process ID of the child that serves now."""
        return self._process.pid

    def set_core_metrics_port(self, port: int) -> None:
        """Merge the SDK core's metrics, served on loopback at *port*, into ``/metrics``."""
        if self._metrics is not None:
            self._metrics["core_port"] = port
            self._state.publish_to(self._write)

    def close(self) -> None:
        """Stop serving and end the child; idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        with self._spawning:
            _shut_down(self._control)
        self._watcher.join()
        self._state.publish_to(lambda _document: None)
        self._listener.close()
        os.close(self._page_file)

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the server."""
        self.close()

    def _write(self, document: dict[str, Any]) -> None:
        document["liveness_timeout"] = self._liveness_timeout
        document["metrics"] = self._metrics
        self._page.write(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))

    def _spawn(self) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = (self._listener.fileno(), theirs.fileno(), self._page_file)
            process = subprocess.Popen(
                [
                    sys.executable,
                    *("-I", "-S", "-c", _BOOTSTRAP),
                    str(Path(__file__).parent),
                    *(str(descriptor) for descriptor in descriptors),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=descriptors,
                # No secrets of ours, and no Ctrl-C of the terminal's before it can be ignored.
                env={name: os.environ[name] for name in _LIBRARY_PATHS if name in os.environ},
                start_new_session=True,
            )
        return ours, process

    def _watch(self) -> None:
        delay = RESTART_DELAY
        while True:
            began = time.monotonic()
            self._attend()
            status = self._reap()
            if self._closing.is_set():
                return
            lived = time.monotonic() - began
            if lived > 2 * RESTART_DELAY_MAXIMUM.total_seconds():
                delay = RESTART_DELAY
            log.error("health server died, starting it again", status=status, lived_seconds=lived)
            self._on_restart()
            while not self._respawn(delay):
                delay = min(delay * 2, RESTART_DELAY_MAXIMUM)
            delay = min(delay * 2, RESTART_DELAY_MAXIMUM)

    def _respawn(self, delay: timedelta) -> bool:
        if self._closing.wait(delay.total_seconds()):
            return True
        try:
            with self._spawning:
                if not self._closing.is_set():
                    self._control, self._process = self._spawn()
        except OSError as error:
            log.error("health server could not be started", error=str(error))  # noqa: TRY400 - an errno says it all
            return False
        return True

    def _attend(self) -> None:
        """Answer what the child asks until it is gone."""
        with self._control, self._control.makefile("rb") as messages:
            try:
                for line in messages:
                    self._take(json.loads(line))
            except (OSError, ValueError) as error:
                # The connection broke in the middle of a message.
                log.debug("health server connection ended", error=str(error))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("ask") != "metrics":
            level = log.warning if message.pop("level") == "warning" else log.debug
            level(message.pop("event"), **message)
            return
        assert self._render_metrics is not None, "the child asks only when metrics are on"
        try:
            text = self._render_metrics()
        except Exception:
            # A broken collector of a workload must not take the probes down.
            log.exception("metrics could not be rendered")
            return
        self._control.sendall(len(text).to_bytes(4, sys.byteorder) + text)

    def _reap(self) -> int:
        try:
            return self._process.wait(CLOSE_TIMEOUT.total_seconds())
        except subprocess.TimeoutExpired:
            log.warning(
                "health server did not end, killing it",
                close_timeout_seconds=CLOSE_TIMEOUT.total_seconds(),
            )
            self._process.kill()
            return self._process.wait()


def _listen(settings: HealthSettings) -> socket.socket:
    address, port = settings.bind_address, settings.port
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(target)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"the health server cannot listen on {address}:{port}: another process does. "
                "End that process, set FLEET_HEALTH_PORT to a free port, or to 0 for any free one."
            ) from error
        raise SettingsError([_listen_problem(address, port, error)]) from error
    return listener


def _listen_problem(address: str, port: int, error: OSError) -> Problem:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Problem(
            "FLEET_HEALTH_PORT",
            f"this user may not listen on port {port}",
            cure="Use a port from 1024 on.",
        )
    return Problem(
        "FLEET_HEALTH_BIND_ADDRESS",
        f"cannot listen on {address!r}: {error.strerror or error}",
        cure="Use an address of this machine; 0.0.0.0 means all of them, :: also those of IPv6.",
    )


def _shut_down(control: socket.socket) -> None:
    try:
        control.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        # Closed already, because the child ended just now.
        log.debug("health server connection was closed", error=str(error))
