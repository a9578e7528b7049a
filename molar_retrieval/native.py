"""What the native libraries beneath are told: how threads wait for each other, and how freed memory is kept."""

import ctypes
import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import LibController

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 1 << 30


def limit_spinning() -> None:
    """Let OpenMP's threads spin only briefly before they sleep, unless the environment says otherwise.

    GNU OpenMP spins for a long time by default, which is best on idle cores, but as soon as another process uses one
    of them training becomes several times slower. A short spin costs a few per cent on idle cores and avoids
    that. The variable is read when the library is loaded, so commands call this first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def tell_crashes() -> None:
    """Let this process write its Python frames to standard error where a native library crashes."""
    if not faulthandler.is_enabled():
        with suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is no standard error
            faulthandler.enable()


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, up to 1 GiB, instead of handing it back to the system at once.

    A step of training frees hundreds of megabytes and asks for them again; each time the system has to map and zero
    them, which may take as long as the step itself. Only glibc can be told (True); elsewhere nothing happens.
    """
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(adjust(_MMAP_THRESHOLD, _LARGE)) and bool(adjust(_TRIM_THRESHOLD, _LARGE))


def give_freed_memory_back() -> bool:
    """Hand what is freed back to the system, for work that needs its memory elsewhere next.

    Of many small pieces that are freed the C library keeps the pages between those that are not. Only glibc can be
    told (True); elsewhere nothing happens.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    trim(0)
    return True


@contextmanager
def one_thread() -> Iterator[None]:
    """Products of matrices by one thread each, then by as many as before; some microseconds.

    What an answer multiplies is so small that a second thread gains nothing, and where its core is busy it is waited
    for many times longer than the product takes. OpenBLAS hears of it in the main thread alone, so elsewhere nothing
    happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    several = [(one, count) for one in _blas() if (count := one.num_threads) != 1]
    for one, _ in several:
        one.set_num_threads(1)
    try:
        yield
    finally:
        for one, count in several:
            one.set_num_threads(count)


def _blas() -> "list[LibController]":
    """The libraries of BLAS that are loaded: none before NumPy is."""
    return _found() if "numpy.linalg" in sys.modules else []


@cache
def _found() -> "list[LibController]":
    from threadpoolctl import ThreadpoolController  # finds out what is loaded, a millisecond

    found: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found
