"""The machine: processor, memory, threads, GPU."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molar.doctor.findings import Entry, Section, State
from molar.doctor.software import torch_build

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LITTLE_MEMORY = 2 << 30
GIB = float(1 << 30)


def machine(deep: bool, *, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Section:
    """What it has.

    Args:
        deep: Ask PyTorch what it sees, too.
        proc: The kernel's files.
        groups: The limits of a container.
    """
    entries = [Entry("system", f"{platform.system()} {platform.release()} ({platform.machine()})")]
    entries += [_processor(proc), _cores(groups), _memory(proc, groups), *_threads(groups), *_gpus()]
    if deep:
        entries += _seen_by_torch()
    return Section("machine", "Machine", tuple(entries))


def _processor(proc: Path) -> Entry:
    text = _read(proc / "cpuinfo")
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    facts = {key.strip().lower(): value.strip() for key, value in fields.items()}
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    known = [name for name in _FEATURES if name in flags]
    name = facts.get("model name") or platform.processor() or platform.machine()
    value = f"{name} ({', '.join(known) or 'features unknown'})"
    data = {"name": name, "features": known}
    if flags and platform.machine() in {"x86_64", "AMD64"} and "avx2" not in flags:
        problem = "the processor has no AVX2; libraries are slow on it, or do not start"
        return Entry("processor", value, State.WARNING, problem, "use a processor made after 2013", data)
    return Entry("processor", value, data=data)


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> float:
    """How many cores this process may use: those it is bound to, or a container's share of them."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(groups / "cpu.max").partition(" ")
    return min(bound, int(quota) / int(period)) if quota.isdigit() and period.strip().isdigit() else bound


def _cores(groups: Path) -> Entry:
    usable, there = usable_cores(groups), os.cpu_count() or 1
    value = f"{there}" if usable == there else f"{usable:g} of {there} may be used"
    return Entry("cores", value, data={"all": there, "usable": usable})


def _memory(proc: Path, groups: Path) -> Entry:
    facts = dict(line.split(":", 1) for line in _read(proc / "meminfo").splitlines() if ":" in line)
    total, free = (1024 * int(facts[name].split()[0]) if name in facts else 0 for name in ("MemTotal", "MemAvailable"))
    if not total and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(groups / "memory.max").strip()
    if limit.isdigit() and 0 < int(limit) < total:
        used = _read(groups / "memory.current").strip()
        total, free = int(limit), min(free, int(limit) - int(used)) if used.isdigit() else free
    value = f"{total / GIB:.1f} GB" + (f", {free / GIB:.1f} GB free" if free else "")
    data = {"bytes": total, "free_bytes": free}
    if 0 < free < _LITTLE_MEMORY:
        problem = f"only {free / GIB:.1f} GB of memory are free; the encoder and its libraries take about 2 GB"
        return Entry("memory", value, State.WARNING, problem, "end other programs, or use a larger machine", data)
    return Entry("memory", value, data=data)


def _threads(groups: Path) -> Iterator[Entry]:
    for name in _THREAD_VARIABLES:
        if value := os.environ.get(name):
            shown = value if value.isdigit() else "not a number"
            yield Entry(name, shown, data=shown)
    try:
        import numpy  # noqa: F401 - loads the BLAS that is to be told of
        from threadpoolctl import threadpool_info
    except ImportError:
        return  # said by the section on software
    for pool in threadpool_info():
        name = f"{pool['user_api']} ({pool['internal_api']})"
        threads = int(pool["num_threads"])
        kind = "/".join(str(pool[key]) for key in ("version", "architecture", "threading_layer") if pool.get(key))
        value = f"{threads} thread{'s' * (threads > 1)}" + (f", {kind}" if kind else "")
        data = {key: pool.get(key) for key in ("version", "architecture", "threading_layer", "num_threads")}
        if threads > usable_cores(groups) + 0.5:
            problem = f"{name} uses {threads} threads on {usable_cores(groups):g} usable cores"
            yield Entry(name, value, State.WARNING, problem, "set OMP_NUM_THREADS to the number of cores", data)
        else:
            yield Entry(name, value, data=data)


def _gpus() -> Iterator[Entry]:
    cards, build = nvidia_cards(), torch_build()
    for number, card in enumerate(cards):
        value = f"{card['name']}, {card['memory']:,} MiB ({card['used']:,} used), driver {card['driver']}"
        if build.startswith("CUDA"):
            yield Entry(f"gpu {number}", value, data=card)
        else:
            problem = f"there is a GPU, and PyTorch is built for {build}"
            yield Entry(
                f"gpu {number}", value, State.WARNING, problem, "install PyTorch with CUDA, see pytorch.org", card
            )
    if not cards:
        mac = platform.system() == "Darwin" and platform.machine() == "arm64"
        yield Entry("gpu", "of Apple, by Metal" if mac else "none", data="mps" if mac else [])


def nvidia_cards() -> list[dict[str, Any]]:
    """NVIDIA's cards, as their tool tells; none where there is no tool or no answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = "name,memory.total,memory.used,driver_version,compute_cap"
    try:
        run = subprocess.run(
            [tool, f"--query-gpu={asked}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    cards = []
    for line in run.stdout.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and parts[1].isdigit() and parts[2].isdigit():
            name, memory, used, driver, capability = parts
            cards.append({"name": name, "memory": int(memory), "used": int(used), "driver": driver, "sm": capability})
    return cards


def _seen_by_torch() -> Iterator[Entry]:
    """What PyTorch can use, tried with a small product of matrices."""
    try:
        import torch
    except Exception:  # said by the section on software
        return
    mps = getattr(torch.backends, "mps", None)
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    devices += ["mps"] if mps is not None and mps.is_available() else []
    for device in ["cpu", *devices]:
        try:
            ones = torch.ones(64, 64, device=device)
            wrong = None if float((ones @ ones).sum()) == 64.0**3 else "it computes wrongly"
        except Exception as error:  # a driver may do anything
            wrong = str(error).partition("\n")[0]
        if wrong is None:
            yield Entry(f"torch on {device}", "works", data={"threads": torch.get_num_threads()})
        else:
            remedy = "update the driver, or set [embed] and [align] device to cpu"
            yield Entry(f"torch on {device}", "fails", State.BROKEN, f"PyTorch on {device}: {wrong}", remedy)
    if nvidia_cards() and not torch.cuda.is_available() and torch_build().startswith("CUDA"):
        problem = "PyTorch does not see the GPU"
        yield Entry("torch on cuda", "not available", State.WARNING, problem, "update NVIDIA's driver")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
