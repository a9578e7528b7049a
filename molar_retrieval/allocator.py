"""How freed memory is kept, for commands that need the same large arrays again and again."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGE = 1 << 30


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, up to 1 GiB, instead of handing it back to the system at once.

    A step of training frees hundreds of megabytes and asks for them again; each time the system has to map and zero
    them, which may take as long as the step itself. Only glibc can be told; elsewhere nothing happens.

    Returns:
        Whether it was told.
    """
    try:
        adjust = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(adjust(_MMAP_THRESHOLD, _LARGE)) and bool(adjust(_TRIM_THRESHOLD, _LARGE))
