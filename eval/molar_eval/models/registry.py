"""The models that suites can name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from molar_eval.models.base import Model
from molar_eval.models.baselines import ContentKNN, baselines
from molar_eval.models.content_variants import VARIANTS, FineTunedContentKNN, FineTuning
from molar_eval.models.ours import Molar
from molar_eval.models.own import OwnModels, own_makers
from molar_eval.models.peers.environments import peer_environments
from molar_eval.models.peers.peer import peers
from molar_eval.models.sasrec import SASRecSearch
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import Preset
from molar_retrieval.workspace.settings import (
    COUNT_MODELS,
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
FUTURE = "molar (future items)"
"""The same training, asked for all future items, not for the next one."""
_PRESETS: dict[str, Preset] = {
    "molar (instant)": "instant",
    FAST: "fast",
    "molar (default)": "default",
    "molar (best)": "best",
}
PARTS: dict[str, dict[str, Any]] = {
    "ID tower alone": {"models": ("id_tower",)},
    "content tower alone": {"models": ("content_tower",)},
    "sequential component alone": {"models": ("sequential",)},
    "EASE component alone": {"models": ("ease", "item_knn")},
    "content kNN component alone": {"models": ("content_knn",)},
    "count models alone": {"models": ("sequential", "ease", "item_knn", "content_knn")},
}
"""Components of molar, trained with its settings and all else off: what the ensemble has to beat."""
_ABLATED: dict[str, dict[str, Any]] = {
    "no alignment loss": {"alignment_weight": 0.0},
}
"""By ablation the keys of ``[align]`` that change …"""
_WITHOUT_MODELS: dict[str, tuple[str, ...]] = {
    "no ID tower": ("id_tower",),
    "no content tower": ("content_tower",),
    "no sequential component": ("sequential",),
    "no EASE component": ("ease", "item_knn"),
    "no content kNN component": ("content_knn",),
    "no popularity component": ("popularity",),
    "no count models": COUNT_MODELS,
}
"""… or the models that are left out."""
WITHOUT = {f"molar ({what})": what for what in ("no content tower", "no alignment loss", "no popularity component")}
"""Molar as the settings say, without one part: what each is worth in the whole."""
_NO_SECOND_STAGE = "no re-ranking"
ABLATIONS = (*(variant for variant in VARIANTS if variant != "full"), *_WITHOUT_MODELS, *_ABLATED, _NO_SECOND_STAGE)


@dataclass(frozen=True)
class ModelRegistry:
    """Makes models by name: molar and its parts alone by ``options``, molar (fast) and ablations by ``fast``.

    ``base`` is the whole catalogue's workspace; below ``variants`` other content vectors are kept. ``own`` are the
    user's models that are given as objects; others are installed.
    """

    base: Workspace
    variants: Path
    options: MolarSettings
    fast: MolarSettings
    own: OwnModels = field(default_factory=dict)

    def models(self, names: Sequence[str]) -> list[Model]:
        """The models of these names, in their order.

        SettingsError on an unknown name, an ablation of something that the fast settings do not have, or a model of the
        user's own that is called like another.
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
        whole, fast = self.options, self.fast

        def ours(name: str, options: MolarSettings = whole, **more: Any) -> Molar:
            return Molar(self.base, self.variants, options, name, **more)

        def ablation(name: str, settings: MolarSettings, what: str) -> Molar:
            return ours(name, _without(settings, what), kind="ablation")

        tuning = FineTuning(self.base, self.variants, whole.embed, FinetuneSettings(), whole.lora)
        own: dict[str, Callable[[], Model]] = {
            OURS: partial(ours, OURS),
            BY_SCORE: lambda: _by_score(ours(BY_SCORE)),
            FUTURE: lambda: _future(ours(FUTURE)),
            **{name: partial(ours, name, with_preset(whole, preset)) for name, preset in _PRESETS.items()},
            FAST: partial(ours, FAST, fast),
            **{name: partial(ours, name, _aligned(whole, part), kind="baseline") for name, part in PARTS.items()},
            **{name: partial(ours, name, fast, kind="ablation", variant=name) for name in VARIANTS},
            **{name: partial(ablation, name, fast, name) for name in (*_WITHOUT_MODELS, *_ABLATED)},
            **{name: partial(ablation, name, whole, what) for name, what in WITHOUT.items()},
            _NO_SECOND_STAGE: lambda: _by_score(ours(_NO_SECOND_STAGE, fast, kind="ablation")),
        }
        name = f"{OURS} (fine-tuned)"
        own[name] = partial(ours, name, tuning=tuning)
        name = f"{ContentKNN.name} (fine-tuned)"
        own[name] = partial(FineTunedContentKNN, tuning, name, whole.align.content_components)
        built_in = own | baselines() | {SASRecSearch.name: SASRecSearch} | peers(peer_environments())
        return built_in | own_makers(self.own, built_in)


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
    if model.options.align.reranker is False:
        raise _takes_nothing(model.name)
    return replace(model, second_stage=False)


def _future(model: Molar) -> Molar:
    """The same training, asked for future items."""
    if "future_items" not in model.options.align.objectives:
        raise SettingsError(
            f"{model.name!r} has no weights: the settings choose them for the next item alone",
            'add "future_items" to objectives in [align], or leave the model out',
        )
    return replace(model, objective="future_items")


def _without(settings: MolarSettings, what: str) -> MolarSettings:
    """The settings without what an ablation takes away, if they have it."""
    left_out = _WITHOUT_MODELS.get(what, ())
    left = {"models": tuple(name for name in settings.align.models if name not in left_out)}
    changed = _aligned(settings, _ABLATED.get(what, left))
    if changed == settings:
        raise _takes_nothing(what)
    return changed


def _takes_nothing(name: str) -> SettingsError:
    return SettingsError(
        f"{name!r} takes nothing away: the settings do without it",
        "put it into the suite's [fast] settings or into molar.toml, or leave the ablation out",
    )


def _aligned(settings: MolarSettings, changes: Mapping[str, Any]) -> MolarSettings:
    values = {**settings.align.model_dump(), **changes}
    return settings.model_copy(update={"align": AlignSettings(**values)})
