"""Fine-tuned encoders: another encoder's vectors, moved by a fusion head that `molar finetune` fitted, in NumPy.

The encoder's blocks (words, photo) are conditioned each by itself (:mod:`molar_retrieval.models.content_features`).
What an item lacks of the two is guessed from the other. Then the blocks and the words as they are written stand side
by side, each as long as it has proven useful, and beside them what all of it says of who takes the item.

Words as they are written are a short vector too: latent semantic analysis (Deerwester et al. 1990) of hashed words. A
sentence encoder reads what a text means and blurs what it literally says: names of people, of series, of cuts. Words
are hashed to places (Weinberger et al. 2009, arXiv 0902.2206), rare ones weigh more, and the places are turned to their
principal axes.

In a folder, ``config.json`` holds the base encoder's settings and the head's account, ``model.safetensors`` its arrays.
The base encoder is not copied; it must be the very one that was tuned. An adapter of a language model, which
`molar finetune` writes as well, has its account in ``molar.json``.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from molar_retrieval import rng
from molar_retrieval.columns import CONTENT
from molar_retrieval.data.text_features import counted
from molar_retrieval.encoders.base import (
    Encoder,
    EncoderInfo,
    EncoderInput,
    EncoderPlan,
    Planner,
    Rows,
    VectorBlock,
    fuse,
    refuse,
    refuse_precision,
    unit,
)
from molar_retrieval.encoders.checkpoint import FUSED, Checkpoint, locate
from molar_retrieval.errors import BackendError, DataError, SettingsError
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.settings import EmbedSettings

FAMILY = "fine-tuned"  # of encoders that end in such a head, whose vectors need no conditioning any more
HEAD_VERSION = 2  # of what this file does to vectors
PLACES = 8192
CONFIG, WEIGHTS, CARD, ACCOUNT = "config.json", "model.safetensors", "README.md", "molar.json"
_FEWEST = 2  # texts that must share a word before it says anything of likeness
_FAINTEST = 1e-4  # strength of an axis, as a share of the strongest one, below which there is nothing on it
_MAPS = ("seen", "shown", "attributes", "taken", "usual")
_LEXICAL = ("rarity", "axes", "mean")
_BASE = ("model", "revision", "dim", "dtype", "prompt", "photos", "max_text_tokens", "image_pixels")
"""Settings that shape the vectors of the base encoder."""


def word_counts(texts: Iterable[str | None]) -> csr_matrix:
    """How often each text uses the words of each place, damped to ``1 + log n``, shape (n_texts, 8192), float32."""
    found = counted(texts, PLACES)
    found.data = 1 + np.log(found.data)
    return found


@dataclass(frozen=True, eq=False)
class Lexical:
    """From counts of words to vectors."""

    rarity: Rows  # weight of each place, shape (8192,)
    axes: Rows  # from places to dimensions, shape (8192, d)
    mean: Rows  # of the vectors that it was fitted on, shape (d,)

    @classmethod
    def none(cls) -> Self:
        """Words as they are written say nothing."""
        return cls(np.zeros(PLACES, np.float32), np.zeros((PLACES, 0), np.float32), np.zeros(0, np.float32))

    @classmethod
    def fit(cls, found: csr_matrix, keep: int) -> Self:
        """At most ``keep`` principal axes of some texts by their :func:`word_counts`."""
        from scipy.sparse.linalg import svds

        found = found[np.diff(found.indptr) > 0]
        held = np.bincount(found.indices, minlength=PLACES)
        rarity = np.where(held >= _FEWEST, np.log(max(1, found.shape[0]) / np.maximum(held, 1)), 0).astype(np.float32)
        weighted = _weighted(found, rarity)
        most = min(keep, found.shape[0] - 1)
        if most < 1 or not weighted.nnz:
            return cls.none()
        start = rng.generator(0, "lexical axes").random(min(weighted.shape)).astype(np.float32)
        _, strength, turned = svds(weighted, k=most, v0=start)
        axes = np.ascontiguousarray(turned[strength > _FAINTEST * strength.max()].T, np.float32)
        plain = cls(rarity, axes, np.zeros(axes.shape[1], np.float32))
        return cls(rarity, axes, plain(found).mean(axis=0))

    def __call__(self, found: csr_matrix) -> Rows:
        """Vectors of texts by their counts: (n, 8192) → (n, d), rows of length 1, or 0 where no word is known."""
        turned = unit(np.asarray(_weighted(found, self.rarity) @ self.axes, np.float32))
        return np.where(turned.any(axis=1, keepdims=True), unit(turned - self.mean), np.float32(0))


def _weighted(found: csr_matrix, rarity: Rows) -> csr_matrix:
    """Rows of length 1, rare words the longer."""
    weighted = csr_matrix((found.data * rarity[found.indices], found.indices, found.indptr), shape=found.shape)
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
    weighted.data *= np.repeat(scale, np.diff(weighted.indptr))
    weighted.eliminate_zeros()
    return weighted


@dataclass(frozen=True, eq=False)
class FusionHead:
    """A map from an encoder's vectors to fine-tuned ones."""

    blocks: tuple[VectorBlock, ...]  # of the encoder's vectors: words, then photo
    means: tuple[Rows, ...]  # of each block, shape (width,)
    maps: tuple[Rows, ...]  # from each block to its dimensions here, shape (width, kept)
    lexical: Lexical  # what stands for the words as they are written
    seen: Rows  # from the photo to words that an item lacks, longer the surer it is, shape (kept of photo, of words)
    shown: Rows  # the same from words to the photo, shape (kept of the words, kept of the photo)
    attributes: Rows  # added to the words, as a function of them, shape (kept of the words, kept of the words)
    taken: Rows  # what all of that says of who takes an item, shape (all kept, r)
    usual: Rows  # what is added to it: the same for every item, shape (r,)
    shares: tuple[float, ...]  # of the words, of the photo, of the words as written and of taken; their sum is 1

    @classmethod
    def plain(
        cls, blocks: Sequence[VectorBlock], means: Sequence[Rows], maps: Sequence[Rows], lexical: Lexical
    ) -> Self:
        """A head that only conditions, both blocks as important, without the words as they are written."""
        words, photo = (matrix.shape[1] for matrix in maps)
        return cls(
            blocks=tuple(blocks),
            means=tuple(means),
            maps=tuple(maps),
            lexical=lexical,
            seen=np.zeros((photo, words), np.float32),
            shown=np.zeros((words, photo), np.float32),
            attributes=np.zeros((words, words), np.float32),
            taken=np.zeros((0, 0), np.float32),
            usual=np.zeros(0, np.float32),
            shares=(0.5, 0.5, 0.0, 0.0),
        )

    @property
    def output_blocks(self) -> tuple[VectorBlock, ...]:
        """Where the dimensions of a fine-tuned vector stem from; words as written are words."""
        words, photo = ((block.name, matrix.shape[1]) for block, matrix in zip(self.blocks, self.maps, strict=True))
        written = len(self.lexical.mean) if self.shares[2] else 0
        widths = [(words[0], words[1] + written), photo, (CONTENT, self.taken.shape[1])]
        return VectorBlock.side_by_side(one for one in widths if one[1])

    @property
    def dim(self) -> int:
        """Length of a fine-tuned vector."""
        return self.output_blocks[-1].stop

    def __call__(self, vectors: npt.NDArray[np.floating], texts: Sequence[str | None]) -> Rows:
        """Fine-tuned vectors of n items: (n, dim of the encoder) and n texts → (n, dim), rows of length 1 or 0."""
        return self.fused(*self.conditioned(vectors), self.lexical(word_counts(texts)))

    def conditioned(self, vectors: npt.NDArray[np.floating]) -> tuple[Rows, Rows]:
        """Words and photo apart, shape (n, kept) each, rows of length 1 or 0."""
        words, photo = (
            _conditioned(vectors[:, block.start : block.stop], mean, matrix)
            for block, mean, matrix in zip(self.blocks, self.means, self.maps, strict=True)
        )
        return words, photo

    def words(self, block: npt.NDArray[np.floating]) -> Rows:
        """Words alone: (n, width of the block) → (n, kept)."""
        return _conditioned(block, self.means[0], self.maps[0])

    def read(self, words: Rows) -> Rows:
        """Conditioned words, brought to what attributes say of them."""
        return unit(words + words @ self.attributes)

    def fused(self, words: Rows, photo: Rows, written: Rows) -> Rows:
        """Fine-tuned vectors from the conditioned parts, and the words as they are written."""
        words = self.read(words)
        words, photo = _completed(words, photo, self.seen), _completed(photo, words, self.shown)
        parts = [
            (self.shares[0], words),
            *([(self.shares[2], written)] if self.shares[2] else []),
            (self.shares[1], photo),
        ]
        most = 1 - self.shares[3]
        said = fuse([(share / most, part) for share, part in parts])
        if not self.shares[3]:
            return said
        taken = np.where(said.any(axis=1, keepdims=True), unit(said @ self.taken + self.usual), np.float32(0))
        return fuse([(most, said), (self.shares[3], taken)])

    def to_tensors(self) -> dict[str, Rows]:
        """The arrays by name."""
        found = {name: getattr(self, name) for name in _MAPS}
        for name in ("means", "maps"):
            found |= {f"{name}.{n}": array for n, array in enumerate(getattr(self, name))}
        found |= {f"lexical.{name}": getattr(self.lexical, name) for name in _LEXICAL}
        return {name: np.ascontiguousarray(array) for name, array in found.items()}

    def described(self) -> dict[str, Any]:
        """The rest, JSON-able."""
        return {"blocks": [[b.name, b.start, b.stop] for b in self.blocks], "shares": list(self.shares)}

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Rows]) -> Self:
        """The inverse of the two."""
        blocks = tuple(VectorBlock(*block) for block in described["blocks"])
        means, maps = (tuple(tensors[f"{name}.{n}"] for n in (0, 1)) for name in ("means", "maps"))
        shares = tuple(float(share) for share in described["shares"])
        lexical = Lexical(*(tensors[f"lexical.{name}"] for name in _LEXICAL))
        return cls(blocks, means, maps, lexical, **{name: tensors[name] for name in _MAPS}, shares=shares)


