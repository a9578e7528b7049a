"""Whether a model looks at the answers of a test."""

from dataclasses import replace

import numpy as np

from molar_retrieval import rng


def peeks(make, split, task, folder):
    """Whether a model's scores depend on the answers of the test.

    The model is made and fitted twice, the second time on a world in which everybody took something else after the
    inputs of the test. What was trained, and with it every score, must be the same.

    Args:
        make: Makes the model for a split; one that peeks reads the answers here, or finds them where it looks.
        split: The split; its first test is used.
        task: What models may see of a split, with a folder for the model's files.
        folder: For both.
    """
    cases = next(iter(split.tests.values()))
    worlds = {"real": split, "other": _other_world(split)}
    real, other = (
        make(world).fit(task(world, folder / name), 0).scores(cases.inputs()) for name, world in worlds.items()
    )
    return not np.array_equal(real, other)


def _other_world(split):
    """The split with random items in place of the first test's answers."""
    name, cases = next(iter(split.tests.items()))
    random = rng.generator(0, "other world")
    log = split.history
    pairs = _pairs(log, log.user, log.item)
    wanted = _pairs(log, cases.user[cases.case_of_target], cases.targets)
    rows = np.isin(pairs, wanted)
    item = log.item.copy()
    item[rows] = random.integers(0, log.n_items, int(rows.sum()))
    history = replace(log, item=item)
    targets = random.integers(0, log.n_items, len(cases.targets)).astype(np.int32)
    tests = {**split.tests, name: replace(cases, history=history, targets=targets)}
    return replace(split, history=history, validation=replace(split.validation, history=history), tests=tests)


def _pairs(log, user, item):
    return user.astype(np.int64) * log.n_items + item
