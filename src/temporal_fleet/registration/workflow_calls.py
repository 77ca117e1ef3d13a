"""Which activities and child workflows a workflow calls, as far as its source tells.

A workflow that calls a type which nobody registers waits until a timeout, which may be days, so
the worker looks before it polls. Only what is certain counts: a name that is a parameter, is
assigned in the function or is reached through an object is not known, and a call that may go to
another task queue is left out.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import FunctionType, ModuleType
from typing import Any, Literal

import temporalio.workflow

from temporal_fleet.registration.definitions import activity_definition, called_workflow

_FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
_NAMING = _FunctionNode | ast.ClassDef | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
_UNKNOWN = object()


@dataclass(frozen=True)
class TypeCall:
    """A call that needs an activity or workflow type on the task queue of the workflow."""

    kind: Literal["activity", "workflow"]
    type_name: str | None
    """The type that is called; None when the callee has no ``@activity.defn`` or
    ``@workflow.defn``."""
    callee: str
    """The callee as it is written in the source."""
    operation: str
    """The SDK's function that is called, e.g. ``execute_activity``."""
    local: bool
    """Whether it is a local activity, which only the worker of the workflow can serve."""
    location: str
    """``file:line`` of the call."""


@dataclass(frozen=True)
class _Operation:
    name: str
    kind: Literal["activity", "workflow"]
    local: bool
    """Local activities run in the worker of the workflow, whatever its task queue."""

    @property
    def parameter(self) -> str:
        """Name of the parameter that takes the callee."""
        return self.kind


def _operations() -> dict[Callable[..., Any], _Operation]:
    names: dict[str, _Operation] = {}
    for verb in ("start", "execute"):
        for suffix in ("", "_class", "_method"):
            for local in (False, True):
                name = f"{verb}_{'local_' if local else ''}activity{suffix}"
                names[name] = _Operation(name, "activity", local)
        name = f"{verb}_child_workflow"
        names[name] = _Operation(name, "workflow", local=False)
    return {getattr(temporalio.workflow, name): operation for name, operation in names.items()}


_OPERATIONS = _operations()


def calls_of(workflow: type, task_queue: str) -> list[TypeCall]:
    """Return what a workflow certainly calls on its own task queue.

    Read are the methods of the class and of its base classes, and the functions of the same package
    that these call by name. A class without readable source calls nothing.

    Args:
        workflow: Class with ``@workflow.defn``.
        task_queue: The task queue that its worker serves.
    """
    reader = _Reader(package=workflow.__module__.partition(".")[0], task_queue=task_queue)
    return sorted(set(reader.read_class(workflow)), key=lambda call: call.location)