def _completed(part: Rows, other: Rows, guess: Rows) -> Rows:
    """A part with what the other one says where it is missing."""
    lacking = ~part.any(axis=1)
    if lacking.any():
        part = part.copy()
        part[lacking] = other[lacking] @ guess
    return part


def _conditioned(block: npt.NDArray[np.floating], mean: Rows, matrix: Rows) -> Rows:
    own = unit(np.asarray(block, np.float32))
    return np.where(own.any(axis=1, keepdims=True), unit((own - mean) @ matrix), np.float32(0))


def plan_fused(settings: EmbedSettings, checkpoint: Checkpoint, plan_of: Planner) -> EncoderPlan:
    """Describe the fine-tuned encoder in a folder.

    Raises:
        SettingsError: If the folder is damaged, or the settings do not fit.
        BackendError: If the base encoder is not here, or another one than was tuned.
    """
    refuse(settings, "dim", "prompt", why="it was fine-tuned with its own")
    refuse_precision(settings)
    base_settings, wanted = _base(settings, checkpoint)
    under = plan_of(base_settings)
    base = under.info
    if base.fingerprint != wanted:
        raise BackendError(
            f"{checkpoint.folder} tunes {base_settings.model} as of {wanted[:16]}, and {base.fingerprint[:16]} is here",
            "run `molar finetune` again, or install what it was made with",
        )
    info = replace(
        base,
        name=settings.model,
        family=FAMILY,
        revision=checkpoint.revision,
        fingerprint=fingerprint.of_json([FAMILY, HEAD_VERSION, checkpoint.digest, base.fingerprint]),
        settings={"base_model": base.name, **base.settings},
    )
    return EncoderPlan(info, lambda: FusedEncoder(info, under.load(), _head(checkpoint)))


