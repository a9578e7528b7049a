"""How reports write names and numbers, the same in the terminal, the page and the documents."""

import json
from collections.abc import Mapping
from typing import Any

NONE = "–"
ALPHA = 0.05
_NAMES = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "diversity": "Intra-list diversity", "gini": "Gini index"}


def metric(name: str) -> str:
    """A metric's name for people: ``ndcg@10`` is ``NDCG@10``."""
    base, at, cutoff = name.partition("@")
    return _NAMES.get(base, base.replace("_", " ").capitalize()) + at + cutoff


def short(name: str, most: int = 24) -> str:
    """A name that fits, with its end, by which variants of one model differ: ``content … no attributes)``."""
    if len(name) <= most:
        return name
    end = most * 5 // 8
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def cutoff(name: str) -> str:
    """The k of a metric's name; empty where it has none."""
    return name.partition("@")[2]


def fraction(value: float | None) -> str:
    """A metric's value with four decimals."""
    return NONE if value is None else f"{value:.4f}".replace("-", "−")


def number(value: float | None) -> str:
    """A value of unknown scale, four significant digits at most."""
    if value is None:
        return NONE
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{decimals}f}".replace("-", "−")


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def percent(share: float, decimals: int = 0) -> str:
    """A share of a hundred."""
    return f"{share * 100:.{decimals}f}\N{NO-BREAK SPACE}%".replace("-", "−")


def p_value(p: float) -> str:
    """A probability as papers write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def plural(value: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """A time in the two units that matter."""
    if seconds < 1:
        milliseconds = seconds * 1000
        return f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(count: float) -> str:
    """A number of bytes."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit in {"bytes", "KB"} or count >= 100 else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted key, JSON) pairs."""
    pairs: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            pairs += flat(value, f"{prefix}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            pairs.append((f"{prefix}{key}", shown))
    return pairs
