"""From the names in a suite to models."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from molar_eval.models.base import Model
from molar_eval.models.baselines import baselines
from molar_eval.models.molar import Molar
from molar_eval.models.variants import VARIANTS
from molar_retrieval.config import AlignSettings, MolarSettings, validated
from molar_retrieval.errors import SettingsError, nearest
from molar_retrieval.workspace import Workspace

OURS, FAST = "molar", "molar (fast)"
_SETTINGS: dict[str, dict[str, Any]] = {
    "no alignment loss": {"align_weight": 0.0},
    "no ALS start": {"als_start": False},
}
_TOWERS = {"no collaborative tower": (False, True), "no content tower": (True, False)}
ABLATIONS = (*(variant for variant in VARIANTS if variant != "full"), *_SETTINGS, *_TOWERS)


@dataclass(frozen=True)
class Roster:
    """Makes models by name.

    Attributes:
        base: The whole catalogue's workspace.
        variants: Where content vectors with something taken away are kept.
        options: Settings of molar.
        fast: Settings of molar (fast) and of the ablations.
    """

    base: Workspace
    variants: Path
    options: MolarSettings
    fast: MolarSettings

    def models(self, names: Sequence[str]) -> list[Model]:
        """The models of these names, in their order.

        Raises:
            SettingsError: On an unknown name.
        """
        return [self._model(name) for name in names]

    def _model(self, name: str) -> Model:
        ours = Molar(self.base, self.variants, self.options)
        fast = replace(ours, options=self.fast, name=name, kind="ablation")
        if name == OURS:
            return ours
        if name == FAST:
            return fast
        if name in VARIANTS:
            return replace(fast, variant=name)
        if name in _TOWERS:
            return replace(fast, towers=_TOWERS[name])
        if name in _SETTINGS:
            changed = {**self.fast.align.model_dump(), **_SETTINGS[name]}
            return replace(fast, options=self.fast.model_copy(update={"align": AlignSettings(**changed)}))
        known = baselines()
        if name in known:
            return known[name]()
        everything = [OURS, FAST, *ABLATIONS, *known]
        close = nearest(name, everything, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(everything)}"
        raise SettingsError(f"there is no model {name!r}", hint)


def with_changes(settings: MolarSettings, changes: dict[str, dict[str, Any]], source: str) -> MolarSettings:
    """Settings with some keys changed, by section.

    Raises:
        SettingsError: On an unknown key or a wrong value.
    """
    values = settings.model_dump()
    for section, pairs in changes.items():
        values.setdefault(section, {}).update(pairs)
    return validated(MolarSettings, values, source)
