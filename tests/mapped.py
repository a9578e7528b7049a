"""Whether an array lies in a file."""

import numpy as np


def is_mapped(array: np.ndarray) -> bool:
    """Whether it, or what it is a view of, is a memory map."""
    return isinstance(array, np.memmap) or (array.base is not None and is_mapped(array.base))
