"""`molar finetune --dry-run`: what is trained, and what it takes on this device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding import dry_run as embed_forecast
from molar_retrieval.embedding.estimate import process_memory
from molar_retrieval.encoders import base, registry
from molar_retrieval.encoders.base import Encoder
from molar_retrieval.encoders.head import PLACES
from molar_retrieval.finetuning.inputs import Words, descriptions_of, parts_of, phrases_of
from molar_retrieval.finetuning.report import Name
from molar_retrieval.finetuning.run import words_by
from molar_retrieval.finetuning.withheld import MOST
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.reports.wording import duration
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

DAY = 86_400
REMEDY = "use a GPU, fewer --examples, a smaller model, or --model builtin"
_SAMPLE = 32
_MORE, _QUICK = 512, 10.0
"""So many texts are encoded after the sample, fewer if that took more seconds: a text among many takes less time."""
_BLOCK, _TRIED = 256, 1.0
"""People whose next items are ranked at once, and seconds for which that is tried."""
_ASKED = 3 * 80
"""How often people's next items are ranked: choices of the behaviour and attributes tasks, on three sets of items."""
_REST = 2.0
"""Time of a fit with everything else, in that of these rankings; from fits of 600 items and of 4,000."""


@dataclass(frozen=True)
class FinetuneForecast:
    """What a run of fine-tuning would take.

    Attributes:
        encoder: That is tuned.
        device: That it would run on.
        parameters: Numbers that are trained.
        memory_bytes: Highest memory while a sample was trained, on the device where that counts it.
        seconds: Predicted duration.
        stages: The same by stage.
        left_out: Why a task takes no part, by task.
        notes: How to read the figures.
    """

    encoder: str
    device: str
    parameters: int
    memory_bytes: int
    seconds: float
    stages: Mapping[str, float]
    left_out: Mapping[Name, str]
    notes: tuple[str, ...]

    @property
    def warning(self) -> str | None:
        """What to say where a processor would take days."""
        if self.device != "cpu" or self.seconds < DAY:
            return None
        return f"this processor would need {self.seconds / DAY:,.0f} days; {REMEDY}"

    def to_dict(self) -> dict[str, Any]:
        """The forecast as plain data."""
        return {**asdict(self), "warning": self.warning}

    def lines(self) -> list[str]:
        """The forecast for people, a warning first."""
        stages = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.stages.items())
        lines = [
            f"{self.encoder}: {self.parameters:,} parameters are trained on {self.device}",
            f"about {duration(self.seconds)} ({stages}), {self.memory_bytes / 1e9:.1f} GB of memory",
        ]
        first = [] if self.warning is None else [f"warning: {self.warning}"]
        return [*first, *lines, *self.notes]


def dry_run(workspace: Workspace, settings: MolarSettings, progress: Progress = SILENT) -> FinetuneForecast:
    """Predict a run that fits a fusion head on a prepared catalogue, and interactions if there are any; writes nothing.

    DataError if the encoder does not keep words and photos apart, BackendError if it is not available.
    """
    embedding = embed_forecast(workspace, settings.embed, progress=progress)
    encoder = registry.load(settings.embed)
    words, photo = parts_of(encoder.blocks, encoder.info.name)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    texts, rate, sampled = _texts(catalogue, encoder)
    kept = [min(settings.finetune.keep, block.stop - block.start, len(catalogue)) for block in (words, photo)]
    behaviour = settings.finetune.behaviour
    factors = settings.finetune.factors if behaviour else 0
    written = min(settings.finetune.keep, len(catalogue) - 1) if behaviour else 0
    stages = {
        "vectors": embedding.seconds if embedding.to_encode else 0.0,
        "texts": texts / rate,
        "fit": _fit_seconds(workspace, settings, len(catalogue), sum(kept) + written + factors),
    }
    conditioned = sum((b.stop - b.start) * (k + 1) for b, k in zip((words, photo), kept, strict=True))
    conditioned += PLACES * (written + 1)
    return FinetuneForecast(
        encoder=encoder.info.name,
        device=base.torch_device(settings.embed),
        parameters=conditioned + kept[0] * (kept[0] + kept[1]) + (sum(kept) + written + 1) * factors,
        memory_bytes=process_memory() + 4 * len(catalogue) * (encoder.dim + 5 * (sum(kept) + written)),
        seconds=round(sum(stages.values()), 1),
        stages={name: round(seconds, 1) for name, seconds in stages.items()},
        left_out={},
        notes=(
            "at most so many parameters: dimensions without content are left out",
            f"texts: {texts:,}, from a sample of {sampled}; the fit from products of its size; both ± 50 %",
        ),
    )


def _texts(catalogue: Catalogue, encoder: Encoder) -> tuple[int, float, int]:
    """How many texts are to be encoded, how many a second are, and of how many that was found out."""
    texts = [text for text in descriptions_of(catalogue)[0] if text is not None] + phrases_of(catalogue)[1]
    encode = words_by(encoder)
    encode(texts[:1] or ["nothing"])
    rate, sampled = _rate(encode, texts, _SAMPLE)
    if (more := min(_MORE, int(rate * _QUICK))) > _SAMPLE < len(texts):
        rate, sampled = _rate(encode, texts, more)
    return len(texts), rate, sampled


def _rate(encode: Words, texts: Sequence[str], most: int) -> tuple[float, int]:
    """How many texts a second are encoded, and of how many, at even distances, that was found out."""
    some = [texts[number * len(texts) // most] for number in range(most)] if len(texts) > most else texts
    began = perf_counter()
    encode(some or ["nothing"])
    return max(1, len(some)) / (perf_counter() - began), len(some)


def _fit_seconds(workspace: Workspace, settings: MolarSettings, items: int, width: int) -> float:
    known = workspace["interactions"].manifest
    interactions = 0 if known is None else int(known.facts["interactions"])
    asked = min(MOST, round(interactions * settings.finetune.withheld)) if settings.finetune.behaviour else 0
    random = rng.generator(0, "a product of the fit's size")
    some = min(items, 20_000)
    left, right = (random.random((n, width), np.float32) for n in (_BLOCK, some))
    began, times = perf_counter(), 0
    while (took := perf_counter() - began) < _TRIED:
        ((left @ right.T) >= 1).sum(axis=1)
        times += 1
    return _REST * _ASKED * (asked / _BLOCK) * (took / times) * items / some