@dataclass(frozen=True)
class _Scope:
    """Where the names of one function lead."""

    namespace: Mapping[str, object]
    filename: str
    bound: frozenset[str]
    """Names that the function binds itself: what they hold is not known."""
    owner: type | None = None
    instance: str | None = None
    """Name of the first parameter of a method, through which class attributes are reached."""
    assigned: frozenset[str] = frozenset()
    """Attributes that some method assigns, so that the class does not tell what they hold."""

    def value(self, node: ast.expr) -> object:
        """Return what an expression certainly evaluates to, or _UNKNOWN; runs no user code."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return _UNKNOWN if node.id in self.bound else self.namespace.get(node.id, _UNKNOWN)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        return _UNKNOWN

    def _attribute(self, node: ast.Attribute) -> object:
        if isinstance(node.value, ast.Name) and node.value.id == self.instance and self.owner:
            known = node.attr not in self.assigned
            return _class_attribute(self.owner, node.attr) if known else _UNKNOWN
        base = self.value(node.value)
        # Attributes of other objects may be computed, or be set while the workflow runs.
        if isinstance(base, ModuleType | type | Enum):
            return getattr(base, node.attr, _UNKNOWN)
        return _UNKNOWN


def _class_attribute(owner: type, name: str) -> object:
    value = inspect.getattr_static(owner, name, _UNKNOWN)
    # Other objects may be shadowed by an attribute of the instance or be descriptors.
    return value if isinstance(value, str | FunctionType | type) else _UNKNOWN


class _Reader:
    """Reads one workflow; every function once."""

    def __init__(self, package: str, task_queue: str) -> None:
        self._package = package
        self._task_queue = task_queue
        self._trees: dict[str, ast.Module | None] = {}
        self._methods: set[int] = set()
        self._seen: set[int] = set()

    def read_class(self, workflow: type) -> Iterator[TypeCall]:
        assigned: set[str] = set()
        methods: dict[str, tuple[type, _FunctionNode]] = {}
        for cls in workflow.__mro__:
            node = self._find(cls.__module__, cls.__qualname__)
            if not isinstance(node, ast.ClassDef):
                continue
            for child in node.body:
                if isinstance(child, _FunctionNode):
                    methods.setdefault(child.name, (cls, child))
                    assigned |= _assigned_attributes(child)
        self._methods = {id(method) for _, method in methods.values()}
        for cls, method in methods.values():
            parameters = [*method.args.posonlyargs, *method.args.args]
            scope = _Scope(
                namespace=vars(sys.modules[cls.__module__]),
                filename=_filename(cls.__module__),
                bound=_bound_names(method),
                owner=workflow,
                instance=parameters[0].arg if parameters else None,
                assigned=frozenset(assigned),
            )
            yield from self._read(method, scope)

    def _read(self, function: _FunctionNode, scope: _Scope) -> Iterator[TypeCall]:
        # Nodes live as long as the trees they belong to, so their ids are theirs.
        if id(function) in self._seen:
            return
        self._seen.add(id(function))
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            callee = scope.value(node.func)
            if not isinstance(callee, FunctionType):
                continue
            operation = _OPERATIONS.get(callee)
            if operation is not None:
                yield from self._read_operation(node, operation, scope)
            elif callee.__module__.partition(".")[0] == self._package:
                yield from self._read_function(callee)

    def _read_function(self, function: FunctionType) -> Iterator[TypeCall]:
        node = self._find(function.__module__, function.__qualname__)
        # A method of the workflow is read in its own turn, with what its class knows.
        if isinstance(node, _FunctionNode) and id(node) not in self._methods:
            scope = _Scope(
                namespace=function.__globals__,
                filename=_filename(function.__module__),
                bound=_bound_names(node),
            )
            yield from self._read(node, scope)

    def _read_operation(
        self, node: ast.Call, operation: _Operation, scope: _Scope
    ) -> Iterator[TypeCall]:
        argument = _argument(node, operation.parameter)
        if argument is None or not (operation.local or self._stays_here(node, scope)):
            return
        target = scope.value(argument)
        if isinstance(target, str):
            # The value itself: an enum's str() would show its class and member name.
            type_name: str | None = str.__str__(target)
        elif isinstance(target, FunctionType | type):
            read = activity_definition if operation.kind == "activity" else called_workflow
            definition = read(target)
            if definition is not None and definition.type_name is None:
                return
            type_name = definition.type_name if definition else None
        else:
            return
        yield TypeCall(
            kind=operation.kind,
            type_name=type_name,
            callee=ast.unparse(argument),
            operation=operation.name,
            local=operation.local,
            location=f"{scope.filename}:{node.lineno}",
        )

    def _stays_here(self, node: ast.Call, scope: _Scope) -> bool:
        """Tell whether a call certainly goes to the task queue of the workflow itself."""
        for keyword in node.keywords:
            if keyword.arg is None:
                options = scope.value(keyword.value)
                if not isinstance(options, Mapping):
                    return False
                if options.get("task_queue") not in (None, self._task_queue):
                    return False
            elif keyword.arg == "task_queue" and not self._is_here(keyword.value, scope):
                return False
        return True

    def _is_here(self, node: ast.expr, scope: _Scope) -> bool:
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "task_queue"
            and isinstance(node.value, ast.Call)
        ):
            return scope.value(node.value.func) is temporalio.workflow.info
        return scope.value(node) in (None, self._task_queue)

    def _find(self, module: str, qualified_name: str) -> ast.AST | None:
        """Return the class or function of that name in a module's source, or None."""
        if module not in self._trees:
            self._trees[module] = _parse(module)
        node: ast.AST | None = self._trees[module]
        for name in qualified_name.split("."):
            body: list[ast.AST] = getattr(node, "body", [])
            named = (child for child in body if getattr(child, "name", None) == name)
            # The last one of several definitions is the one that counts at run time.
            node = next(iter(reversed(list(named))), None)
        return node


def _filename(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or f"<{module}>"


def _parse(module: str) -> ast.Module | None:
    lines = linecache.getlines(_filename(module))
    try:
        return ast.parse("".join(lines)) if lines else None
    except SyntaxError:
        # The file was changed after it was imported: what runs is not what can be read.
        return None


def _argument(node: ast.Call, parameter: str) -> ast.expr | None:
    if node.args:
        return None if isinstance(node.args[0], ast.Starred) else node.args[0]
    return next((word.value for word in node.keywords if word.arg == parameter), None)


def _assigned_attributes(function: _FunctionNode) -> frozenset[str]:
    return frozenset(
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    )


def _bound_names(function: _FunctionNode) -> frozenset[str]:
    """Return every name that a function or one inside it binds: rather too many than too few."""
    names: set[str | None] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, _NAMING) and node is not function:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest)
    return frozenset(name for name in names if name)
