"""Content vectors by an encoder that is fine-tuned for each split: on its training interactions, and on no other items.

An encoder that keeps words and photos apart gets a head, a language model an adapter, as `molar finetune` has it.

What it learned is asked by its neighbours, and by finding the texts of items that took no part by their photos. The
texts that fine-tuning reads are encoded once for all splits; items without training interactions, such as those that a
split holds out, take no part.
"""

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from molar_eval.models.base import Task
from molar_eval.models.baselines import ContentKNN
from molar_eval.models.tuning import Fitted
from molar_eval.models.variants import Variant, content_workspace, link, write_content
from molar_eval.modules import of_making
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.embedding import ContentVectors, embed
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import adapter, registry
from molar_retrieval.encoders.base import EncoderInfo
from molar_retrieval.encoders.head import FAMILY, FusionHead
from molar_retrieval.encoders.tuned_folder import CARD
from molar_retrieval.errors import DataError
from molar_retrieval.finetuning.fit import tune
from molar_retrieval.finetuning.head_fit import views
from molar_retrieval.finetuning.inputs import Inputs, TaskTexts, inputs_of, read_texts, written_of
from molar_retrieval.finetuning.run import words_by
from molar_retrieval.finetuning.withheld import crossed
from molar_retrieval.models import content_features
from molar_retrieval.models.item_item import known_items
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings, FinetuneSettings, LoraSettings, MolarSettings

Reads = Literal["both", "words", "photos"]
FOUND = "catalogue"
"""Under this name a model's facts tell how well photos and texts of held-out items find each other."""
_FITTING = ("molar_retrieval.finetuning.fit", "molar_retrieval.finetuning.inputs")
_TRAINING = "molar_retrieval.finetuning.lora.run"


@dataclass(frozen=True)
class Tuning:
    """How content vectors, which the encoder of ``embed`` made for the ``base``, are fine-tuned for a split.

    Encoded texts and fine-tuned vectors are kept below ``root``.
    """

    base: Workspace
    root: Path
    embed: EmbedSettings
    settings: FinetuneSettings
    lora: LoraSettings
    reads: Reads = "both"

    def described(self) -> dict[str, Any]:
        """What shapes the vectors but data and seed, JSON-able."""
        own = {"finetune": self.settings.model_dump(exclude={"seed"}), "reads": self.reads}
        return own | ({"lora": self.lora.model_dump()} if self.by_gradient else {})

    @cached_property
    def by_gradient(self) -> bool:
        """Whether the encoder gets an adapter."""
        return self._encoder.family in adapter.FAMILIES

    @property
    def _encoder(self) -> EncoderInfo:
        return registry.describe(self.embed, digests_of(self.base))

    def workspace(self, log: Interactions, seed: int, progress: Progress = SILENT) -> Workspace:
        """A workspace with the same catalogue and fine-tuned vectors, made where it does not exist.

        ``seed`` draws the items that are withheld to choose by, and what gradients begin with. A DataError says that
        the encoder has no such part.
        """
        settings = self.settings.model_copy(update={"seed": seed})
        if self.by_gradient:
            return self._adapted(log, settings, progress)
        content = _content(self.base)
        read = [fingerprint.of_bytes([np.ascontiguousarray(array).data]) for array in (log.item, log.offsets)]
        made_from = self.base["content"].require()[1].fingerprint
        name = fingerprint.of_json([made_from, read, settings.model_dump(), self.reads, of_making(*_FITTING)])
        workspace = Workspace.for_catalogue(self.root / f"fine-tuned-{name[:16]}", self.base.catalogue)
        if workspace["content"].current is None:
            link(self.base, workspace, "catalogue")
            texts = self._texts(content, made_from, progress)
            inputs = _only(inputs_of(content, texts, known_items(log), settings.keep, seed), self.reads)
            head = tune(inputs, log, settings, progress).head
            vectors = head.fused(inputs.words, inputs.photo, inputs.written)
            account = {"family": FAMILY, FOUND: found(head, inputs)}
            write_content(self.base, workspace, name, vectors, head.output_blocks, account)
        return workspace

    def _adapted(self, log: Interactions, settings: FinetuneSettings, progress: Progress) -> Workspace:
        """The same by an adapter, which is trained on where a killed run left it."""
        from molar_retrieval.finetuning.lora.run import Lessons, finetune

        if self.reads != "both":
            raise DataError(f"a language model does not keep {self.reads} apart", "leave the model out")
        lessons, catalogue = Lessons(log, known_items(log)), self.base["catalogue"].require()[1].fingerprint
        made_from = [catalogue, self._encoder.fingerprint, lessons.fingerprint]
        name = fingerprint.of_json([*made_from, settings.model_dump(), self.lora.model_dump(), of_making(_TRAINING)])
        workspace = Workspace.for_catalogue(self.root / f"fine-tuned-{name[:16]}", self.base.catalogue)
        if workspace["content"].current is None:
            link(self.base, workspace, "catalogue")
            folder = self.root / f"adapter-{name[:16]}"
            lora = self.lora.model_copy(update={"merged": False})
            chosen = MolarSettings(embed=self.embed, finetune=settings, lora=lora)
            if not (folder / CARD).exists():
                report = finetune(workspace, chosen, folder, progress, lessons=lessons)
                if report is None or report.interrupted:
                    shutil.rmtree(folder)  # the best so far is not the best of all; training goes on next time
                    raise KeyboardInterrupt
            embed(workspace, self.embed.model_copy(update={"model": str(folder)}), progress=progress)
        return workspace

    def _texts(self, content: ContentVectors, made_from: str, progress: Progress) -> TaskTexts:
        catalogue = Catalogue.open(self.base["catalogue"].require()[0])
        file = self.root / f"texts-{made_from[:16]}.safetensors"
        if file.exists():
            found = load_file(file)
            shape = (len(found["told"]), len(found["phrases"]))
            holders = csr_matrix((found["data"], found["indices"], found["indptr"]), shape)
            return TaskTexts(found["told"], found["double"], found["phrases"], holders, written_of(catalogue))
        texts = read_texts(catalogue, content, words_by(registry.load(self.embed)), progress)
        held = {name: getattr(texts.holders, name) for name in ("data", "indices", "indptr")}
        partial = file.with_suffix(".partial")
        save_file({"told": texts.described, "double": texts.double, "phrases": texts.phrases, **held}, partial)
        partial.replace(file)
        return texts


