"""From the names in a suite to models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from molar_eval.models.base import Model
from molar_eval.models.baselines import ContentKNN, baselines
from molar_eval.models.molar import Molar
from molar_eval.models.peers.environments import peer_environments
from molar_eval.models.peers.published import peers
from molar_eval.models.sasrec_search import SASRecSearch
from molar_eval.models.tuned import PartContentKNN, Reads, TunedContentKNN, Tuning
from molar_eval.models.variants import VARIANTS, Variant
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import Preset
from molar_retrieval.workspace.settings import (
    AlignSettings,
    FinetuneSettings,
    MolarSettings,
    refuse_trusted,
    validated,
    with_preset,
)

OURS, FAST = "molar", "molar (fast)"
BY_SCORE = "molar (no re-ranking)"
"""Molar as it was trained, its second stage not asked."""
LATER = "molar (later)"
"""The same training, asked for all that follows, not for what comes next."""
_PRESETS: dict[str, Preset] = {
    "molar (instant)": "instant",
    FAST: "fast",
    "molar (default)": "default",
    "molar (best)": "best",
}
_COUNTING = ("sequence", "linear", "neighbours")
PARTS: dict[str, dict[str, Any]] = {
    "collaborative tower alone": {"towers": ("collaborative",), "experts": ()},
    "content tower alone": {"towers": ("content",), "experts": ()},
    "sequence expert alone": {"towers": (), "experts": ("sequence",)},
    "linear expert alone": {"towers": (), "experts": ("linear",)},
    "content neighbours alone": {"towers": (), "experts": ("neighbours",)},
    "experts alone": {"towers": (), "experts": _COUNTING},
}
"""Parts of molar, trained with its settings and all else off: what the whole has to beat. None knows the trend."""
_WITHOUT = {
    "no collaborative tower": ("towers", "collaborative"),
    "no content tower": ("towers", "content"),
    "no sequence expert": ("experts", "sequence"),
    "no linear expert": ("experts", "linear"),
    "no content neighbours": ("experts", "neighbours"),
    "no trend": ("experts", "trend"),
}
WITHOUT = {f"molar ({what})": what for what in ("no content tower", "no alignment loss", "no trend")}
"""Molar as the settings say, without one part: what each is worth in the whole."""
_CHANGED: dict[str, dict[str, Any]] = {
    "no experts": {"experts": ()},
    "no alignment loss": {"align_weight": 0.0},
    "no ALS start": {"als_start": False},
    "no content start": {"content_start": False},
}
_NO_SECOND_STAGE = "no re-ranking"
_TUNED: dict[str, dict[str, bool]] = {
    "fine-tuned": {},
    "fine-tuned, no image-text": {"image_text": False},
    "fine-tuned, no attributes": {"attributes": False},
    "fine-tuned, no behaviour": {"behaviour": False},
    "fine-tuned, words alone": {},
    "fine-tuned, photos alone": {},
}
"""Encoders fine-tuned for each split, the tasks and parts that each does without; ``molar`` or ``content kNN`` reads
them."""
_ALONE: dict[str, tuple[Reads, Variant]] = {"words alone": ("words", "no image"), "photos alone": ("photos", "no text")}
ABLATIONS = (*(variant for variant in VARIANTS if variant != "full"), *_WITHOUT, *_CHANGED, _NO_SECOND_STAGE)


@dataclass(frozen=True)
class Roster:
    """Makes models by name: of molar and its parts alone by ``options``, of molar (fast) and ablations by ``fast``.

    ``base`` is the whole catalogue's workspace; below ``variants`` are content vectors with something taken away.
    """

    base: Workspace
    variants: Path
    options: MolarSettings
    fast: MolarSettings

    def models(self, names: Sequence[str]) -> list[Model]:
        """The models of these names, in their order.

        SettingsError on an unknown name, or an ablation of something that the fast settings do not have.
        """
        makers, models = self._makers(), []
        for name in names:
            if name not in makers:
                close = nearest(name, makers, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(makers)}"
                raise SettingsError(f"there is no model {name!r}", hint)
            models.append(makers[name]())
        return models

    def _makers(self) -> dict[str, Callable[[], Model]]:
        """What makes each model, by name."""
        whole, fast = self.options, self.fast

        def ours(name: str, options: MolarSettings = whole, **more: Any) -> Molar:
            return Molar(self.base, self.variants, options, name, **more)

        def without(name: str, settings: MolarSettings = fast, what: str = "") -> Molar:
            return ours(name, _without(settings, what or name), kind="ablation")

        makers: dict[str, Callable[[], Model]] = {
            OURS: lambda: ours(OURS),
            BY_SCORE: lambda: _by_score(ours(BY_SCORE)),
            LATER: lambda: _later(ours(LATER)),
            **{name: partial(ours, name, with_preset(whole, preset)) for name, preset in _PRESETS.items()},
            FAST: lambda: ours(FAST, fast),
            **{name: partial(ours, name, _aligned(whole, part), kind="baseline") for name, part in PARTS.items()},
            **{name: partial(ours, name, fast, kind="ablation", variant=name) for name in VARIANTS},
            **{name: partial(without, name) for name in (*_WITHOUT, *_CHANGED)},
            **{name: partial(without, name, whole, what) for name, what in WITHOUT.items()},
            _NO_SECOND_STAGE: lambda: _by_score(ours(_NO_SECOND_STAGE, fast, kind="ablation")),
        }
        for what, tasks in _TUNED.items():
            reads: Reads = next((reads for part, (reads, _) in _ALONE.items() if what.endswith(part)), "both")
            tuning = Tuning(self.base, self.variants, whole.embed, FinetuneSettings(**tasks), whole.lora, reads)
            makers[f"{OURS} ({what})"] = partial(ours, f"{OURS} ({what})", tuning=tuning)
            makers[f"{ContentKNN.name} ({what})"] = partial(
                TunedContentKNN, tuning, f"{ContentKNN.name} ({what})", whole.align.content_dims
            )
        for what, (_, variant) in _ALONE.items():
            name = f"{ContentKNN.name} ({what})"
            makers[name] = partial(PartContentKNN, self.base, self.variants, whole, variant, name)
        others = peers(peer_environments())
        return makers | baselines() | {SASRecSearch.name: SASRecSearch} | others


def with_changes(settings: MolarSettings, changes: dict[str, dict[str, Any]], source: str) -> MolarSettings:
    """Settings with some keys changed, by section.

    Raises:
        SettingsError: On an unknown key, a wrong value or a trusted key: a suite travels as data does.
    """
    refuse_trusted(changes, source)
    values = settings.model_dump()
    for section, pairs in changes.items():
        values.setdefault(section, {}).update(pairs)
    return validated(MolarSettings, values, source)


def _by_score(model: Molar) -> Molar:
    """The same training, its second stage not asked, if there is one."""
    if model.options.align.rerank is False:
        raise _takes_nothing(model.name)
    return replace(model, second_stage=False)


def _later(model: Molar) -> Molar:
    """The same training, asked for all that follows."""
    if model.options.align.horizon == "next":
        raise SettingsError(
            f"{model.name!r} has no weights: the settings choose them for the next item alone",
            'set horizon = "both" in [align], or leave the model out',
        )
    return replace(model, horizon="later")


def _without(settings: MolarSettings, name: str) -> MolarSettings:
    """The settings without what an ablation takes away, if they have it."""
    if name in _CHANGED:
        changes = _CHANGED[name]
    else:
        field, part = _WITHOUT[name]
        changes = {field: tuple(each for each in getattr(settings.align, field) if each != part)}
    changed = _aligned(settings, changes)
    if changed == settings:
        raise _takes_nothing(name)
    return changed


def _takes_nothing(name: str) -> SettingsError:
    return SettingsError(
        f"{name!r} takes nothing away: the settings do without it",
        "put it into the suite's [fast] settings or into molar.toml, or leave the ablation out",
    )


def _aligned(settings: MolarSettings, changes: Mapping[str, Any]) -> MolarSettings:
    values = {**settings.align.model_dump(), **changes}
    return settings.model_copy(update={"align": AlignSettings(**values)})
