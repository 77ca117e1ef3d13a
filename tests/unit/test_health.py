"""The health server, with real child processes, real signals and a real GIL that is held."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import psutil
import pytest
from health_client import WORKER_METRICS, Answer, all_ok, settings, wait_until
from structlog.testing import capture_logs

from temporal_fleet.errors import PortInUseError, SettingsError
from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState, Phase

WORKER = """
import ctypes, os, sys, threading
from datetime import timedelta
import structlog
from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState, Phase
from temporal_fleet.settings import HealthSettings

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
state = HealthState()
settings = HealthSettings(
    bind_address="127.0.0.1", port=0, liveness_timeout=timedelta(seconds=1.0)
)
text = b"# HELP fleet_x X.\\n# TYPE fleet_x gauge\\nfleet_x 1\\n"
server = HealthServer(settings, state, render_metrics=lambda: text)
state.set_phase(Phase.POLLING)
state.set_check("temporal", True)
state.set_check("pollers", True)

def beat():
    while True:
        server.beat()
        threading.Event().wait(0.05)

threading.Thread(target=beat, daemon=True).start()
os.write(1, f"{server.port} {server.child_pid}\\n".encode())
for line in sys.stdin:
    if line == "hold the GIL\\n":
        os.write(1, b"holding\\n")
        ctypes.PyDLL(None).usleep(3_000_000)
        os.write(1, b"released\\n")
"""


@pytest.fixture
def state() -> HealthState:
    """A worker's state at its very beginning."""
    return HealthState()


@pytest.fixture
def server(state: HealthState) -> Iterator[HealthServer]:
    """A server of that state, with metrics."""
    with HealthServer(settings(), state, render_metrics=lambda: WORKER_METRICS) as server:
        yield server


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A worker process of its own, for what cannot be done to the test's process."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()


