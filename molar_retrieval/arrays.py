"""Names of arrays in annotations; what an array holds, and its shape, is said where it is used."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int64]
"""Places in a ranking; 1 is the best."""
Rows = npt.NDArray[np.int64]
"""Numbers of rows: of users, items, cases, interactions."""
