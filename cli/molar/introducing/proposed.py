"""From what somebody asks for to an experiment: presets become generations, rules are kept as they are now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from molar_indexes.generations import by_age, preset_of
from molar_retrieval.errors import MissingArtefactError, SettingsError, suggestion
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.experiments.store import KIND
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import PRESETS, toml_of
from molar_retrieval.workspace.files import write_atomically

Shows = Literal["lists", "popular", "nothing"]
RulesSource = str | Path | Mapping[str, Any]
"""A file of rules, or what it would hold."""


@dataclass(frozen=True)
class WantedArm:
    """An arm as somebody asks for it; see :meth:`molar.experiments.Experiments.start`."""

    shows: Shows = "lists"
    generation: str | None = None
    preset: str | None = None
    rules: RulesSource | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def arms_of(workspace: Workspace, control: WantedArm, treatment: WantedArm) -> tuple[Arm, Arm]:
    """Both arms. Where one of them names a generation, the other one gets the name of what is live now.

    Otherwise an update in the middle would change one arm and not the other.

    Raises:
        SettingsError: If a preset is none, stands beside a generation, or rules cannot be read.
        MissingArtefactError: If there is no generation of a preset, or nothing is live.
    """
    named = [_generation(workspace, one) for one in (control, treatment)]
    if any(named):
        named = [
            one or (workspace["generations"].require()[0].name if wanted.shows == "lists" else None)
            for one, wanted in zip(named, (control, treatment), strict=True)
        ]
    first, second = (
        Arm(wanted.shows, name, _kept(workspace, wanted.rules), dict(wanted.options))
        for wanted, name in zip((control, treatment), named, strict=True)
    )
    return first, second


def _generation(workspace: Workspace, wanted: WantedArm) -> str | None:
    if wanted.preset is None:
        return wanted.generation
    if wanted.generation is not None:
        raise SettingsError("a preset and a generation are named", "name one of them: a preset stands for a generation")
    if wanted.preset not in PRESETS:
        remedy = suggestion(wanted.preset, PRESETS, f"presets are {', '.join(PRESETS)}")
        raise SettingsError(f"there is no preset {wanted.preset!r}", remedy)
    found = [one for one in by_age(workspace["generations"]) if preset_of(one) == wanted.preset]
    if not found:
        raise MissingArtefactError(
            f"no generation was made with the preset {wanted.preset}",
            f"run `molar align --preset {wanted.preset} --stage` first",
        )
    return found[-1].name


def _kept(workspace: Workspace, rules: RulesSource | None) -> str | None:
    """Where in the workspace a copy of an arm's rules lies, which nobody changes while the experiment lasts."""
    if rules is None:
        return None
    text = toml_of("rule", rules.get("rule", [])) if isinstance(rules, Mapping) else _read(Path(rules))
    folder = workspace.root / KIND / "rules"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256(text.encode()).hexdigest()[:16]}.toml"
    if not path.exists():
        write_atomically(path, text)
    return path.relative_to(workspace.root).as_posix()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the rules {path} cannot be read: {error}", "name an existing file of rules") from error
