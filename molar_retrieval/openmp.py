"""How OpenMP's threads wait for each other, to be settled before anything loads them."""

import os


def wait_politely() -> None:
    """Let threads spin only briefly before they sleep, unless the environment says otherwise.

    GNU OpenMP spins for a long time by default, which is best on idle cores, but as soon as another process uses one
    of them training becomes several times slower. A short spin costs a few per cent on idle cores and avoids
    that. The variable is read when the library is loaded, so commands call this first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
