"""A model's folder, local or from the hub's cache, read without loading it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from molar_retrieval.encoders import digests, hub, trust
from molar_retrieval.encoders.base import MANY_LANGUAGES, EncoderInfo, refuse
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

Kind = Literal["text", "multimodal", "dual", "fused", "adapter"]
FUSED = "molar-fusion"  # model_type of what `molar finetune` writes

_TWO_TOWERS = frozenset({"clip", "siglip", "siglip2", "altclip", "chinese_clip", "align", "metaclip_2"})
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LOADING_HINT = "name a folder with a transformers or sentence-transformers model (config.json or modules.json)"


@dataclass(frozen=True)
class Checkpoint:
    """What a model's files say about it."""

    folder: Path  # of a hub model perhaps still without weights
    revision: str  # the commit of a hub model, the digest of a local folder
    digest: str  # stands for the content in a fingerprint
    config: dict[str, Any]  # config.json, of an adapter adapter_config.json
    modules: list[dict[str, Any]]  # modules.json of sentence-transformers; empty for a bare transformers model
    complete: Callable[[], Path]  # gives the folder with the weights, fetching them where that is allowed

    @property
    def kind(self) -> Kind:
        """Whether it reads text, text and images in one vector, each in a vector of its own, or changes another one."""
        if "peft_type" in self.config:
            return "adapter"
        if self.config.get("model_type") == FUSED:
            return "fused"
        if self.config.get("model_type") in _TWO_TOWERS:
            return "dual"
        return "multimodal" if "vision_config" in self.config else "text"

    @property
    def is_language_model(self) -> bool:
        """Whether it is a generative language model by origin: large, and pooled at the last token."""
        architectures = self.config.get("architectures") or [""]
        return self.kind == "multimodal" or architectures[0].endswith("ForCausalLM")

    @property
    def licence(self) -> str:
        """Of the weights, as the model's card says; ``unknown`` where it does not."""
        return next(iter(self._card("license")), "unknown")

    @property
    def languages(self) -> tuple[str, ...]:
        """As the model's card says (ISO 639; ``mul``: many); empty where it does not."""
        return tuple(MANY_LANGUAGES if name == "multilingual" else name for name in self._card("language"))

    def _card(self, key: str) -> list[str]:
        """What stands under a key in the front matter of the model's read-me file, in lower case."""
        import yaml

        try:
            front = _FRONT.match((self.folder / "README.md").read_text("utf-8", "replace"))
            found = yaml.load(front[1], yaml.BaseLoader) if front else {}
        except (OSError, yaml.YAMLError):
            return []
        value = found.get(key) if isinstance(found, dict) else None
        return [str(one).lower() for one in (value if isinstance(value, list) else [value]) if one]

    def info(
        self,
        settings: EmbedSettings,
        family: str,
        adapter: int,
        modalities: tuple[str, ...],
        choices: Mapping[str, Any],
    ) -> EncoderInfo:
        """What an encoder says about itself that runs these files; ``choices`` are all else that changes the output."""
        return EncoderInfo(
            name=settings.model,
            family=family,
            revision=self.revision,
            licence=self.licence,
            languages=self.languages,
            modalities=modalities,
            fingerprint=fingerprint.of_json([family, adapter, self.digest, choices]),
            settings=choices,
        )

    @property
    def prompt(self) -> str | None:
        """The model's own instruction for documents: ``document``, else ``passage``, ``corpus``, else its default."""
        saved = _json(self.folder / "config_sentence_transformers.json")
        prompts = saved.get("prompts") or {}
        names = [*_DOCUMENT_PROMPTS, saved.get("default_prompt_name")]
        return next((str(prompts[name]) for name in names if prompts.get(name)), None)


def locate(settings: EmbedSettings, cache: Path | None = None) -> Checkpoint:
    """Find the model that the settings name: a local folder, or a hub model in the cache or on the hub.

    Raises:
        SettingsError: If the folder does not exist or holds no model.
        BackendError: If a hub model is not available, or the model brings code that this run does not trust.
    """
    path = Path(settings.model).expanduser()
    if path.is_dir():
        refuse(settings, "revision", why="a local folder has none")
        digest = digests.of_folder(path, cache)
        return _read(settings, path, digest, digest, lambda: _with_weights(path))
    if settings.model.startswith((".", "/", "~")) or "\\" in settings.model or settings.model.count("/") > 1:
        raise SettingsError(f"there is no folder {settings.model}", "correct embed.model (--model)")
    found = hub.snapshot(settings.model, settings.revision, offline=settings.offline)
    digest = f"{found.name}@{found.commit}"
    return _read(settings, found.folder, found.commit, digest, lambda: hub.complete(found, offline=settings.offline))


def main_folder(folder: Path, modules: list[dict[str, Any]]) -> Path:
    """Where ``config.json`` and the weights of a model's first module lie."""
    return folder / str(modules[0].get("path", "")) if modules else folder


def _read(
    settings: EmbedSettings, folder: Path, revision: str, digest: str, complete: Callable[[], Path]
) -> Checkpoint:
    def examined() -> Path:
        whole = complete()
        trust.check(whole, settings)  # again: more has come with the weights
        return whole

    modules = _json(folder / "modules.json") or []
    config = _json(main_folder(folder, modules) / "config.json") or _json(folder / "adapter_config.json")
    if not modules and not config:
        raise SettingsError(f"the folder {folder} holds no model: neither config.json nor modules.json", _LOADING_HINT)
    trust.check(folder, settings)
    return Checkpoint(folder, revision, digest, config, modules, examined)


def _with_weights(folder: Path) -> Path:
    if not hub.has_weights(folder):
        raise BackendError(
            f"the folder {folder} holds no weights, or not all of them (*.safetensors, *.bin)", "copy the whole model"
        )
    return folder


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is unreadable: {error}", _LOADING_HINT) from error
