"""Memory and processors that control groups leave to a container, a service or a job, of either version."""

import pytest

from molar_retrieval.workspace.resources import core_limits, memory_limits, memory_of_machine

GB = 1 << 30


def written(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "proc", tmp_path / "groups"


MACHINE = {"proc/meminfo": f"MemTotal: {24 * GB // 1024} kB\nMemAvailable: {20 * GB // 1024} kB\n"}


def test_a_service_of_systemd_below_a_slice(tmp_path):
    proc, groups = written(
        tmp_path,
        MACHINE
        | {
            "proc/self/cgroup": "0::/system.slice/molar.service\n",
            "groups/system.slice/memory.max": f"{16 * GB}\n",
            "groups/system.slice/memory.current": f"{15 * GB}\n",
            "groups/system.slice/molar.service/memory.max": f"{8 * GB}\n",
            "groups/system.slice/molar.service/memory.current": f"{6 * GB}\n",
            "groups/system.slice/molar.service/memory.stat": f"anon {GB}\ninactive_file {4 * GB}\n",
            "groups/system.slice/molar.service/cpu.max": "150000 100000\n",
            "groups/system.slice/cpu.max": "max 100000\n",
        },
    )
    assert memory_limits(proc, groups) == [(8 * GB, 2 * GB), (16 * GB, 15 * GB)]
    assert memory_of_machine(proc, groups) == (
        8 * GB,
        GB,
    )  # what the slice has free
    assert core_limits(proc, groups) == [1.5]


def test_a_job_under_version_1(tmp_path):
    proc, groups = written(
        tmp_path,
        MACHINE
        | {
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job/step\n1:name=systemd:/other\n0::/\n",
            "groups/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "groups/memory/memory.usage_in_bytes": f"{18 * GB}\n",
            "groups/memory/job/step/memory.limit_in_bytes": f"{8 * GB}\n",
            "groups/memory/job/step/memory.usage_in_bytes": f"{3 * GB}\n",
            "groups/memory/job/step/memory.stat": f"total_inactive_file {GB}\n",
            "groups/cpu/job/cpu.cfs_quota_us": "50000\n",
            "groups/cpu/job/cpu.cfs_period_us": "100000\n",
            "groups/cpu/cpu.cfs_quota_us": "-1\n",
            "groups/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert memory_of_machine(proc, groups) == (8 * GB, 6 * GB)
    assert core_limits(proc, groups) == [0.5]


@pytest.mark.parametrize("path", ["/docker/0123", "/../other", ""])
def test_a_container_whose_own_group_is_the_root(tmp_path, path):
    """The kernel may name a path that only the host sees."""
    files = {"groups/memory.max": f"{2 * GB}\n", "groups/memory.current": f"{GB}\n"}
    proc, groups = written(tmp_path, MACHINE | files | {"proc/self/cgroup": f"0::{path}\n"})
    assert memory_of_machine(proc, groups) == (2 * GB, GB)


def test_without_limits_it_is_the_machines(tmp_path):
    files = {"groups/memory.max": "max\n", "groups/cpu.max": "max 100000\n"}
    proc, groups = written(tmp_path, MACHINE | files)
    assert memory_of_machine(proc, groups) == (24 * GB, 20 * GB)
    assert core_limits(proc, groups) == []
