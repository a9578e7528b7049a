"""Parts of plots as SVG: elements, scales, marks; whatever comes from data is escaped.

Colours and line widths are classes of the page's style sheet, so plots follow light and dark.
"""

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

Kind = str
DIAMOND = "M0-5.5 5.5 0 0 5.5-5.5 0z"
_TIMES = [
    (0.01, "10 ms"),
    (0.1, "0.1 s"),
    (1.0, "1 s"),
    (10.0, "10 s"),
    (60.0, "1 min"),
    (600.0, "10 min"),
    (3600.0, "1 h"),
    (36000.0, "10 h"),
    (360000.0, "100 h"),
]


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """An element; ``class_`` is ``class``, underscores are hyphens, floats have two decimals."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{''.join(str(escape(child)) for child in children)}</{name}>")


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


@dataclass(frozen=True)
class Scale:
    """From values (``low`` to ``high``) to places, per cent or pixels; ``log``: equal ratios are equally far apart."""

    low: float
    high: float
    start: float = 0.0
    end: float = 100.0
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value, held within the ends."""
        low, high, at = (math.log(max(v, 1e-9)) if self.log else v for v in (self.low, self.high, value))
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values, 1, 2 or 5 times a power of ten apart."""
        wide = (self.high - self.low) / most
        if wide <= 0:
            return [self.low]
        power = 10.0 ** math.floor(math.log10(wide))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= wide * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def round_up(values: list[float]) -> float:
    """An end for an axis from zero that holds all values."""
    highest = max([value for value in values if value > 0], default=1.0)
    scale = Scale(0.0, highest)
    step = scale.ticks()[1] - scale.ticks()[0]
    return math.ceil(highest / step * 2 - 1e-9) * step / 2


def times(low: float, high: float) -> list[tuple[float, str]]:
    """Ticks of an axis of seconds, with words."""
    return [(seconds, label) for seconds, label in _TIMES if low <= seconds <= high]


def tick_label(value: float) -> str:
    """A tick's value without needless zeros."""
    return f"{value:.6f}".rstrip("0").rstrip(".").replace("-", "−") or "0"


def mark(kind: Kind, x: float | str, y: float, title: str = "") -> Markup:
    """A model's mark, told apart by shape as well as colour: ours a disc, a baseline a diamond, an ablation a ring."""
    hint = [tag("title", title)] if title else []
    if kind == "baseline":
        shape = tag("path", *hint, d=DIAMOND, class_="mark baseline")
    else:
        shape = tag("circle", *hint, r=5, class_=f"mark {kind}")
    return tag("svg", shape, x=x, y=y, overflow="visible", class_="at")


def percent(place: float) -> str:
    """A place along the width of a picture that stretches."""
    return f"{place:.2f}%"


def stretched(height: int, *children: object) -> Markup:
    """A picture as wide as its box, whose lines and marks keep their size; its numbers stand beside it as text."""
    return tag("svg", *children, class_="row", width="100%", height=height, aria_hidden="true")


def key(kind: Kind) -> Markup:
    """A mark for the legend."""
    return tag("svg", mark(kind, 8, 8), class_="key", width=16, height=16, aria_hidden="true")
