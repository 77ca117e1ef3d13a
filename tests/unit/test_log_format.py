"""What log lines look like, in a process whose logging is configured for real."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog
from logging_process import PROLOGUE, lines_of, stderr_of
from typing_extensions import override

from temporal_fleet.log_context import activity_ids
from temporal_fleet.telemetry.line_formats import render_json
from temporal_fleet.telemetry.logs import LineHandler


class Pipe:
    """A handler that writes into a pipe, and its other end."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.handler = LineHandler(self.writer, render_json, {"workload": "orders"})

    def log(self, message: object, *args: object, **attributes: object) -> None:
        """Send a record of stdlib logging to the handler."""
        record = logging.LogRecord("lib.y", logging.INFO, "f.py", 1, message, args, None)
        record.__dict__.update(attributes)
        self.handler.handle(record)

    def read(self) -> list[dict[str, Any]]:
        """Return the lines written so far."""
        return [json.loads(line) for line in os.read(self.reader, 1 << 20).splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A handler and the pipe it writes to."""
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def test_json_lines_of_both_libraries_have_the_same_fields() -> None:
    """Structlog and stdlib logging give the same line, with time, level, logger and worker."""
    first, second = lines_of("""
        structlog.contextvars.bind_contextvars(activity_id="7")
        log.info("charged %s", "card", amount=3)
        std.warning("charged %s", "card", extra={"amount": 3})
    """)

    stamp = datetime.fromisoformat(first.pop("timestamp"))
    assert abs(datetime.now(UTC) - stamp) < timedelta(minutes=1)
    assert second.pop("timestamp").endswith("Z")
    common = {
        "event": "charged card",
        "workload": "orders",
        "deployment": "orders-eu",
        "build_id": "b1",
        "activity_id": "7",
        "amount": 3,
    }
    assert first == {**common, "level": "info", "logger": "fleet.x"}
    assert second == {**common, "level": "warning", "logger": "lib.y"}


def test_line_without_build_id_says_unversioned() -> None:
    """A worker without a build ID says so, with the word that its metrics use."""
    assert lines_of("log.info('x')", build_id=None)[0]["build_id"] == "__unversioned__"


def test_lines_below_the_level_are_not_written() -> None:
    """The level holds for both libraries."""
    lines = lines_of(
        "log.info('a'); std.info('b'); log.warning('c'); std.error('d')", level="WARNING"
    )

    assert [line["event"] for line in lines] == ["c", "d"]


def test_debug_level_keeps_payloads_of_the_sdk_out() -> None:
    """Debugging shows our lines and the workload's, never the SDK's dumps of activations."""
    lines = lines_of(
        """
        log.debug("ours")
        logging.getLogger("temporalio.workflow").debug("the workload's")
        logging.getLogger("temporalio.worker._workflow").debug("Received workflow activation")
        """,
        level="DEBUG",
    )

    assert [line["event"] for line in lines] == ["ours", "the workload's"]


def test_exceptions_are_one_string_field() -> None:
    """A traceback is part of its line, however it was logged."""
    lines = lines_of("""
        try:
            1 / 0
        except ZeroDivisionError as error:
            log.exception("a")
            std.exception("b")
            log.error("c", exc_info=error)
    """)

    assert [(line["level"], line["event"]) for line in lines] == [
        ("error", "a"),
        ("error", "b"),
        ("error", "c"),
    ]
    for line in lines:
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ZeroDivisionError: division by zero")
        assert "exc_info" not in line


def test_stack_info_is_one_string_field_without_our_frames() -> None:
    """A stack that was asked for ends where the line was logged."""
    lines = lines_of("""
        def here():
            log.info("a", stack_info=True)
            std.info("b", stack_info=True)
        here()
    """)

    for line in lines:
        assert line["stack"].startswith("Stack (most recent call last):\n")
        *_, place, source = line["stack"].splitlines()
        # Lines of a script given by -c are known from Python 3.13 on.
        last = source if " in " in source else place
        assert last.strip().endswith("in here")


def test_python_warnings_become_lines() -> None:
    """Warnings are logged like everything else."""
    (line,) = lines_of("warnings.warn('careful', UserWarning)")

    assert line["logger"] == "py.warnings"
    assert "UserWarning: careful" in line["event"]


def test_console_format_is_for_people() -> None:
    """The console shows time of day, level, event and fields, without what never changes."""
    text = stderr_of("log.info('charged', amount=3)", format="console")

    assert "[info     ] charged" in text
    assert "amount=3" in text
    assert "build_id" not in text
    assert "\x1b" not in text


def test_auto_format_without_terminal_is_json() -> None:
    """Containers get JSON without asking for it."""
    assert lines_of("log.info('x')", format="auto")[0]["event"] == "x"


def test_configuring_again_replaces_the_first() -> None:
    """No line is written twice."""
    lines = lines_of("""
        configure_logging(LogSettings(format="json"), workload="w2", deployment="d", build_id="b")
        std.info("once")
        structlog.get_logger("new").info("once")
    """)

    assert [(line["event"], line["workload"]) for line in lines] == [("once", "w2")] * 2


def test_importing_log_format_does_not_import_rich() -> None:
    """Structlog's pretty tracebacks, which are never used, do not cost start-up time."""
    code = "import temporal_fleet.telemetry.logs, sys; sys.exit('rich' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_broken_standard_error_does_not_end_the_process() -> None:
    """A log collector that goes away costs lines, not the worker."""
    code = PROLOGUE.format(format="json", level="INFO", build_id="b1") + textwrap.dedent("""
        for _ in range(1000):
            log.info("x" * 1000)
            std.info("y" * 1000)
        print("survived")
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr
        assert process.stdout
        process.stderr.close()

        assert process.stdout.read() == b"survived\n"
    assert process.returncode == 0


def test_blocked_reader_costs_lines_and_is_told_how_many(pipe: Pipe) -> None:
    """Lines that nobody reads are dropped after a second's wait in all, and counted afterwards."""
    done = threading.Event()

    def write() -> None:
        for number in range(300):
            pipe.log("x" * 1000, number=number)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(5)

    kept = os.read(pipe.reader, 1 << 20)
    pipe.log("after")
    told, last = pipe.read()

    assert kept.count(b"\n") < 300
    assert told["event"] == "log lines were dropped: standard error was blocked"
    assert told["dropped"] >= 300 - kept.count(b"\n") - 1
    assert told["write_timeout_seconds"] == 1
    assert last["event"] == "after"


def test_temporal_context_is_flattened(pipe: Pipe) -> None:
    """The SDK's context dictionaries become fields, with one name for the run ID."""
    pipe.log("w", temporal_workflow={"workflow_id": "o-1", "run_id": "r1", "attempt": 1})
    pipe.log("a", temporal_activity={"workflow_id": "o-1", "workflow_run_id": "r1"})
    first, second = pipe.read()

    assert (first["workflow_id"], first["workflow_run_id"], first["attempt"]) == ("o-1", "r1", 1)
    assert (second["workflow_id"], second["workflow_run_id"]) == ("o-1", "r1")
    assert not {"run_id", "temporal_workflow", "temporal_activity"} & {*first, *second}


def test_bound_context_is_merged_below_the_records_own(pipe: Pipe) -> None:
    """What a line says itself wins over what was bound around it."""
    with structlog.contextvars.bound_contextvars(attempt=1, order="o-1"):
        pipe.log("x", order="o-2")
    (line,) = pipe.read()

    assert (line["attempt"], line["order"]) == (1, "o-2")


def test_ids_of_the_activity_are_never_replaced(pipe: Pipe) -> None:
    """What a workload binds, clears or adds stands beside the IDs of its activity."""
    token = activity_ids.set({"workflow_id": "o-1", "attempt": 1})
    with structlog.contextvars.bound_contextvars(attempt=9):
        pipe.log("x", workflow_id="o-2")
        structlog.contextvars.clear_contextvars()
        pipe.log("y", temporal_activity={"attempt": 1, "workflow_run_id": "r1"}, workflow_run_id=2)
    activity_ids.reset(token)
    first, second = pipe.read()

    assert (first["workflow_id"], first["extra_workflow_id"]) == ("o-1", "o-2")
    assert (first["attempt"], first["extra_attempt"]) == (1, 9)
    assert (second["workflow_id"], second["attempt"]) == ("o-1", 1)
    assert (second["workflow_run_id"], second["extra_workflow_run_id"]) == ("r1", 2)


def test_arguments_that_do_not_fit_are_shown(pipe: Pipe) -> None:
    """A wrong format string loses nothing and raises nothing."""
    pipe.log("%d orders", "many")

    assert pipe.read()[0]["event"].startswith("%d orders ('many',) (arguments do not fit: ")


def test_message_that_cannot_be_shown_is_reported(pipe: Pipe) -> None:
    """Even an object whose text raises leaves a line behind."""

    class Broken:
        @override
        def __str__(self) -> str:
            raise ValueError("no text")

    pipe.log(Broken())
    pipe.log("x", value=Broken())
    lost, shown = pipe.read()

    assert (lost["event"], lost["error"]) == ("log line lost", "no text")
    assert shown["value"] == "<Broken cannot be shown: ValueError('no text')>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (timedelta(seconds=1.5), 1.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"a": {1}}, {"a": [1]}),
        ({(1, 2): "tuple key"}, "{(1, 2): 'tuple key'}"),
        (float("nan"), "nan"),
        (b"\xff", "b'\\xff'"),
        ("line\nbreak \u2028 \ud800", "line\nbreak \u2028 \ud800"),
    ],
)
def test_json_shows_any_value(value: object, shown: object) -> None:
    """Every value has a form in JSON, and a line is one line."""
    text = render_json({"event": "x", "value": value})

    assert "\n" not in text
    assert json.loads(text)["value"] == shown


def test_json_with_circle_is_text() -> None:
    """A structure that contains itself does not end the process."""
    circle: list[object] = []
    circle.append(circle)

    assert json.loads(render_json({"value": circle}))["value"] == "[[...]]"


@pytest.mark.parametrize("format", ["json", "console"])
def test_fields_named_like_ours_are_written_beside_them(format: str) -> None:
    """Who logs a `level` or `timestamp` of his own keeps both, and the line keeps its meaning."""
    text = stderr_of(
        """
        structlog.contextvars.bind_contextvars(workload="mine")
        std.warning("refused", extra={"timestamp": 17, "level": 3, "event": "else", "build_id": "x"})
        log.warning("refused", timestamp=17, level=3, logger="else", build_id="x")
        """,
        format=format,
    )
    assert "lost" not in text
    if format == "json":
        for line in map(json.loads, text.splitlines()):
            assert (line["level"], line["event"]) == ("warning", "refused")
            assert (line["build_id"], line["workload"]) == ("b1", "orders")
            assert (line["extra_timestamp"], line["extra_level"]) == (17, 3)
            assert (line["extra_build_id"], line["extra_workload"]) == ("x", "mine")
