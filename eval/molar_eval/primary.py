"""The one comparison that a suite declares before it runs, apart from all others, which are corrected together."""

from collections.abc import Sequence

import numpy as np

from molar_eval.report.schema import Comparison, ModelResult, PrimaryResult, SplitResult
from molar_eval.statistics.permutation import holm
from molar_eval.suite import PrimaryComparison

_Key = tuple[str, str, str, str]


def corrected(
    splits: Sequence[SplitResult], primary: PrimaryComparison | None
) -> tuple[list[SplitResult], PrimaryResult | None]:
    """The results with p-values as the declaration asks for, and what became of the declared comparison.

    That one keeps its own p, as nothing else could have been chosen in its place; the p-values of all others, over all
    tests of the run, are corrected together after Holm. Without a declaration every test is corrected by itself, as it
    comes.
    """
    if primary is None:
        return list(splits), None
    p = {
        (split.name, model.name, metric, one.baseline): one.p
        for split in splits
        for model in split.models
        for metric, tests in model.versus.items()
        for one in tests
    }
    declared: _Key = (primary.split, primary.model, primary.metric, primary.against)
    apart = {declared: p.pop(declared)} if declared in p else {}
    adjusted = dict(zip(p, holm(np.array(list(p.values()))).tolist(), strict=True)) | apart
    results = [
        split.model_copy(update={"models": [_corrected(split.name, model, adjusted) for model in split.models]})
        for split in splits
    ]
    return results, PrimaryResult(**primary.model_dump(), comparison=_found(results, declared))


def _corrected(split: str, model: ModelResult, adjusted: dict[_Key, float]) -> ModelResult:
    versus = {
        metric: [one.model_copy(update={"p_holm": adjusted[split, model.name, metric, one.baseline]}) for one in tests]
        for metric, tests in model.versus.items()
    }
    return model.model_copy(update={"versus": versus})


def _found(splits: Sequence[SplitResult], declared: _Key) -> Comparison | None:
    name, model, metric, against = declared
    for split in splits:
        for one in split.models:
            if (split.name, one.name) == (name, model):
                return next((test for test in one.versus.get(metric, []) if test.baseline == against), None)
    return None
