"""The process behind the health port: its HTTP, and how it merges metrics."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import os
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

import hypothesis
import pytest
from health_client import WORKER_METRICS, Answer, all_ok, settings, wait_until
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typing_extensions import override

from temporal_fleet.health.process.collection import COLLECT_TIMEOUT, MetricsCollector
from temporal_fleet.health.process.http_connection import BadRequestError, parse_request
from temporal_fleet.health.server import HealthServer
from temporal_fleet.health.state import HealthState

if TYPE_CHECKING:
    from temporal_fleet.health.process.probes import MetricsState

CORE_METRICS = b"""# HELP temporal_workflow_completed_total Count of completed workflows
# TYPE temporal_workflow_completed_total counter
temporal_workflow_completed_total{build_id="b1",namespace="default",workflow_type="Order"} 7
# HELP temporal_workflow_failed_total Count of failed workflows
# TYPE temporal_workflow_failed_total counter
temporal_workflow_failed_total{build_id="b1",namespace="default",workflow_type="Order"} 2
# HELP temporal_latency_seconds temporal_latency_seconds
# TYPE temporal_latency_seconds histogram
temporal_latency_seconds_bucket{build_id="b1",le="0.1"} 1
temporal_latency_seconds_bucket{build_id="b1",le="+Inf"} 1
temporal_latency_seconds_sum{build_id="b1"} 0.05
temporal_latency_seconds_count{build_id="b1"} 1
"""
LABELS = {"deployment": "orders", "build_id": "b1"}
METRICS_STATE: MetricsState = {
    "core_port": None,
    "labels": {},
    "outcomes": ("fleet_outcomes_total", "Outcomes."),
    "staleness": ("fleet_metrics_stale", "Staleness."),
}


@pytest.fixture
def state() -> HealthState:
    """A worker's state at its very beginning."""
    return HealthState()


@pytest.fixture
def server(state: HealthState) -> Iterator[HealthServer]:
    """A server of that state, with metrics."""
    with HealthServer(
        settings(), state, render_metrics=lambda: WORKER_METRICS, labels=LABELS
    ) as server:
        yield server


@pytest.fixture
def core_port() -> Iterator[int]:
    """An endpoint that stands where the SDK core's is."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CORE_METRICS)

        @override
        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as endpoint:
        thread = threading.Thread(target=endpoint.serve_forever)
        thread.start()
        yield endpoint.server_port
        endpoint.shutdown()
        thread.join()


def test_metrics_of_core_and_worker_are_one_response(server: HealthServer, core_port: int) -> None:
    """Both halves are served together, ours labelled with deployment and build ID."""
    server.set_core_metrics_port(core_port)

    answer = Answer(server.port, "/metrics")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    types = [line for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == 7
    lines = answer.text.splitlines()
    assert 'fleet_plain{deployment="orders",build_id="b1"} 2.0' in lines
    assert 'fleet_things_total{deployment="orders",build_id="b1",kind="a, b"} 3.0' in lines
    assert 'fleet_things_total{deployment="orders",kind="own",build_id="mine"} 1.0' in lines
    stale = 'fleet_metrics_stale{deployment="orders",build_id="b1",source="core"} 0'
    assert stale in lines


def test_workflow_outcomes_are_derived_from_core_counters(
    server: HealthServer, core_port: int
) -> None:
    """One metric counts workflow runs by outcome, with the labels of the core's counters."""
    server.set_core_metrics_port(core_port)

    samples = Answer(server.port, "/metrics").samples

    outcomes = {k: v for k, v in samples.items() if k.startswith("fleet_workflow_outcomes")}
    common = '"build_id": "b1", "namespace": "default"'
    assert outcomes == {
        f'fleet_workflow_outcomes_total{{{common}, "outcome": "{outcome}", '
        f'"workflow_type": "Order"}}': value
        for outcome, value in {"completed": 7.0, "failed": 2.0}.items()
    }


