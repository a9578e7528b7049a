"""Models by hub name: from the local cache as they are, without a network; else, if that is allowed, from the hub."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from molar_retrieval.errors import BackendError

_DESCRIPTIONS = ["*.json", "*.jinja", "*.txt", "*.md", "*.py", "*.model"]
_OTHER_RUNTIMES = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.tflite", "*.gguf", "coreml/*"]


@dataclass(frozen=True)
class Snapshot:
    """One commit of a hub model (``organisation/model``) on this machine."""

    name: str
    commit: str
    folder: Path


def snapshot(name: str, revision: str | None, *, offline: bool) -> Snapshot:
    """The cached commit of a model; else its description (not the weights) is fetched, or it is a BackendError.

    Names without an organisation are those of sentence-transformers, too.
    """
    names = [name] if "/" in name else [name, f"sentence-transformers/{name}"]
    for candidate in names:
        if (found := cached(candidate, revision)) is not None:
            return found
    if offline or offline_by_environment():
        raise BackendError(
            f"the model {name!r}{_at(revision)} is not in the local cache {cache_root()}, and offline is asked for",
            f"run once without --offline, or copy the model's folder here and name the folder ({_command(names[-1])})",
        )
    return _download(names[-1], revision, allow=_DESCRIPTIONS)


def complete(found: Snapshot, *, offline: bool) -> Path:
    """The folder of a commit with its weights, which are fetched where they are missing, or a BackendError."""
    if has_weights(found.folder):
        return found.folder
    if offline or offline_by_environment():
        raise BackendError(
            f"the weights of {found.name!r} are not in the local cache {cache_root()}, and offline is asked for",
            f"run once without --offline ({_command(found.name)})",
        )
    return _download(found.name, found.commit, allow=None).folder


def cached(name: str, revision: str | None) -> Snapshot | None:
    """The commit of a model that the cache holds for ``revision``, or None."""
    root = cache_root() / f"models--{name.replace('/', '--')}"
    wanted = revision or "main"
    commit = wanted
    if not (root / "snapshots" / wanted).is_dir():
        try:
            commit = (root / "refs" / wanted).read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
    folder = root / "snapshots" / commit
    described = any((folder / file).exists() for file in ("config.json", "modules.json"))
    return Snapshot(name, commit, folder) if commit and described else None


def cache_root() -> Path:
    """Where huggingface_hub keeps models, by the same variables (``HF_HUB_CACHE``, ``HF_HOME``)."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    general = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(general, "huggingface"))  # noqa: PTH118 - may hold "~"
    return Path(home).expanduser() / "hub"


def offline_by_environment() -> bool:
    """Whether the environment forbids the hub."""
    yes = {"1", "on", "yes", "true"}
    return any(os.environ.get(name, "").lower() in yes for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights, and all shards that an index of weights names."""
    sharded = False
    for index in folder.rglob("*.index.json"):
        shards = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if shards and all((index.parent / shard).exists() for shard in shards):
            return True
        sharded = sharded or bool(shards)
    return not sharded and any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*") if path.exists())


def _download(name: str, revision: str | None, *, allow: list[str] | None) -> Snapshot:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_root(),
            allow_patterns=allow,
            ignore_patterns=_OTHER_RUNTIMES,
            etag_timeout=10.0,
        )
    except Exception as error:  # the hub's client lets errors of its HTTP library through
        reason = str(error).strip().partition("\n")[0]
        raise BackendError(
            f"the model {name!r}{_at(revision)} is not in the local cache and the hub does not give it: {reason}",
            "name a local folder, a model that is in the cache (--offline uses nothing else) or builtin; "
            f"where there is a network: {_command(name)}",
        ) from error
    return Snapshot(name, Path(folder).name, Path(folder))


def _at(revision: str | None) -> str:
    return f" (revision {revision})" if revision else ""


def _command(name: str) -> str:
    return f"`hf download {name}`"
