"""The gate before every model: what in a folder would run code, or unpickle, and whether this run allows it.

Trust is given by a run (:meth:`EmbedSettings.trusting`); what a file says of it is a reason to refuse the folder. A
top-level ``auto_map`` is left to transformers, which has own classes for some of these models and refuses the others.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from molar_retrieval.errors import BackendError
from molar_retrieval.workspace.settings import EmbedSettings

REMEDY = "if you trust its authors, say --trust-remote-code on the command line (in Python: settings.embed.trusting())"
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


def check(folder: Path, settings: EmbedSettings) -> None:
    """Refuse a model that brings code of its own, unless this run trusts it; a BackendError names the file."""
    if settings.trusts_code:
        return
    for name, why in _code(folder):
        raise BackendError(f"the model {settings.model!r} brings code of its own: {name} {why}", REMEDY)


def _code(folder: Path) -> Iterator[tuple[str, str]]:
    """Files that ask for code, and how."""
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True):
        place = Path(root)
        folders[:] = [name for name in folders if _first(seen, os.path.realpath(place / name))]
        if "custom_generate" in folders:
            yield (place / "custom_generate").relative_to(folder).as_posix(), "is there to be run"
        for name in names:
            if name.endswith(".json") and name not in _NO_ARGUMENTS and not name.endswith(".index.json"):
                for why in _asked(place / name):
                    yield (place / name).relative_to(folder).as_posix(), why


def _first(seen: set[str], path: str) -> bool:
    new = path not in seen
    seen.add(path)
    return new


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
