"""The server that tells whether this worker is started, alive and ready.

:class:`HealthServer` publishes a :class:`~temporal_fleet.health.state.HealthState` in shared memory for a
child process (:mod:`temporal_fleet.health.process`), which answers probes even while a thread of this
process holds the GIL.
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
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from temporal_fleet.errors import PortInUseError, Problem, SettingsError
from temporal_fleet.health.process.page import SharedPage, create_page_file
from temporal_fleet.health.rendering import MetricsRenderer
from temporal_fleet.telemetry.metrics.families import METRICS_STALE, WORKFLOW_OUTCOMES

if TYPE_CHECKING:
    from temporal_fleet.health.process.probes import MetricsState
    from temporal_fleet.health.state import HealthState
    from temporal_fleet.settings import HealthSettings

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = timedelta(seconds=2)
"""How long the child may take to end before it is killed; it needs milliseconds."""
RESTART_DELAY = timedelta(seconds=0.1)
"""Wait before a child that died is replaced; doubled up to :data:`RESTART_DELAY_MAXIMUM`."""
RESTART_DELAY_MAXIMUM = timedelta(seconds=5)
_BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from process.server import main; main()"
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


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
                its own, in which it may take any time. None = ``/metrics`` answers 404.
            labels: Labels added to all metrics that *render_metrics* returns; None = none.
            on_restart: Called whenever the child had to be replaced.

        Raises:
            PortInUseError: Another process listens on the port.
            SettingsError: The address is not one of this machine's, or the port may not be used.
        """
        self._on_restart = on_restart
        self._liveness_timeout = settings.liveness_timeout.total_seconds()
        self._metrics = _metrics_state(labels or {}) if render_metrics else None
        self._listener = _listen(settings)
        self.port: int = self._listener.getsockname()[1]
        self._page_file = create_page_file()
        self._page = SharedPage(self._page_file)
        self.beat = self._page.beat
        """Say that the event loop is alive; cheap enough for every iteration."""
        self.beat()
        self._state = state
        state.publish_to(self._write)
        self._renderer = MetricsRenderer(render_metrics) if render_metrics else None
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
        if self._renderer:
            self._renderer.close()
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
        assert self._renderer is not None, "the child asks only when metrics are on"
        self._renderer.ask(self._control, message["question"])

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


def _metrics_state(labels: Mapping[str, str]) -> MetricsState:
    return {
        "core_port": None,
        "labels": dict(labels),
        "outcomes": (WORKFLOW_OUTCOMES.name, WORKFLOW_OUTCOMES.help),
        "staleness": (METRICS_STALE.name, METRICS_STALE.help),
    }


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