def base_and_head(settings: EmbedSettings) -> tuple[EmbedSettings, FusionHead]:
    """The settings of a fine-tuned encoder's base, and the head; SettingsError where the folder holds none."""
    checkpoint = locate(settings)
    return _base(settings, checkpoint)[0], _head(checkpoint)


def _base(settings: EmbedSettings, checkpoint: Checkpoint) -> tuple[EmbedSettings, str]:
    """Settings of the base encoder, and its fingerprint when it was tuned."""
    try:
        tuned = checkpoint.config["molar"]
        own = {key: value for key, value in tuned["embed"].items() if key in _BASE}
        return settings.model_copy(update={"dtype": "auto", **own}), tuned["fingerprint"]
    except (KeyError, TypeError, AttributeError) as error:
        raise _lacks(checkpoint, CONFIG, error) from error


def _head(checkpoint: Checkpoint) -> FusionHead:
    try:
        described = checkpoint.config["molar"]["head"]
    except (KeyError, TypeError) as error:
        raise _lacks(checkpoint, CONFIG, error) from error
    try:
        return FusionHead.of(described, load_file(checkpoint.complete() / WEIGHTS))
    except KeyError as error:
        raise _lacks(checkpoint, WEIGHTS, error) from error


def _lacks(checkpoint: Checkpoint, file: str, error: Exception) -> SettingsError:
    return SettingsError(f"{checkpoint.folder / file} lacks {error}", "run `molar finetune` again")


