"""The one place where randomness comes from: named generators derived from one seed.

Two names never share a stream, so a new consumer does not disturb the others.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed for the consumer called ``names`` under the run's ``seed``."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: object) -> "np.random.Generator":
    """A NumPy generator of its own for the consumer called ``names``."""
    return np.random.default_rng(derive_seed(seed, *names))
