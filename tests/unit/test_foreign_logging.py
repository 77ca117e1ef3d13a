"""What becomes of a worker's log when code of a workload configures logging for itself."""

from __future__ import annotations

from logging_process import lines_of

TAKEN_BACK = """
import logging.config
from temporal_fleet.telemetry.foreign_logging import take_logging_back

{code}
take_logging_back("shop.workload")
std.info("by logging")
logging.getLogger("shop").info("by a named logger")
log.info("by structlog")
logging.getLogger().info("by the root")
"""
EVENTS = ["by logging", "by a named logger", "by structlog", "by the root"]


def test_logging_taken_by_any_means_is_taken_back_with_one_warning() -> None:
    """Whatever a module configures, every later line has our form, once, and one line tells of it."""
    for code, replaced in {
        "logging.basicConfig(force=True, level='DEBUG')": [
            "handlers of the root logger",
            "level of the root logger",
        ],
        "logging.getLogger().addHandler(logging.StreamHandler())": ["handlers of the root logger"],
        "structlog.configure(processors=[structlog.dev.ConsoleRenderer()])": ["structlog"],
        "structlog.configure(logger_factory=structlog.PrintLoggerFactory(), processors=[])": [
            "structlog"
        ],
        "logging.getLogger('shop').addHandler(logging.StreamHandler(sys.stdout))": [
            "handlers of the logger shop"
        ],
        """logging.config.dictConfig({
            "version": 1,
            "handlers": {"h": {"class": "logging.StreamHandler"}},
            "loggers": {"shop": {"handlers": ["h"], "propagate": False}},
            "root": {"handlers": ["h"], "level": "INFO"},
        })""": ["handlers of the root logger", "handlers of the logger shop"],
    }.items():
        told, *lines = lines_of(TAKEN_BACK.format(code=code))

        assert told["level"] == "warning"
        assert told["event"].startswith("a module of the workload configured logging")
        assert told["replaced"] == replaced
        assert [line["event"] for line in lines] == EVENTS


def test_module_that_replaced_all_handlers_is_named() -> None:
    """The warning names the module that configured logging, not the one that imported it."""
    told, *_ = lines_of(TAKEN_BACK.format(code="logging.basicConfig(force=True)"))

    assert told["module"] == "__main__"


def test_what_does_not_write_to_the_terminal_is_left_alone() -> None:
    """Handlers for other targets and levels of named loggers stay, without a warning."""
    lines = lines_of("""
        import io
        from temporal_fleet.telemetry.foreign_logging import take_logging_back

        elsewhere = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(elsewhere)
        std.setLevel("ERROR")
        take_logging_back("shop.workload")
        std.warning("not shown")
        assert elsewhere in logging.getLogger().handlers
        assert std.level == logging.ERROR
    """)

    assert lines == []


def test_module_that_is_imported_again_is_told_once() -> None:
    """The sandbox imports a workflow's module for every run: one warning is enough for all."""
    lines = lines_of("""
        from temporal_fleet.telemetry.foreign_logging import take_logging_back

        for _ in range(3):
            logging.basicConfig(force=True)
            take_logging_back("shop.workflows")
    """)

    assert len(lines) == 1
