"""Who is compared to whom on a test."""

from collections.abc import Sequence

from molar_eval.models.registry import BY_SCORE, FAST, OURS, PARTS, WITHOUT
from molar_eval.results import ModelScores
from molar_eval.suite import PrimaryComparison


def best_baseline(models: Sequence[ModelScores], metric: str) -> str:
    """The strongest baseline of a test, which is the hardest to beat; the first model where there is none."""
    baselines = [one for one in models if one.model.kind == "baseline"] or list(models[:1])
    return max(baselines, key=lambda one: one.estimates[metric].mean).model.name


def rivals(models: Sequence[ModelScores], against: str) -> dict[str, str]:
    """Whom each model is compared to, by name.

    Ablations to molar (fast), parts of molar, molar without one of them and molar without its second stage to molar,
    where these took part; the others to ``against``, which has no rival of its own.
    """
    names = {one.model.name for one in models}
    found = {}
    for one in models:
        name = one.model.name
        whole = OURS if name in (*PARTS, *WITHOUT, BY_SCORE) else FAST if one.model.kind == "ablation" else against
        if name != against:
            found[name] = whole if whole in names else against
    return found


def pairs(
    models: Sequence[ModelScores], against: str, test: str, primary: PrimaryComparison | None
) -> list[tuple[str, str]]:
    """All pairs of models that are compared on a test, with the one that the suite declared for it."""
    names = {one.model.name for one in models}
    found = list(rivals(models, against).items())
    if primary is not None and primary.split == test and names >= {primary.model, primary.against}:
        found.append((primary.model, primary.against))
    return list(dict.fromkeys(found))