def announced(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Return the port and the child's process ID that the worker printed."""
    assert process.stdout
    port, child = process.stdout.readline().split()
    return int(port), int(child)


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; init may take its time to collect an orphan."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_state_with_all_checks_ok_is_ready_only_while_polling(state: HealthState) -> None:
    """A worker is ready when it polls and every check holds, and at no other time."""
    state.set_check("temporal", True)
    state.set_check("pollers", True)
    assert not state.ready

    state.set_phase(Phase.POLLING)
    assert state.ready

    state.set_check("workload:ledger", False, "no connection")
    assert not state.ready
    assert state.failures() == {"workload:ledger": "no connection"}

    state.set_check("workload:ledger", True)
    state.set_phase(Phase.DRAINING)
    assert not state.ready


def test_state_once_started_stays_started(state: HealthState) -> None:
    """A start-up probe that has passed never fails again, whatever happens to the pollers."""
    all_ok(state)
    state.set_check("pollers", False, "none seen")

    assert state.started


def test_state_readiness_change_is_logged_once(state: HealthState) -> None:
    """The log says when readiness is gained and lost, and which check took it."""
    with capture_logs() as lines:
        all_ok(state)
        state.set_check("pollers", True, "3 pollers")
        state.set_check("temporal", False, "API key refused")

    assert [line["event"] for line in lines] == ["worker is ready", "worker is not ready"]
    assert lines[1]["failing"] == {"temporal": "API key refused"}


def test_probes_before_pollers_are_confirmed_fail_with_reasons(server: HealthServer) -> None:
    """A worker that has just begun is alive, but neither started nor ready, and says why."""
    assert Answer(server.port, "/livez").status == 200
    assert Answer(server.port, "/startupz").status == 503
    ready = Answer(server.port, "/readyz")

    assert ready.status == 503
    assert "[-]worker failed: starting for " in ready.text
    assert "[-]pollers failed: not confirmed yet (for " in ready.text


def test_probes_of_ready_worker_pass(server: HealthServer, state: HealthState) -> None:
    """All three probes pass as soon as the last check holds."""
    all_ok(state)

    answers = [Answer(server.port, f"/{name}") for name in ("startupz", "livez", "readyz")]

    assert [(a.status, a.text) for a in answers] == [(200, "ok\n")] * 3


def test_readyz_verbose_lists_every_check(server: HealthServer, state: HealthState) -> None:
    """``/readyz?verbose`` shows each check with its result, reason and age."""
    all_ok(state)
    state.set_check("workload:ledger", False, "no\nconnection")

    lines = Answer(server.port, "/readyz?verbose").text.splitlines()

    assert lines[0].startswith("[+]event-loop ok: heartbeat 0.")
    assert lines[1].startswith("[+]worker ok: polling for 0.")
    assert lines[2].startswith("[+]temporal ok: for 0.")
    assert lines[3].startswith("[+]pollers ok: 2 pollers (for 0.")
    assert lines[4].startswith("[-]workload:ledger failed: no connection (for 0.")
    assert lines[5:] == ["readyz check failed"]


def test_readyz_of_draining_worker_fails_while_livez_passes(
    server: HealthServer, state: HealthState
) -> None:
    """A draining worker gets no traffic, and is not restarted for it."""
    all_ok(state)
    state.set_phase(Phase.DRAINING)

    ready = Answer(server.port, "/readyz")

    assert ready.status == 503
    assert "[-]worker failed: draining for " in ready.text
    assert Answer(server.port, "/livez").status == 200
    assert Answer(server.port, "/startupz").status == 200


def test_livez_without_heartbeats_fails_after_the_limit(state: HealthState) -> None:
    """Liveness is the age of the last heartbeat, and the answer names both age and limit."""
    with HealthServer(settings(liveness_timeout=timedelta(seconds=1.5)), state) as server:
        assert Answer(server.port, "/livez").status == 200
        wait_until(lambda: Answer(server.port, "/livez").status == 503)
        assert "s old, limit 1.5 s" in Answer(server.port, "/livez").text
        assert "[-]event-loop failed" in Answer(server.port, "/readyz").text

        server.beat()
        assert Answer(server.port, "/livez").status == 200


def test_probes_while_the_gil_is_held_answer_within_100_ms(
    worker: subprocess.Popen[str],
) -> None:
    """Code that holds the GIL delays no probe; liveness fails once the heartbeat is too old."""
    assert worker.stdin
    assert worker.stdout
    port, _ = announced(worker)
    assert Answer(port, "/metrics").status == 200
    worker.stdin.write("hold the GIL\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "holding\n"

    early = [Answer(port, path) for path in ("/livez", "/readyz", "/livez", "/readyz")]
    metrics = Answer(port, "/metrics")
    wait_until(lambda: Answer(port, "/livez").status == 503, timeout=2)
    late = [Answer(port, "/livez") for _ in range(5)]

    assert [answer.status for answer in early] == [200] * 4
    assert [answer.status for answer in late] == [503] * 5
    assert median(answer.seconds for answer in early + late) < 0.1
    assert metrics.samples['fleet_metrics_stale{"source": "worker"}'] == 1
    assert metrics.samples["fleet_x{}"] == 1
    assert worker.stdout.readline() == "released\n"
    wait_until(lambda: Answer(port, "/livez").status == 200)
    assert Answer(port, "/metrics").samples['fleet_metrics_stale{"source": "worker"}'] == 0


def test_livez_of_stopped_process_fails_until_it_continues(
    worker: subprocess.Popen[str],
) -> None:
    """A worker that is stopped (SIGSTOP, a frozen cgroup) is reported as not alive."""
    port, _ = announced(worker)
    worker.send_signal(signal.SIGSTOP)
    wait_until(lambda: Answer(port, "/livez").status == 503)

    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: Answer(port, "/livez").status == 200)


def test_child_of_killed_worker_ends_at_once(worker: subprocess.Popen[str]) -> None:
    """Nobody answers for a worker that was killed, and its port is free again."""
    port, child = announced(worker)
    worker.kill()
    worker.wait()

    wait_until(lambda: has_ended(child), timeout=2)

    with socket.create_server(("127.0.0.1", port)):
        pass


def test_killed_child_is_replaced_on_the_same_port(state: HealthState) -> None:
    """The death of the server's process costs clients a moment; it is logged and counted."""
    restarts: list[bool] = []
    all_ok(state)
    with (
        capture_logs() as lines,
        HealthServer(settings(), state, on_restart=lambda: restarts.append(True)) as server,
    ):
        first = server.child_pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: server.child_pid != first)

        assert Answer(server.port, "/readyz").status == 200
    assert restarts == [True]
    died = [line for line in lines if line["event"].startswith("health server died")]
    assert [(line["log_level"], line["status"]) for line in died] == [("error", -9)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_child_ignores_the_signals_that_end_a_worker(
    server: HealthServer, number: signal.Signals
) -> None:
    """Signals sent to the whole group leave the child answering while the worker drains."""
    assert Answer(server.port, "/livez").status == 200
    child = server.child_pid

    os.kill(child, number)

    assert Answer(server.port, "/livez").status == 200
    assert server.child_pid == child


def test_close_ends_the_child_and_frees_the_port(state: HealthState) -> None:
    """After close() no process and no port is left, and the state can still be set."""
    server = HealthServer(settings(), state)
    port, child = server.port, server.child_pid
    server.close()
    server.close()

    assert not psutil.pid_exists(child)
    with socket.create_server(("127.0.0.1", port)):
        state.set_phase(Phase.STOPPED)
        server.beat()


def test_server_on_taken_port_names_port_setting_and_cure(state: HealthState) -> None:
    """A port in use is an error that says which one, and what to set."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            HealthServer(settings(port=port), state)

    assert str(caught.value) == (
        f"the health server cannot listen on 127.0.0.1:{port}: another process does. "
        "End that process, set FLEET_HEALTH_PORT to a free port, or to 0 for any free one."
    )


def test_server_on_foreign_address_is_a_settings_error(state: HealthState) -> None:
    """An address that this machine does not have is named with its setting."""
    with pytest.raises(SettingsError, match=r"FLEET_HEALTH_BIND_ADDRESS: .*'192\.0\.2\.1'"):
        HealthServer(settings(bind_address="192.0.2.1"), state)


def test_server_on_ipv6_address_answers(state: HealthState) -> None:
    """An IPv6 address works like any other."""
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
        pytest.skip("this machine has no IPv6")
    with (
        HealthServer(settings(bind_address="::1"), state) as server,
        socket.create_connection(("::1", server.port)) as client,
    ):
        client.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().startswith(b"HTTP/1.1 200 OK\r\n")


def test_child_is_small_idle_and_knows_no_secrets(
    state: HealthState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child takes at most 15 MB and no CPU time while nobody asks, and has no environment."""
    monkeypatch.setenv("TEMPORAL_API_KEY", "secret")
    with HealthServer(settings(), state, render_metrics=lambda: WORKER_METRICS) as server:
        assert Answer(server.port, "/metrics").status == 200
        child = psutil.Process(server.child_pid)
        before = child.cpu_times()
        time.sleep(1.0)

        assert child.cpu_times()[:2] == before[:2]
        assert child.memory_info().rss <= 15 * 2**20
        assert "TEMPORAL_API_KEY" not in child.environ()


def test_start_costs_the_worker_little(state: HealthState) -> None:
    """Starting the server takes the worker a few milliseconds; the child starts beside it."""
    seconds: list[float] = []
    for _ in range(5):
        began = time.thread_time()
        server = HealthServer(settings(), state)
        seconds.append(time.thread_time() - began)
        server.close()

    assert median(seconds) < 0.02
