from __future__ import annotations

from pathlib import Path

import pytest

from temporal_fleet.settings.container import MIB, ContainerLimits, default_processes, read_limits


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write files given by their paths below a directory that stands for ``/``."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V2_POD = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
}

V1_POD = {
    "proc/self/cgroup": "4:memory:/\n1:cpu,cpuacct:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}

READINGS = {
    "v2-both-limited": (
        V2_POD
        | {
            "sys/fs/cgroup/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/memory.max": "1073741824\n",
        },
        ContainerLimits(2.0, 1024 * MIB, "cgroup v2"),
    ),
    "v2-max-is-unlimited": (
        V2_POD | {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"},
        ContainerLimits(None, None, "cgroup v2"),
    ),
    "v2-root-group-without-files": (V2_POD, ContainerLimits(None, None, "cgroup v2")),
    "v2-strictest-of-own-group-and-those-above": (
        V2_POD
        | {
            "proc/self/cgroup": "0::/kubepods/pod1/worker\n",
            "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
            "sys/fs/cgroup/kubepods/memory.max": "max\n",
            "sys/fs/cgroup/kubepods/pod1/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/kubepods/pod1/memory.max": "268435456\n",
            "sys/fs/cgroup/kubepods/pod1/worker/cpu.max": "max 100000\n",
            "sys/fs/cgroup/kubepods/pod1/worker/memory.max": "536870912\n",
        },
        ContainerLimits(0.5, 256 * MIB, "cgroup v2"),
    ),
    "v2-host-path-that-is-not-mounted": (
        V2_POD
        | {
            "proc/self/cgroup": "0::/kubepods.slice/elsewhere\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
        ContainerLimits(1.0, None, "cgroup v2"),
    ),
    "v2-path-that-leads-upwards": (
        V2_POD
        | {
            "proc/self/cgroup": "0::/../../other\n",
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
        ContainerLimits(1.0, None, "cgroup v2"),
    ),
    "v2-path-with-colon": (
        V2_POD
        | {
            "proc/self/cgroup": "0::/cri-containerd:abc\n",
            "sys/fs/cgroup/cri-containerd:abc/cpu.max": "300000 100000\n",
        },
        ContainerLimits(3.0, None, "cgroup v2"),
    ),
    "v1-both-limited": (V1_POD, ContainerLimits(1.5, 512 * MIB, "cgroup v1")),
    "v1-no-quota-and-largest-memory-are-unlimited": (
        V1_POD
        | {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
        ContainerLimits(None, None, "cgroup v1"),
    ),
    "v1-controllers-mounted-together": (
        {
            "proc/self/cgroup": "4:memory:/\n1:cpu,cpuacct:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        ContainerLimits(4.0, 512 * MIB, "cgroup v1"),
    ),
    "v1-own-group-below-the-mount": (
        V1_POD
        | {
            "proc/self/cgroup": "4:memory:/docker/abc\n1:cpu:/\n0::/\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "134217728\n",
        },
        ContainerLimits(1.5, 128 * MIB, "cgroup v1"),
    ),
    "hybrid-with-an-empty-v2-hierarchy": (
        V1_POD | {"sys/fs/cgroup/unified/cgroup.controllers": ""},
        ContainerLimits(1.5, 512 * MIB, "cgroup v1"),
    ),
    "no-control-groups": ({}, ContainerLimits(None, None, "no cgroup")),
}


@pytest.mark.parametrize(("files", "limits"), READINGS.values(), ids=READINGS.keys())
def test_read_limits_of_a_control_group_tree_finds_the_strictest(
    tmp_path: Path, files: dict[str, str], limits: ContainerLimits
) -> None:
    """The strictest CPU and memory limits of the own group and those above it count."""
    root = write_tree(tmp_path, files)

    assert read_limits(root) == limits


def test_read_limits_of_this_machine_succeeds() -> None:
    """Whatever this machine is, its limits can be read and are positive."""
    limits = read_limits()

    assert limits.cpu is None or limits.cpu > 0
    assert limits.memory_bytes is None or limits.memory_bytes > 0


DERIVATIONS = [
    (ContainerLimits(2.0, None, "cgroup v2"), 16, 2, "cgroup v2 cpu.max = 2.0 CPUs"),
    (ContainerLimits(1.0, None, "cgroup v1"), 16, 1, "cgroup v1 cpu.cfs_quota_us = 1.0 CPUs"),
    (ContainerLimits(0.2, None, "cgroup v2"), 16, 1, "cgroup v2 cpu.max = 0.2 CPUs"),
    (ContainerLimits(2.5, None, "cgroup v2"), 16, 3, "cgroup v2 cpu.max = 2.5 CPUs"),
    (ContainerLimits(8.0, None, "cgroup v2"), 2, 2, "2 CPUs of the machine, no lower limit"),
    (ContainerLimits(None, None, "cgroup v2"), 64, 4, "64 CPUs of the machine, no lower limit"),
    (ContainerLimits(None, None, "no cgroup"), 1, 1, "1 CPUs of the machine, no lower limit"),
    (ContainerLimits(8.0, 512 * MIB, "cgroup v2"), 16, 2, "cgroup v2 memory.max = 512 MiB"),
    (
        ContainerLimits(8.0, 100 * MIB, "cgroup v1"),
        16,
        1,
        "cgroup v1 memory.limit_in_bytes = 100 MiB",
    ),
]


@pytest.mark.parametrize(("limits", "available", "processes", "reason"), DERIVATIONS)
def test_default_processes_of_limits_follow_cpu_and_memory(
    limits: ContainerLimits, available: int, processes: int, reason: str
) -> None:
    """One process for each CPU that the container may use, as far as its memory allows."""
    derived = default_processes(limits, available)

    assert (derived.value, derived.reason) == (processes, reason)
