"""Users as the units that a bootstrap draws, at a bounded cost."""

import numpy as np
import numpy.typing as npt

from molar_retrieval.rng import generator

MOST = 20_000
"""Most units that are drawn. More would cost time and change no interval that anybody could see."""


def user_groups(n_users: int, seed: int) -> npt.NDArray[np.int64]:
    """The unit of each user: the user alone or, where there are more than ``MOST``, a random group of whole users.

    Groups of independent users are independent themselves, so resampling them is as valid as resampling users.

    Returns:
        Numbers of units, shape (n_users,).
    """
    users = np.arange(n_users)
    if n_users <= MOST:
        return users
    return generator(seed, "kpi", "groups").permutation(users) % MOST


def sums_by(codes: npt.NDArray[np.integer], values: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.float64]:
    """The sum of ``values`` (n,) for each of the ``size`` codes (n,)."""
    return np.bincount(codes, values, minlength=size).astype(np.float64)