class FusedEncoder:
    """Another encoder, which keeps words and photo apart, and a head that moves its vectors."""

    def __init__(self, info: EncoderInfo, base: Encoder, head: FusionHead) -> None:
        self.info = info
        self.dim = head.dim
        self.blocks = head.output_blocks
        self._base = base
        self._head = head

    def encode(self, items: Sequence[EncoderInput]) -> Rows:
        """See :meth:`molar_retrieval.encoders.base.Encoder.encode`."""
        return self._head(self._base.encode(items), [item.text for item in items])


def save_head(
    folder: Path, head: FusionHead, base: EmbedSettings, made_from: str, account: Mapping[str, Any], card: str
) -> None:
    """Write a fine-tuned encoder; one that the folder held before stays until this one is complete.

    ``made_from`` is the base encoder's fingerprint, ``account`` says in JSON how the head was made. A DataError says
    that the folder holds something else.
    """
    made = staging_folder(folder)
    embed = base.model_dump(mode="json", include=set(_BASE))
    molar = {"embed": embed, "fingerprint": made_from, "head": head.described(), "account": dict(account)}
    save_file(head.to_tensors(), made / WEIGHTS)
    (made / CARD).write_text(card, "utf-8")
    (made / CONFIG).write_text(json.dumps({"model_type": FUSED, "molar": molar}, indent=1), "utf-8")
    swap_folder(folder, made)


def is_head(folder: Path) -> bool:
    """Whether a folder holds a fine-tuned encoder with a fusion head."""
    return _json(folder / CONFIG).get("model_type") == FUSED


def read_account(folder: Path) -> dict[str, Any]:
    """How `molar finetune` made the head or the adapter in a folder; empty where there is no whole one."""
    if not is_head(folder):
        return _json(folder / ACCOUNT)
    molar = _json(folder / CONFIG).get("molar") if (folder / WEIGHTS).is_file() else None
    account = molar.get("account") if isinstance(molar, dict) else None
    return account if isinstance(account, dict) else {}


def write_account(folder: Path, account: Mapping[str, Any]) -> None:
    """Keep how an adapter was trained."""
    (folder / ACCOUNT).write_text(json.dumps(dict(account), indent=1), "utf-8")


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_target(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier fine-tuned encoder by a DataError."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (is_head(folder) or (folder / ACCOUNT).is_file()):
        raise DataError(f"{folder} holds something else", "name a new folder with --output")


def staging_folder(folder: Path) -> Path:
    """An empty folder beside ``folder`` to write into, after :func:`check_target`."""
    check_target(folder)
    made = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def swap_folder(folder: Path, made: Path) -> None:
    """Put a complete folder in its place; the one before stays until then."""
    previous = folder.with_name(f".{folder.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if folder.exists():
        folder.rename(previous)
    made.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
