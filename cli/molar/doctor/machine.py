"""The machine: processor, memory, threads, GPU."""

import ctypes
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

from molar.doctor.health import Entry, Fault, broken, entry
from molar.doctor.software import torch_build
from molar_retrieval.workspace.resources import GROUPS, PROC, core_limits, memory_of_machine, read

_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_LITTLE_MEMORY = 2 << 30
GIB = float(1 << 30)
_AVX512, _OVERRUNNING = {"SkylakeX", "Cooperlake", "SapphireRapids"}, (0, 3, 31)
"""Kernels of OpenBLAS, and the last version by which these were seen to overrun their work buffer."""


def machine(deep: bool, *, proc: Path = PROC, groups: Path = GROUPS) -> Iterator[Entry]:
    """What it has, by the kernel's files and a container's limits; ``deep`` asks PyTorch what it sees, too."""
    yield entry("system", f"{platform.system()} {platform.release()} ({platform.machine()})")
    yield _processor(proc)
    usable, there = usable_cores(proc, groups), os.cpu_count() or 1
    value = f"{there}" if usable == there else f"{usable:g} of {there} may be used"
    yield entry("cores", value, data={"all": there, "usable": usable})
    yield _memory(proc, groups)
    yield from _threads(proc, groups)
    yield from _gpus()
    if deep:
        yield from _seen_by_torch()


def _processor(proc: Path) -> Entry:
    facts = _fields(read(proc / "cpuinfo").split("\n\n")[0])
    flags = set((facts.get("flags") or facts.get("features") or "").split())
    known = [name for name in _FEATURES if name in flags]
    name = facts.get("model name") or platform.processor() or platform.machine()
    old = bool(flags) and platform.machine() in {"x86_64", "AMD64"} and "avx2" not in flags
    problem = "the processor has no AVX2; libraries are slow on it, or do not start"
    return entry(
        "processor",
        f"{name} ({', '.join(known) or 'features unknown'})",
        old and Fault(problem, "use a processor made after 2013"),
        data={"name": name, "features": known},
    )


def usable_cores(proc: Path = PROC, groups: Path = GROUPS) -> float:
    """How many cores this process may use: those it is bound to, or the share of a container, a service or a job."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([bound, *core_limits(proc, groups)])


def _memory(proc: Path, groups: Path) -> Entry:
    total, free = memory_of_machine(proc, groups)
    problem = f"only {free / GIB:.1f} GB of memory are free; the encoder and its libraries take about 2 GB"
    return entry(
        "memory",
        f"{total / GIB:.1f} GB" + (f", {free / GIB:.1f} GB free" if free else ""),
        0 < free < _LITTLE_MEMORY and Fault(problem, "end other programs, or use a larger machine"),
        data={"bytes": total, "free_bytes": free},
    )


def _threads(proc: Path, groups: Path) -> Iterator[Entry]:
    for name in _THREAD_VARIABLES:
        if value := os.environ.get(name):
            shown = value if value.isdigit() else "not a number"
            yield entry(name, shown, data=shown)
    try:
        import numpy  # noqa: F401 - loads the BLAS that is to be told of
        from threadpoolctl import threadpool_info
    except ImportError:
        return  # said by the section on software
    _load_blas_of_scipy()
    usable = usable_cores(proc, groups)
    for pool in threadpool_info():
        own = ", SciPy" if "scipy.libs" in Path(pool["filepath"]).parts else ""
        name, threads = f"{pool['user_api']} ({pool['internal_api']}{own})", int(pool["num_threads"])
        kind = "/".join(str(pool[key]) for key in ("version", "architecture", "threading_layer") if pool.get(key))
        problem = f"{name} uses {threads} threads on {usable:g} usable cores"
        yield entry(
            name,
            f"{threads} thread{'s' * (threads > 1)}" + (f", {kind}" if kind else "") + _crashes(pool),
            threads > usable + 0.5 and Fault(problem, "set OMP_NUM_THREADS to the number of cores"),
            data={key: pool.get(key) for key in ("version", "architecture", "threading_layer", "num_threads")},
        )


def _load_blas_of_scipy() -> None:
    """It is one of its own; importing SciPy takes longer."""
    spec = util.find_spec("scipy")
    for place in (spec and spec.submodule_search_locations) or []:
        for library in Path(place).with_name("scipy.libs").glob("libscipy_openblas*"):
            with suppress(OSError):
                ctypes.CDLL(str(library))


def _crashes(pool: Mapping[str, Any]) -> str:
    """What to say of a BLAS that is known to crash; molar is safe from it, see :mod:`molar_retrieval.cholesky`."""
    version = tuple(int(part) for part in re.findall(r"\d+", str(pool.get("version")))[:3])
    if pool["internal_api"] != "openblas" or pool.get("architecture") not in _AVX512 or version > _OVERRUNNING:
        return ""
    return "; crashes on Cholesky factorisations above 15,600 rows in float64, which molar computes in blocks"


def _gpus() -> Iterator[Entry]:
    cards, build = nvidia_cards(), torch_build()
    fault = Fault(f"there is a GPU, and PyTorch is built for {build}", "install PyTorch with CUDA, see pytorch.org")
    for number, card in enumerate(cards):
        value = f"{card['name']}, {card['memory']:,} MiB ({card['used']:,} used), driver {card['driver']}"
        yield entry(f"gpu {number}", value, not build.startswith("CUDA") and fault, data=card)
    if not cards:
        mac = platform.system() == "Darwin" and platform.machine() == "arm64"
        yield entry("gpu", "of Apple, by Metal" if mac else "none", data="mps" if mac else [])


def nvidia_cards() -> list[dict[str, Any]]:
    """NVIDIA's cards, as their tool tells; none where there is no tool or no answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = "--query-gpu=name,memory.total,memory.used,driver_version,compute_cap"
    command = [tool, asked, "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
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
        remedy = "update the driver, or set [embed] and [align] device to cpu"
        if wrong is None:
            yield entry(f"torch on {device}", "works", data={"threads": torch.get_num_threads()})
        else:
            yield entry(f"torch on {device}", "fails", broken(f"PyTorch on {device}: {wrong}", remedy))
    if nvidia_cards() and not torch.cuda.is_available() and torch_build().startswith("CUDA"):
        fault = Fault("PyTorch does not see the GPU", "update NVIDIA's driver")
        yield entry("torch on cuda", "not available", fault)


def _fields(text: str) -> dict[str, str]:
    lines = [line.partition(":") for line in text.splitlines() if ":" in line]
    return {key.strip().lower(): value.strip() for key, _, value in lines}