def found(head: FusionHead, inputs: Inputs) -> dict[str, list[float]]:
    """Recall@10 of texts by photos, and of photos by texts, of items that fitting did not see, among all items.

    They are found by the encoder itself (``before``) and by the head (``after``); empty without such items.
    """
    pairs = inputs.described.any(axis=1) & inputs.photo.any(axis=1)
    rows = np.flatnonzero(pairs & ~inputs.learn)
    if not len(rows):
        return {}
    both = {"before": inputs.crossing, "after": views(head, inputs)}
    return {name: list(crossed(*sides, rows, inputs.double)) for name, sides in both.items()}


def _only(inputs: Inputs, reads: Reads) -> Inputs:
    """The inputs as if there were no photos, or no words."""
    if reads == "words":
        return replace(inputs, photo=np.zeros_like(inputs.photo))
    if reads == "photos":
        spoken = ("words", "written", "described", "named", "half_named")
        return replace(inputs, **{name: np.zeros_like(getattr(inputs, name)) for name in spoken})
    return inputs


class PartContentKNN(ContentKNN):
    """Content neighbours by words alone, or by photos alone."""

    def __init__(self, base: Workspace, root: Path, options: MolarSettings, variant: Variant, name: str) -> None:
        super().__init__()
        self.name, self.settings = name, {**self.settings, "content": variant}
        self._made_from = base, variant, root, options.embed
        self._dims = options.align.content_dims

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """See :class:`molar_eval.models.base.Model`."""
        content = _content(content_workspace(*self._made_from, progress))
        fitted = content_features.fit(content.vectors, content.blocks, self._dims)
        return super().fit(replace(task, content=fitted(content.vectors)), seed, progress)


class TunedContentKNN(ContentKNN):
    """Content neighbours by fine-tuned vectors."""

    stochastic = True

    def __init__(self, tuning: Tuning, name: str, dims: int) -> None:
        super().__init__()
        self.name, self.settings = name, {**self.settings, **tuning.described()}
        self._tuning, self._dims = tuning, dims

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """See :class:`molar_eval.models.base.Model`."""
        content = _content(self._tuning.workspace(task.training, seed, progress))
        vectors = np.array(content.vectors, np.float32)
        if not content.conditioned:
            vectors = content_features.fit(vectors, content.blocks, self._dims)(vectors)
        fitted = super().fit(replace(task, content=vectors), seed, progress)
        return replace(fitted, facts={**fitted.facts, FOUND: content.info.get(FOUND, {})})


def _content(workspace: Workspace) -> ContentVectors:
    return ContentVectors.open(workspace["content"].require()[0])
