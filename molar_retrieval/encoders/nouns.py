"""What the text models of the built-in encoders make of the 1000 ImageNet names, made once and kept beside the code.

The names never change and take seconds to read (MiniLM 2, E5 13 on one core), longer than photos of a hundred items.
Each file of ``name_vectors/`` says which weights made it; where others are installed the names are read anew.
``python bench/name_vectors.py`` writes the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open

from molar_retrieval.encoders.fusion import Rows

FOLDER = Path(__file__).with_name("name_vectors")
NAMES, CENTRE = "names", "centre"
LONGEST = 13  # tokens of the longest name


def kept(model: str, weights: Sequence[str], limit: int) -> Mapping[str, Rows]:
    """What is kept of a model: ``names``, shape (1000, width), and what else it derives from them.

    It is empty where other weights made it, by their digests, or where ``limit`` tokens would have cut a name.
    """
    with safe_open(FOLDER / f"{model}.safetensors", framework="numpy") as file:
        if (file.metadata() or {}).get("weights") != " ".join(weights) or limit < LONGEST:
            return {}
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a file, not a mapping