def test_metrics_are_compressed_when_accepted(server: HealthServer, core_port: int) -> None:
    """Gzip is used for clients that accept it, and only for them."""
    server.set_core_metrics_port(core_port)
    plain = Answer(server.port, "/metrics")

    packed = Answer(server.port, "/metrics", **{"Accept-Encoding": "deflate, gzip;q=0.5"})
    refused = Answer(server.port, "/metrics", **{"Accept-Encoding": "gzip;q=0"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert refused.headers["Content-Encoding"] is None


def test_metrics_without_core_endpoint_are_marked_stale(server: HealthServer) -> None:
    """A dead core endpoint costs its half only; the metric says so and the log too."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    server.set_core_metrics_port(port)
    with capture_logs() as lines:
        answer = Answer(server.port, "/metrics")

        wait_until(lambda: bool(lines))
    assert answer.seconds < 1
    assert 'source="core"} 1' in answer.text
    assert 'source="worker"} 0' in answer.text
    assert lines[0]["event"] == "metrics endpoint of the SDK core failed"


BROKEN_ANSWERS = {
    "not UTF-8": b'HTTP/1.0 200 OK\r\n\r\nx{a="\xff"} 1\n',
    "cut in a line": b"HTTP/1.0 200 OK\r\n\r\nx{a=",
    "cut between lines": b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nx 1\n",
    "no metrics": b"HTTP/1.0 200 OK\r\n\r\n<html>\n",
    "error": b"HTTP/1.0 500 Internal Server Error\r\n\r\nx 2\n",
    "nothing": b"",
    "noise": b"\xff\r\n\r\n\xff",
}


@pytest.mark.parametrize("broken", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_broken_answer_of_core_leaves_the_last_metrics(server: HealthServer, broken: bytes) -> None:
    """A source that answers with anything but metrics is stale; probes and the process go on."""
    answers = [b"HTTP/1.0 200 OK\r\n\r\nx 1\n", broken]
    with socket.create_server(("127.0.0.1", 0)) as core:

        def serve() -> None:
            for answer in answers:
                client, _ = core.accept()
                with client:
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        server.set_core_metrics_port(core.getsockname()[1])
        child = server.child_pid
        Answer(server.port, "/metrics")
        samples = Answer(server.port, "/metrics").samples
        thread.join()

    assert samples["x{}"] == 1
    assert [value for name, value in samples.items() if '"source": "core"' in name] == [1]
    assert (Answer(server.port, "/livez").status, server.child_pid) == (200, child)


@pytest.mark.parametrize("broken", [b"\xff\n", b"x 2", b"x\n"])
def test_broken_metrics_of_worker_leave_the_last_ones(state: HealthState, broken: bytes) -> None:
    """A collector that yields no exposition costs the worker's half; the log says what was wrong."""
    texts = iter([b"x 1\n", broken])
    with (
        capture_logs() as lines,
        HealthServer(settings(), state, render_metrics=lambda: next(texts)) as server,
    ):
        Answer(server.port, "/metrics")
        samples = Answer(server.port, "/metrics").samples
        wait_until(lambda: any(line["log_level"] == "warning" for line in lines))

    assert samples["x{}"] == 1
    assert samples['fleet_metrics_stale{"source": "worker"}'] == 1
    assert "metrics were malformed, the last ones were served" in [line["event"] for line in lines]


def test_metrics_of_worker_that_is_late_are_the_last_ones(state: HealthState) -> None:
    """A worker that does not answer within a second gets its last metrics served, marked."""
    release = threading.Event()
    calls: list[int] = []

    def render() -> bytes:
        calls.append(1)
        if len(calls) == 2:
            release.wait()
        return f"# TYPE fleet_calls gauge\nfleet_calls {len(calls)}\n".encode()

    with HealthServer(settings(), state, render_metrics=render) as server:
        first = Answer(server.port, "/metrics").samples
        with capture_logs() as lines:
            late = Answer(server.port, "/metrics")
            release.set()
            wait_until(lambda: bool(lines))
        third = Answer(server.port, "/metrics").samples

    assert first["fleet_calls{}"] == 1
    assert 1 <= late.seconds < 2
    assert late.samples["fleet_calls{}"] == 1
    assert late.samples['fleet_metrics_stale{"source": "worker"}'] == 1
    assert third["fleet_calls{}"] == 3
    assert third['fleet_metrics_stale{"source": "worker"}'] == 0
    assert lines[0]["collect_timeout_seconds"] == 1.0


def test_metrics_that_hang_leave_the_server_in_order(state: HealthState) -> None:
    """While a collector of a workload hangs, a server that dies is replaced, and closing waits for nothing."""
    release, hanging = threading.Event(), threading.Event()

    def render() -> bytes:
        hanging.set()
        release.wait()
        return WORKER_METRICS

    all_ok(state)
    try:
        with HealthServer(settings(), state, render_metrics=render) as server:
            stale = Answer(server.port, "/metrics")
            assert hanging.wait(10)
            first = server.child_pid
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: server.child_pid != first)
            ready = Answer(server.port, "/readyz")
            after = Answer(server.port, "/metrics")
        assert not release.is_set()
    finally:
        release.set()

    assert ready.status == 200
    for answer in (stale, after):
        assert answer.samples['fleet_metrics_stale{"source": "worker"}'] == 1


def test_metrics_that_cannot_be_rendered_leave_probes_alive(state: HealthState) -> None:
    """A collector of a workload that fails once is logged, costs one scrape, and delays nobody."""
    calls: list[int] = []

    def render() -> bytes:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("broken collector")
        return WORKER_METRICS

    with capture_logs() as lines, HealthServer(settings(), state, render_metrics=render) as server:
        answer = Answer(server.port, "/metrics")
        assert Answer(server.port, "/livez").status == 200
        after = Answer(server.port, "/metrics")

    assert 'source="worker"} 1' in answer.text
    assert answer.seconds < COLLECT_TIMEOUT
    assert 'source="worker"} 0' in after.text
    assert "metrics could not be rendered" in [line["event"] for line in lines]


def test_question_that_was_lost_is_asked_again() -> None:
    """A worker that never got the question is asked again at the next scrape."""
    asked: list[int] = []
    bodies: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        collector = MetricsCollector(selector, asked.append, lambda _event, _fields: None)
        collector.collect(METRICS_STATE, bodies.append, arrived=time.monotonic())
        collector.expire(time.monotonic() + COLLECT_TIMEOUT)

        collector.collect(METRICS_STATE, bodies.append, arrived=time.monotonic())
        collector.take_answer(asked[-1], b"x 1\n")

    lost, answered = bodies
    assert b'fleet_metrics_stale{source="worker"} 1' in lost
    assert b'fleet_metrics_stale{source="worker"} 0' in answered
    assert b"x 1\n" in answered


def test_late_answer_is_not_taken_for_that_to_the_next_question() -> None:
    """What was rendered for an earlier scrape is served as old, never as fresh."""
    asked: list[int] = []
    bodies: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        collector = MetricsCollector(selector, asked.append, lambda _event, _fields: None)
        for _ in range(2):
            collector.collect(METRICS_STATE, bodies.append, arrived=time.monotonic())
            if len(asked) == 2:
                collector.take_answer(asked[0], b"x 1\n")
            collector.expire(time.monotonic() + COLLECT_TIMEOUT)

    assert b"x 1\n" in bodies[1]
    assert b'fleet_metrics_stale{source="worker"} 1' in bodies[1]


def test_metrics_turned_off_are_not_found(state: HealthState) -> None:
    """Without metrics the path does not exist, and the answer names the setting."""
    with HealthServer(settings(), state) as server:
        answer = Answer(server.port, "/metrics")

    assert answer.status == 404
    assert "FLEET_METRICS_ENABLED=false" in answer.text


def test_concurrent_scrapes_share_one_collection(state: HealthState) -> None:
    """Twenty clients at once make the worker render its metrics a few times, not twenty."""
    rendered: list[int] = []

    def render() -> bytes:
        rendered.append(1)
        time.sleep(0.2)
        return WORKER_METRICS

    with HealthServer(settings(), state, render_metrics=render) as server:
        answers: list[Answer] = []
        threads = [
            threading.Thread(target=lambda: answers.append(Answer(server.port, "/metrics")))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [answer.status for answer in answers] == [200] * 20
    assert len(rendered) <= 4


def test_pipelined_scrapes_share_one_collection(state: HealthState) -> None:
    """Requests that a client sends at once make the worker render its metrics once, later ones again."""
    rendered: list[int] = []

    def render() -> bytes:
        rendered.append(1)
        return WORKER_METRICS

    requests = b"GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n" * 50
    last = b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n"
    with HealthServer(settings(), state, render_metrics=render) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(requests + last)
            answers = client.makefile("rb").read()
        at_once = len(rendered)
        Answer(server.port, "/metrics")

    assert answers.count(b"HTTP/1.1 200 OK") == 51
    assert at_once == 1
    assert len(rendered) == 2


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    {
        "index": (b"GET / HTTP/1.1\r\n\r\n", b"200 OK"),
        "unknown path": (b"GET /admin HTTP/1.1\r\n\r\n", b"404 Not Found"),
        "other method": (b"POST /livez HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        "body": (b"GET /livez HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", b"400 Bad Request"),
        "garbage": (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        "bad header": (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400 Bad Request"),
        "other protocol": (b"GET / HTTP/2.0\r\n\r\n", b"505 HTTP Version Not Supported"),
        "large head": (
            b"GET / HTTP/1.1\r\nA: " + b"x" * 9000,
            b"431 Request Header Fields Too Large",
        ),
    }.values(),
)
def test_request_gets_the_status_it_deserves(
    server: HealthServer, request_bytes: bytes, status: bytes
) -> None:
    """What the server does not understand is refused with the status that says why."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request_bytes)
        client.settimeout(5)

        assert client.recv(4096).startswith(b"HTTP/1.1 " + status + b"\r\n")


def test_head_request_gets_the_headers_only(server: HealthServer) -> None:
    """HEAD answers as GET does, without the body."""
    answer = Answer(server.port, "/livez", "HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == "3"


def test_pipelined_requests_are_answered_in_order(server: HealthServer) -> None:
    """Many requests sent at once get as many answers, in their order."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\n\r\n" * 500)
        client.sendall(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = client.makefile("rb").read()

    assert answers.count(b"HTTP/1.1 200 OK") == 500
    assert answers.rindex(b"HTTP/1.1 404") > answers.rindex(b"HTTP/1.1 200")


def test_slow_clients_leave_room_for_probes(server: HealthServer) -> None:
    """More clients than are allowed, none of which finishes its request, delay no probe."""
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(300)]
    try:
        for client in clients:
            client.send(b"GET /livez HTT")
        answers = [Answer(server.port, "/livez") for _ in range(10)]
    finally:
        for client in clients:
            client.close()

    assert [answer.status for answer in answers] == [200] * 10
    assert median(answer.seconds for answer in answers) < 0.1


def test_flood_of_clients_that_hang_up_leaves_room_for_probes(server: HealthServer) -> None:
    """A thousand connections that are reset, with and without a request, end and delay nothing."""
    child = server.child_pid
    for number in range(1_000):
        client = socket.create_connection(("127.0.0.1", server.port))
        # Resets the connection instead of closing it in order.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 2:
            client.send(b"GET /readyz HTTP/1.1\r\n\r\n")
        client.close()

    assert Answer(server.port, "/livez").status == 200
    assert server.child_pid == child


def test_request_in_single_bytes_is_answered(server: HealthServer) -> None:
    """A request that arrives byte by byte is the same request."""
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n":
            client.send(bytes([byte]))
        answer = client.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")


@hypothesis.settings(derandomize=True, deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(),
        st.lists(st.one_of(st.just(b"GET / HTTP/1.1"), st.binary())).map(b"\r\n".join),
    )
)
@example(b"GET /livez HTTP/1.1\r\nContent-Length: \xb2")
@example(b"GET ? HTTP/1.1\r\nAccept-Encoding: ;;,;q\r\nConnection: \xff")
def test_request_of_any_bytes_is_understood_or_refused(head: bytes) -> None:
    """Nothing that a client sends ends the process: it is a request, or gets a status."""
    with contextlib.suppress(BadRequestError):
        request = parse_request(head, 0.0)
        assert request.method in {"GET", "HEAD"}
