"""What is turned: settings of ``[align]`` and ``[cf]``, in ranges about what they are, as far as they have an effect.

Not among them: what decides how long training takes and is the preset's to say (epochs, patience, members, history),
and the grids of the models that count, which choose by themselves. A range is widened to hold the present value.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.towers.training import sized
from molar_retrieval.workspace.settings import AlignSettings, MolarSettings, validated

Value: TypeAlias = float | int | bool | str
Values: TypeAlias = dict[str, Value]
"""By name of the dial."""
_DIGITS = 3
_EVEN = 8  # what widths are multiples of


@dataclass(frozen=True)
class Dial:
    """One setting that is turned.

    Attributes:
        section: ``align`` or ``cf``.
        key: Its key there.
        now: Its present value, sizes that are left open filled in.
        choices: What it may be; empty: a number from ``low`` to ``high``.
        low: The least.
        high: The most.
        log: Whether equal ratios are equally far apart.
        step: Of whole numbers, what they are multiples of, from ``low`` on; None: it is no whole number.
    """

    section: Literal["align", "cf"]
    key: str
    now: Value
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: int | None = None

    @property
    def name(self) -> str:
        """As messages and pages have it: ``align.dropout``."""
        return f"{self.section}.{self.key}"

    def rounded(self, value: Value) -> Value:
        """The value as it is tried and written: three digits; the present one as it is."""
        if value == self.now or isinstance(value, int | str):
            return value
        return float(f"{value:.{_DIGITS}g}")


def space_of(settings: MolarSettings, training: Interactions) -> tuple[Dial, ...]:
    """The dials that have an effect under these settings; sizes that they leave open are those of the training log."""
    options = sized(settings.align, training)
    return tuple(dial for dial in (*_of_towers(options), *_of_counting(options), *_of_factors(settings, options)))


def turned(settings: MolarSettings, dials: Sequence[Dial], values: Mapping[str, Value]) -> MolarSettings:
    """The settings with other values of the dials; everything else is as it was."""
    changed: dict[str, Any] = {}
    for name in ("align", "cf"):
        section = getattr(settings, name)
        own = {dial.key: dial.rounded(values[dial.name]) for dial in dials if dial.section == name}
        changed[name] = validated(type(section), {**section.model_dump(), **own}, "a trial")
    return settings.model_copy(update=changed)


def _of_towers(options: AlignSettings) -> Iterator[Dial]:
    if not options.towers:
        return
    if "collaborative" in options.towers:
        yield _whole("align", "dim", options.dim, 32, max(128, 2 * (options.dim or 0)), step=_EVEN)
        yield _whole("align", "blocks", options.blocks, 1, 3)
        yield Dial("align", "als_start", options.als_start, choices=(True, False))
        yield Dial("align", "content_start", options.content_start, choices=(True, False))
    if "content" in options.towers:
        yield _whole("align", "content_dim", options.content_dim, 32, 128, step=_EVEN)
        yield _whole("align", "content_blocks", options.content_blocks, 0, 2)
        yield _real("align", "align_weight", options.align_weight, 0.0, 0.5)
        yield from _by_ratio("align", "align_temperature", options.align_temperature, 0.03, 0.5)
    yield _real("align", "dropout", options.dropout, 0.0, 0.5)
    yield from _by_ratio("align", "learning_rate", options.learning_rate, 5e-4, 8e-3)
    yield from _by_ratio("align", "weight_decay", options.weight_decay, 1e-3, 0.3)
    yield _whole("align", "negatives", options.negatives, 256, 4096, log=True)
    tokens = options.batch_tokens or 0
    yield _whole("align", "batch_tokens", tokens, max(64, tokens // 2), 2 * tokens, log=True)


def _of_counting(options: AlignSettings) -> Iterator[Dial]:
    yield _whole("align", "content_dims", options.content_dims, 64, 512, log=True)
    if {"sequence", "linear"} & set(options.experts):
        yield _whole("align", "partners", options.partners, 50, 800, log=True)
    if options.rerank is False:
        yield Dial("align", "rerank", options.rerank, choices=(False, "auto"))


def _of_factors(settings: MolarSettings, options: AlignSettings) -> Iterator[Dial]:
    """Of ALS: towers start from its factors and are aligned with them, and the second stage reads them."""
    if not options.towers and options.rerank is False:
        return
    factors = settings.cf
    yield _whole("cf", "factors", factors.factors, 16, 256, log=True)
    yield from _by_ratio("cf", "regularization", factors.regularization, 1e-3, 1.0)
    yield from _by_ratio("cf", "alpha", factors.alpha, 0.1, 40.0)


def _whole(
    section: Literal["align", "cf"], key: str, now: int | None, low: int, high: int, *, step: int = 1, log: bool = False
) -> Dial:
    assert now is not None, "sizes are filled in"
    return Dial(section, key, now, low=min(low, now), high=max(high, now), log=log, step=step)


def _real(section: Literal["align", "cf"], key: str, now: float, low: float, high: float) -> Dial:
    return Dial(section, key, now, low=min(low, now), high=max(high, now))


def _by_ratio(section: Literal["align", "cf"], key: str, now: float, low: float, high: float) -> Iterator[Dial]:
    """A number of which the order of magnitude counts; where it is 0 now, which is none, it stays."""
    if now > 0:
        yield Dial(section, key, now, low=min(low, now), high=max(high, now), log=True)
