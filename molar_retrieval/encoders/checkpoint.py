"""A model's files, in a folder, the hub's cache or a Python package, read without loading the model.

The digest of a folder stands for all bytes of all files that can change what the model puts out. Hub models are taken
from the local cache as they are, without a network; else, if that is allowed, from the hub.

No library reads a model before :func:`check_trust` has looked for what in its folder would run code, or unpickle. Trust
is given by a run (:meth:`EmbedSettings.trusting`); what a file says of it is a reason to refuse the folder. A top-level
``auto_map`` is left to transformers, which has own classes for some of these models and refuses the others.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import util
from importlib.metadata import files
from pathlib import Path
from typing import Any, Literal

from molar_retrieval.encoders.base import MANY_LANGUAGES, TRUST_REMEDY, EncoderInfo, refuse
from molar_retrieval.errors import BackendError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.settings import EmbedSettings

Kind = Literal["text", "multimodal", "dual", "fused", "adapter"]
FUSED = "molar-fusion"  # model_type of what `molar finetune` writes

_TWO_TOWERS = frozenset({"clip", "siglip", "siglip2", "altclip", "chinese_clip", "align", "metaclip_2"})
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LOADING_HINT = "name a folder with a transformers or sentence-transformers model (config.json or modules.json)"

_DESCRIPTIONS = ["*.json", "*.jinja", "*.txt", "*.md", "*.py", "*.model"]
_NOT_FETCHED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "coreml/*"]

_OTHER_RUNTIMES = frozenset({"onnx", "openvino", "coreml", "flax", "tf"})
_NOT_READ = frozenset({".md", ".png", ".jpg", ".jpeg", ".onnx", ".h5", ".msgpack", ".ot", ".tflite", ".gguf", ".lock"})
_TORCH_PICKLES = frozenset({".bin", ".pt", ".pth"})
_OWN = "digest of this file"

_CLASSES = re.compile(
    r"sentence_transformers\.([a-z_.]+\.)?(Transformer|Pooling|Normalize|Dense|LayerNorm|Dropout|WeightedLayerPooling"
    r"|StaticEmbedding|CLIPModel|Router|Asym|LSTM|CNN|BoW|Word(Embeddings|Weights)|(Whitespace|Phrase)Tokenizer"
    r"|TransformersTokenizerWrapper)"
)
"""Parts of a sentence-transformers model; anything else that has a ``load`` could be named in their place."""
_OPENING = {"trust_remote_code": (False, None), "weights_only": (True,)}
"""Arguments by which a file would lift a restriction, and the values that lift none."""
_FETCHING = frozenset({"allow_all_kernels", "use_kernels", "kernel_config", "custom_generate", "code_revision"})
_NO_ARGUMENTS = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
"""Large tables that no library takes arguments from; so are indexes of weights."""


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
    def prompt(self) -> str | None:
        """The model's own instruction for documents: ``document``, else ``passage``, ``corpus``, else its default."""
        saved = _json(self.folder / "config_sentence_transformers.json")
        prompts = saved.get("prompts") or {}
        names = [*_DOCUMENT_PROMPTS, saved.get("default_prompt_name")]
        return next((str(prompts[name]) for name in names if prompts.get(name)), None)

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
        version: int,
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
            fingerprint=fingerprint.of_json([family, version, self.digest, choices]),
            settings=choices,
        )


