"""CPU and memory limits of the container this process runs in.

Python sees the machine, not the container: ``os.cpu_count()`` of a pod limited to one CPU on a
node with 64 is 64. The limits are read from the control groups, version 2 and version 1. Nothing
here decides what to do with them beyond the one default that ``settings`` derives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

LimitT = TypeVar("LimitT", int, float)

MIB = 1024 * 1024

MEMORY_PER_PROCESS = 256 * MIB
"""Memory to allow for one process that has imported a workload, temporalio and pydantic."""

PROCESSES_WITHOUT_LIMIT = 4
"""Most processes by default when the container has no CPU limit: it shares a node of unknown
size."""

# Version 1 writes "no limit" as the largest multiple of the page size of the machine.
_V1_UNLIMITED = 2**62


@dataclass(frozen=True)
class ContainerLimits:
    """What the container may use.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (``cpu.max``, ``memory.max``) and
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """

    cpu: float | None = None
    """CPUs, such as 1.5; None = no limit."""
    memory_bytes: int | None = None
    """Bytes of memory; None = no limit."""
    source: str = "no cgroup"
    """``cgroup v2``, ``cgroup v1``, or ``no cgroup`` where there is none (macOS)."""

    @property
    def cpu_source(self) -> str:
        """What sets the CPU limit, such as ``cgroup v2 cpu.max``."""
        return f"{self.source} {'cpu.max' if self.source == 'cgroup v2' else 'cpu.cfs_quota_us'}"

    @property
    def memory_source(self) -> str:
        """What sets the memory limit, such as ``cgroup v2 memory.max``."""
        name = "memory.max" if self.source == "cgroup v2" else "memory.limit_in_bytes"
        return f"{self.source} {name}"


@dataclass(frozen=True)
class DerivedDefault:
    """A default that depends on the container."""

    value: int
    """The default."""
    reason: str
    """What it was derived from, such as ``cgroup v2 cpu.max = 2.0 CPUs``."""


def read_limits(root: Path = Path("/")) -> ContainerLimits:
    """Read the limits of the control group of this process and of all groups above it.

    Args:
        root: Directory that holds ``proc`` and ``sys``; another than ``/`` only in tests.

    Returns:
        The strictest limits found; without limits where there are no control groups.

    Raises:
        OSError: A limit exists, but cannot be read.
    """
    mount = root / "sys/fs/cgroup"
    groups = _own_groups(root / "proc/self/cgroup")
    if (mount / "cgroup.controllers").exists():
        levels = list(_levels(mount, groups.get("", "/")))
        return ContainerLimits(
            cpu=_strictest(levels, _v2_cpu),
            memory_bytes=_strictest(levels, _v2_memory),
            source="cgroup v2",
        )
    if (mount / "memory").is_dir():
        cpu_mount = mount / "cpu"
        if not cpu_mount.is_dir():
            cpu_mount = mount / "cpu,cpuacct"
        return ContainerLimits(
            cpu=_strictest(_levels(cpu_mount, groups.get("cpu", "/")), _v1_cpu),
            memory_bytes=_strictest(
                _levels(mount / "memory", groups.get("memory", "/")), _v1_memory
            ),
            source="cgroup v1",
        )
    return ContainerLimits()


def default_processes(limits: ContainerLimits, available: int | None = None) -> DerivedDefault:
    """Derive how many processes to use for CPU-bound activities.

    Args:
        limits: Limits of the container.
        available: CPUs that this process may be scheduled on; None = ask the system.

    Returns:
        The CPU limit, rounded, at least 1; fewer where memory does not allow one process per CPU.
    """
    if available is None:
        available = _available_cpus()
    if limits.cpu is not None and limits.cpu < available:
        processes = max(1, int(limits.cpu + 0.5))
        reason = f"{limits.cpu_source} = {limits.cpu} CPUs"
    else:
        most = available if limits.cpu is not None else PROCESSES_WITHOUT_LIMIT
        processes = max(1, min(available, most))
        reason = f"{available} CPUs of the machine, no lower limit"
    if limits.memory_bytes is not None and limits.memory_bytes < processes * MEMORY_PER_PROCESS:
        processes = max(1, limits.memory_bytes // MEMORY_PER_PROCESS)
        reason = f"{limits.memory_source} = {limits.memory_bytes // MIB} MiB"
    return DerivedDefault(processes, reason)


def _available_cpus() -> int:
    # taskset and cpusets restrict the affinity, not the number of CPUs; macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _own_groups(file: Path) -> dict[str, str]:
    """Return the path of the own group by controller; version 2 has the controller ``""``."""
    groups: dict[str, str] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _levels(mount: Path, own: str) -> Iterator[Path]:
    """Yield the directories of the own group and those above it, as far as they can be seen.

    Inside a container the path may be the host's (no cgroup namespace) or lead upwards
    (``/../..``): then only the mounted directory is ours to read, and it is the container's own
    group.
    """
    parts = [part for part in own.split("/") if part]
    if ".." in parts:
        parts = []
    for depth in range(len(parts), -1, -1):
        directory = mount.joinpath(*parts[:depth])
        if directory.is_dir():
            yield directory


def _strictest(levels: Iterable[Path], read: Callable[[Path], LimitT | None]) -> LimitT | None:
    return min((limit for level in levels if (limit := read(level)) is not None), default=None)


def _words(file: Path) -> list[str]:
    # The root group has no limit files.
    return file.read_text().split() if file.exists() else []


def _v2_cpu(group: Path) -> float | None:
    words = _words(group / "cpu.max")
    if not words or words[0] == "max":
        return None
    period = int(words[1]) if len(words) > 1 else 100_000
    return int(words[0]) / period


def _v2_memory(group: Path) -> int | None:
    words = _words(group / "memory.max")
    return None if not words or words[0] == "max" else int(words[0])


def _v1_cpu(group: Path) -> float | None:
    quota, period = _words(group / "cpu.cfs_quota_us"), _words(group / "cpu.cfs_period_us")
    if not quota or not period or int(quota[0]) <= 0:
        return None
    return int(quota[0]) / int(period[0])


def _v1_memory(group: Path) -> int | None:
    words = _words(group / "memory.limit_in_bytes")
    return None if not words or int(words[0]) >= _V1_UNLIMITED else int(words[0])
