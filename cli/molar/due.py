"""What an update leaves to training: settings that have changed, an encoder that is named, a model of a certain age."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from molar_retrieval.workspace.artefacts import PRIVATE

if TYPE_CHECKING:
    from molar_retrieval.workspace.artefacts import Manifest, Workspace
    from molar_retrieval.workspace.settings import EmbedSettings, MolarSettings

_SECTIONS = ("align", "split")
_NO_EFFECT = {"threads", "device", "preset"}


@dataclass(frozen=True)
class Due:
    """What an update leaves for later.

    Attributes:
        why: The reason.
        command: What does it.
    """

    why: str
    command: str


def due(alignment: "Manifest", settings: "MolarSettings", named: str = "", now: datetime | None = None) -> list[Due]:
    """Why training is due, if it is.

    Args:
        alignment: Of the live alignment.
        settings: Of which those count that somebody has set.
        named: That settings name another encoder, in words, or nothing.
        now: The moment; None: the present.
    """
    found = [Due(named, "molar embed, then molar align")] if named else []
    private = PRIVATE in alignment.facts
    changed = list(_of_privacy(alignment, settings) if private else _changed(alignment, settings))
    if settings.privacy.with_noise and not private:
        found.append(Due("[privacy] epsilon is set, and the live alignment was trained without noise", "molar align"))
    if changed:
        found.append(Due(f"settings have changed since training: {', '.join(changed)}", "molar align"))
    most, days = settings.update.max_age_days, age_in_days(alignment, now or datetime.now(UTC))
    if most is not None and days > most:
        found.append(Due(f"the last training was {days} days ago, more than {most}", "molar align"))
    warm = alignment.facts.get("warm")
    if warm is not None and not warm["better"] and warm.get("drifted", True):
        found.append(Due("what people take has drifted, and training the towers on was no better", "molar align"))
    return found


def age_in_days(alignment: "Manifest", now: datetime) -> int:
    """Whole days since the training that an alignment goes back to."""
    derived = alignment.facts.get("derived", {})
    return (now - datetime.fromisoformat(derived.get("trained_at", alignment.created))).days


def _changed(alignment: "Manifest", settings: "MolarSettings") -> Iterator[str]:
    for name in _SECTIONS:
        section = getattr(settings, name)
        asked: dict[str, Any] = section.model_dump(mode="json", exclude_unset=True)
        trained = alignment.settings.get(name, {})
        for key in (key for key in type(section).model_fields if key in asked and key not in _NO_EFFECT):
            value = asked[key]
            if value is not None and value != trained.get(key, value):
                yield f"[{name}] {key} is {value}, it was {trained[key]}"


def _of_privacy(alignment: "Manifest", settings: "MolarSettings") -> Iterator[str]:
    """What is asked for of statistics with noise, and was released otherwise."""
    released, epsilon = alignment.facts[PRIVATE]["epsilon"], settings.privacy.epsilon
    if epsilon is not None and epsilon != released:
        yield f"[privacy] epsilon is {epsilon:g}, it was {released:g}"


def with_kept_encoder(settings: "EmbedSettings", workspace: "Workspace") -> "EmbedSettings":
    """Settings of embedding with the encoder that made the live vectors, whatever they name."""
    from molar_retrieval.embedding import run

    kept = run.current_encoder(workspace)
    shaping = {key: kept[key] for key in run.SHAPING if key in kept}
    return settings.model_copy(update=shaping)