def locate(settings: EmbedSettings, cache: Path | None = None) -> Checkpoint:
    """Find the model that the settings name: a local folder, or a hub model in the cache or on the hub.

    Raises:
        SettingsError: If the folder does not exist or holds no model.
        BackendError: If a hub model is not available, or the model brings code that this run does not trust.
    """
    name = settings.model
    folder = Path(name).expanduser()
    local = folder.is_dir()
    if local:
        refuse(settings, "revision", why="a local folder has none")
        revision = digest = folder_digest(folder, cache)
    else:
        if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
            raise SettingsError(f"there is no folder {name}", "correct embed.model (--model)")
        name, folder = _described(name, settings)
        revision, digest = folder.name, f"{name}@{folder.name}"

    def complete() -> Path:
        whole = folder
        if not has_weights(folder):
            if local:
                raise BackendError(
                    f"the folder {folder} holds no weights, or not all of them (*.safetensors, *.bin)",
                    "copy the whole model",
                )
            if _is_offline(settings):
                raise BackendError(
                    f"the weights of {name!r} are not in the local cache {cache_root()}, and offline is asked for",
                    f"run once without --offline (`hf download {name}`)",
                )
            whole = _download(name, revision, allow=None)
        check_trust(whole, settings)  # again: more has come with the weights
        return whole

    modules = _json(folder / "modules.json") or []
    config = _json(main_folder(folder, modules) / "config.json") or _json(folder / "adapter_config.json")
    if not modules and not config:
        raise SettingsError(f"the folder {folder} holds no model: neither config.json nor modules.json", _LOADING_HINT)
    check_trust(folder, settings)
    return Checkpoint(folder, revision, digest, config, modules, complete)


def main_folder(folder: Path, modules: list[dict[str, Any]]) -> Path:
    """Where ``config.json`` and the weights of a model's first module lie."""
    return folder / str(modules[0].get("path", "")) if modules else folder


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights, and all shards that an index of weights names."""
    sharded = False
    for index in folder.rglob("*.index.json"):
        shards = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if shards and all((index.parent / shard).exists() for shard in shards):
            return True
        sharded = sharded or bool(shards)
    return not sharded and any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*") if path.exists())


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is unreadable: {error}", _LOADING_HINT) from error


def cache_root() -> Path:
    """Where huggingface_hub keeps models."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def offline_by_environment() -> bool:
    """Whether the environment forbids the hub."""
    from huggingface_hub import constants

    return bool(constants.is_offline_mode())


def _is_offline(settings: EmbedSettings) -> bool:
    return settings.offline or offline_by_environment()


def _described(name: str, settings: EmbedSettings) -> tuple[str, Path]:
    """Name and cached commit of a hub model; else its description (not the weights) is fetched, or a BackendError.

    Names without an organisation are those of sentence-transformers, too.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    names = [name] if "/" in name else [name, f"sentence-transformers/{name}"]
    for candidate in names:
        for file in ("config.json", "modules.json"):
            try:
                found = try_to_load_from_cache(candidate, file, cache_root(), settings.revision)
            except HFValidationError as error:
                raise SettingsError(f"there is no folder {name!r}, and it is no name of a model", str(error)) from error
            if isinstance(found, str):
                return candidate, Path(found).parent
    if _is_offline(settings):
        at = f" (revision {settings.revision})" if settings.revision else ""
        raise BackendError(
            f"the model {name!r}{at} is not in the local cache {cache_root()}, and offline is asked for",
            "run once without --offline, or copy the model's folder here and name the folder "
            f"(`hf download {names[-1]}`)",
        )
    return names[-1], _download(names[-1], settings.revision, allow=_DESCRIPTIONS)


def _download(name: str, revision: str | None, *, allow: list[str] | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_root(),
            allow_patterns=allow,
            ignore_patterns=_NOT_FETCHED,
            etag_timeout=10.0,
        )
    except Exception as error:  # the hub's client lets errors of its HTTP library through
        reason, at = str(error).strip().partition("\n")[0], f" (revision {revision})" if revision else ""
        raise BackendError(
            f"the model {name!r}{at} is not in the local cache and the hub does not give it: {reason}",
            "name a local folder, a model that is in the cache (--offline uses nothing else) or builtin; "
            f"where there is a network: `hf download {name}`",
        ) from error
    return Path(folder)


def package_folder(module: str, *, distribution: str, install: str) -> Path:
    """Where a package with weights keeps its files; a BackendError with the command that installs it if it is absent.

    It is not imported.
    """
    spec = util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BackendError(f"the package {distribution} is not installed", f"run `{install}`")
    return Path(spec.submodule_search_locations[0])


def package_digest(distribution: str, file: Path) -> str:
    """What stands for a file's content: the hash that its installer recorded; where it kept none, the file is read."""
    for entry in files(distribution) or []:
        if entry.name == file.name and entry.hash is not None and Path(str(entry.locate())) == file:
            return f"{entry.hash.mode}:{entry.hash.value}"
    return fingerprint.of_file(file)


