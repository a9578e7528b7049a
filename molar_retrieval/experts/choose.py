"""Settings chosen by ranking validation cases: the same loop for every expert and every baseline."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

Setting = Mapping[str, Any]
T = TypeVar("T")


def choose(
    candidates: Iterable[tuple[Setting, Callable[[], T]]], judge: Callable[[T], float]
) -> tuple[T, Setting, list[dict[str, Any]]]:
    """Fit one candidate after the other and keep the best, the first of equals.

    Args:
        candidates: Settings, each with what fits it; at least one.
        judge: Validation NDCG@10 of a fitted candidate, higher is better.

    Returns:
        The best, its setting, and for the record each ``setting`` with its ``ndcg@10`` and the ``seconds`` of fitting
        and judging, in their order.

    Raises:
        ValueError: If there are no candidates.
    """
    best: tuple[float, Setting, T] | None = None
    tried: list[dict[str, Any]] = []
    for setting, fit in candidates:
        began = time.perf_counter()
        fitted = fit()
        score = judge(fitted)
        seconds = round(time.perf_counter() - began, 2)
        tried.append({"setting": dict(setting), "ndcg@10": round(score, 6), "seconds": seconds})
        if best is None or score > best[0]:
            best = score, setting, fitted
        del fitted
    if best is None:
        raise ValueError("the grid is empty")
    return best[2], best[1], tried
