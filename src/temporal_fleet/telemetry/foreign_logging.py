"""Takes logging back from a workload that configures it for itself.

Many services set up logging when they are imported, with ``logging.config``, ``basicConfig`` or
``structlog.configure``. In a worker the lines would then have two forms, or go to standard output, or be lost.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import structlog

from temporal_fleet.telemetry.logs import Configuration, configuration

log = structlog.get_logger(__name__)

_told: set[str] = set()


def take_logging_back(imported: str) -> None:
    """Put the configuration of this process in force again where code of a workload replaced it.

    Handlers that write to standard output or standard error are removed, from all loggers: every line comes to
    ours. Other handlers stay, and so do the levels of named loggers. One warning for each module tells what was
    replaced. Without a configuration of ours nothing happens.

    Args:
        imported: Module that was just imported, which is blamed unless a more exact one is known.
    """
    ours = configuration()
    if ours is None:
        return
    replaced = [*_root_taken_back(ours), *_structlog_taken_back(ours), *_loggers_taken_back(ours)]
    if not replaced:
        return
    ours.apply()
    module, ours.handler.closed_by = ours.handler.closed_by or imported, ""
    if module not in _told:
        _told.add(module)
        log.warning(
            "a module of the workload configured logging; the worker's own configuration is in force again. "
            "FLEET_LOG_FORMAT and FLEET_LOG_LEVEL set format and level; configure logging only where "
            "the code runs without a worker",
            module=module,
            replaced=replaced,
        )


def _root_taken_back(ours: Configuration) -> Iterator[str]:
    root = logging.getLogger()
    foreign = [each for each in root.handlers if each is not ours.handler and _is_shown(each)]
    for handler in foreign:
        root.removeHandler(handler)
    if foreign or ours.handler not in root.handlers:
        root.addHandler(ours.handler)
        yield "handlers of the root logger"
    if root.level != ours.level:
        yield "level of the root logger"


def _structlog_taken_back(ours: Configuration) -> Iterator[str]:
    if structlog.get_config()["processors"] != [ours.handler.render_event]:
        yield "structlog"


def _loggers_taken_back(ours: Configuration) -> Iterator[str]:
    # Who replaces all handlers also switches off the loggers that are there, unless he says otherwise.
    was_closed = bool(ours.handler.closed_by)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if not isinstance(logger, logging.Logger):
            continue
        if was_closed:
            logger.disabled = False
        foreign = [handler for handler in logger.handlers if _is_shown(handler)]
        for handler in foreign:
            logger.removeHandler(handler)
        if foreign:
            logger.propagate = True
            yield f"handlers of the logger {name}"


def _is_shown(handler: logging.Handler) -> bool:
    """Tell whether a handler writes to standard output or standard error; rich's has a console."""
    stream = getattr(handler, "stream", None) or getattr(
        getattr(handler, "console", None), "file", None
    )
    return stream is not None and stream in {
        sys.stdout,
        sys.stderr,
        sys.__stdout__,
        sys.__stderr__,
    }
