"""The picture plane that all parts of a photo share."""

import numpy as np
import numpy.typing as npt

SIZE = 224
"""Width and height of a photo."""

Pixels = npt.NDArray[np.float32]


def _grid() -> tuple[Pixels, Pixels]:
    axis = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / SIZE) - np.float32(1)
    x, y = np.meshgrid(axis, axis)
    return x, y


X, Y = _grid()
"""Coordinates of each pixel, from -1 to 1; shape (SIZE, SIZE) each."""