def folder_digest(folder: Path, cache: Path | None = None) -> str:
    """The digest of a model's folder; the same wherever the folder lies.

    The cache, a JSON file, remembers the digest of each file under its path, size and time of change, so that gigabytes
    are read once.
    """
    known: dict[str, Any] = {}
    if cache is not None and cache.exists():
        try:
            read = json.loads(cache.read_text("utf-8"))
            own = read.pop(_OWN)
            known = read if own == fingerprint.of_json(read) else {}
        except (ValueError, AttributeError, KeyError, TypeError):
            pass  # damaged, which is no harm: everything is read again
    fresh, parts = dict(known), []
    for path in sorted(_relevant_files(folder)):
        stat = path.stat()
        key, stamp = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        entry = known.get(key)
        digest = entry[2] if entry and entry[:2] == stamp else fingerprint.of_file(path)
        fresh[key] = [*stamp, digest]
        parts.append([path.relative_to(folder).as_posix(), digest])
    if cache is not None and fresh != known:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, json.dumps({**fresh, _OWN: fingerprint.of_json(fresh)}, indent=0))
    return fingerprint.of_json(parts)


def _relevant_files(folder: Path) -> Iterator[Path]:
    """The files under ``folder`` that can change what the model puts out."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in _OTHER_RUNTIMES and not name.startswith(".")]
        safetensors = any(name.endswith(".safetensors") for name in names)
        for name in names:
            suffix = Path(name).suffix.lower()
            skipped = suffix in _NOT_READ or name.startswith(".") or (safetensors and suffix in _TORCH_PICKLES)
            if not skipped:
                yield Path(root) / name


def check_trust(folder: Path, settings: EmbedSettings) -> None:
    """Refuse a model that brings code of its own, unless this run trusts it; a BackendError names the file."""
    if settings.trusts_code:
        return
    for name, why in _code(folder):
        raise BackendError(f"the model {settings.model!r} brings code of its own: {name} {why}", TRUST_REMEDY)


def _code(folder: Path) -> Iterator[tuple[str, str]]:
    """Files that ask for code, and how."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        place = Path(root)
        if (real := os.path.realpath(root)) in seen:  # a link that leads in circles
            folders.clear()
            continue
        seen.add(real)
        if "custom_generate" in folders:
            yield (place / "custom_generate").relative_to(folder).as_posix(), "is there to be run"
        for name in names:
            if name.endswith(".json") and name not in _NO_ARGUMENTS and not name.endswith(".index.json"):
                for why in _asked(place / name):
                    yield (place / name).relative_to(folder).as_posix(), why


def _asked(file: Path) -> Iterator[str]:
    try:
        content = json.loads(file.read_bytes())
    except RecursionError:  # a library with more of its stack left might read it
        yield "is nested too deeply to be examined"
        return
    except (OSError, ValueError):  # nobody can read it
        return
    stack: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, list):
            stack += [((*path, ""), one) for one in value]
        elif isinstance(value, dict):
            for key, one in value.items():
                if why := _argument(file.name, path, key, one):
                    yield why
                stack.append(((*path, key), one))


def _argument(file: str, path: tuple[str, ...], key: str, value: Any) -> str | None:
    """Why an argument would run code, or None."""
    if (key in _OPENING and value not in _OPENING[key]) or (key in _FETCHING and value):
        return f"says {key}"
    if key == "auto_map" and path and value:
        return "names classes of its own within a part"
    if key.endswith(("attn_implementation", "experts_implementation")) and "/" in json.dumps(value):
        return f"takes {key} from a hub"
    names = (file == "modules.json" and key == "type") or path[-1:] == ("types",)
    names = names or (key == "tokenizer_class" and "." in str(value))
    return f"names the class {value}" if names and not _CLASSES.fullmatch(str(value)) else None
