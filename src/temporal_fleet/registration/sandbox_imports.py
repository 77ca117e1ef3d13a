"""What importing a workflow inside the sandbox costs, and why it fails.

The sandbox imports a workflow's module anew for every run, with everything that it imports in turn
and that is not passed through. So what fails or is slow at start fails or is slow in every run.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

SLOW_IMPORT = timedelta(seconds=0.3)
"""A workflow module that takes longer than this to import in the sandbox is named in the log."""
CHEAP_IMPORT = timedelta(seconds=0.01)
"""A module that takes less than this to import is not worth passing through."""

_NAMED = 3


class ImportCosts:
    """Watches which modules are imported, and how long each takes.

    It stands first in ``sys.meta_path``, where it is asked for each module that is not there yet,
    and finds none. The time until the next question counts for the module last asked for.

    Args:
        workflow_module: The module whose imports are watched.

    Attributes:
        duration: How long everything took.
    """

    def __init__(self, workflow_module: str) -> None:
        self._workflow_module = workflow_module
        self._thread = threading.get_ident()
        self._importers: dict[str, str] = {}
        self._asked: list[tuple[float, str]] = []
        self.duration = timedelta(0)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the imports of this block."""
        began = time.perf_counter()
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)
            ended = time.perf_counter()
            self._asked.append((ended, ""))
            self.duration = timedelta(seconds=ended - began)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Note that *name* is about to be imported; leave it to others to find it."""
        if threading.get_ident() == self._thread:
            self._importers.setdefault(name, _importing_module(sys._getframe(1)))  # noqa: SLF001
            self._asked.append((time.perf_counter(), name))

    def heaviest(self) -> list[tuple[str, timedelta]]:
        """Return what to pass through and how long each took, the slowest first.

        At most three, and none that took less than :data:`CHEAP_IMPORT`.
        """
        costs: defaultdict[str, float] = defaultdict(float)
        for (began, name), (ended, _) in zip(self._asked, self._asked[1:], strict=False):
            costs[to_pass_through(self._chain(name), self._workflow_module)] += ended - began
        costs.pop(self._workflow_module, None)
        durations = {name: timedelta(seconds=cost) for name, cost in costs.items()}
        worth_naming = [item for item in durations.items() if item[1] >= CHEAP_IMPORT]
        return sorted(worth_naming, key=lambda item: item[1], reverse=True)[:_NAMED]

    def _chain(self, name: str) -> list[str]:
        chain = [name]
        while (importer := self._importers.get(chain[0], "")) and importer not in chain:
            chain.insert(0, importer)
        return chain


def _importing_module(frame: FrameType | None) -> str:
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return str(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return ""


def to_pass_through(chain: Sequence[str], workflow_module: str) -> str:
    """Return the module of a chain of imports that is best passed through.

    Args:
        chain: Names of modules, each imported by the one before it; not empty.
        workflow_module: The workflow's module.

    Returns:
        The top-level name of the first module outside the workflow's own package; when there is
        none, the last module.
    """
    own = workflow_module.partition(".")[0]
    tops = (module.partition(".")[0] for module in chain)
    return next((top for top in tops if top != own), chain[-1])


def explain_failure(
    error: BaseException, workflow_module: str, workflow_modules: Collection[str]
) -> tuple[str, str]:
    """Say why a workflow's module cannot be imported in the sandbox, and what to do.

    Args:
        error: What the import raised, with its traceback.
        workflow_module: The workflow's module.
        workflow_modules: Modules that define workflows, which must not be passed through.

    Returns:
        Message and cure of a problem.
    """
    chain, place = _where(error)
    failed = chain[-1] if chain else workflow_module
    via = " -> ".join([*chain[:1], "...", chain[-1]] if len(chain) > 4 else chain)
    message = f"importing its module {workflow_module!r} in the workflow sandbox failed"
    if failed != workflow_module:
        message += f" in the module {failed!r} ({via})"
    message += f", at {place}: {type(error).__name__}: {_first_line(error)}"
    module = to_pass_through(chain or [workflow_module], workflow_module)
    if module in workflow_modules:
        return message, (
            "The sandbox imports this module again for every run. Move what cannot be imported twice or "
            f"is not deterministic out of {module!r}: into an activity, or into a module "
            "without workflows that is passed through"
        )
    return message, (
        f"Pass {module!r} through the sandbox when the workflow uses it only deterministically: "
        f"Workload(passthrough_modules=[{module!r}]), or import it under `with "
        "workflow.unsafe.imports_passed_through():`. Otherwise import it in activities alone"
    )


def _where(error: BaseException) -> tuple[list[str], str]:
    """Return the modules that were being imported, outermost first, and where the last one stood."""
    chain: list[str] = []
    place = "an unknown place"
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "<module>" and (name := frame.f_globals.get("__name__")):
            chain.append(str(name))
            place = f"{frame.f_code.co_filename}:{line}"
    return chain, place


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")
