"""Content vectors by an encoder that is fine-tuned for each split: on its training interactions, and on no other items.

The texts that fine-tuning reads are encoded once for all splits; items without training interactions, such as those
that a split holds out, take no part.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from molar_eval.models.base import Kind, Task
from molar_eval.models.content import ContentKNN
from molar_eval.models.tuning import Fitted
from molar_eval.models.variants import link, write_content
from molar_eval.modules import of_modules
from molar_retrieval import fingerprint
from molar_retrieval.catalog import Catalogue
from molar_retrieval.config import EmbedSettings, FinetuneSettings
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.head import FAMILY
from molar_retrieval.experts.histories import known_items
from molar_retrieval.finetuning.fit import tune
from molar_retrieval.finetuning.inputs import Texts, inputs_of, read_texts
from molar_retrieval.finetuning.run import words_by
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Workspace

_FITTING = ("molar_retrieval.finetuning.fit", "molar_retrieval.finetuning.inputs")


@dataclass(frozen=True)
class Tuning:
    """How content vectors are fine-tuned for a split.

    Attributes:
        base: The whole catalogue's workspace with its content vectors.
        root: Where encoded texts and fine-tuned vectors are kept.
        embed: The encoder that made the vectors.
        settings: Which tasks, and how.
    """

    base: Workspace
    root: Path
    embed: EmbedSettings
    settings: FinetuneSettings

    def workspace(self, log: InteractionLog, progress: Progress = SILENT) -> Workspace:
        """A workspace with the same catalogue and fine-tuned vectors, made where it does not exist.

        Args:
            log: Training interactions.
            progress: Told of the work.
        """
        content = ContentVectors.open(self.base["content"].require()[0])
        read = [fingerprint.of_bytes([np.ascontiguousarray(array).data]) for array in (log.item, log.offsets)]
        made_from = self.base["content"].require()[1].fingerprint
        name = fingerprint.of_json([made_from, read, self.settings.model_dump(), of_modules(*_FITTING)])
        workspace = Workspace.for_catalogue(self.root / f"fine-tuned-{name[:16]}", self.base.catalogue)
        if workspace["content"].current is None:
            link(self.base, workspace, "catalogue")
            texts = self._texts(content, made_from, progress)
            inputs = inputs_of(content, texts, known_items(log), self.settings.keep, self.settings.seed)
            head = tune(inputs, log, self.settings, progress).head
            vectors = head.fused(inputs.words, inputs.photo)
            write_content(self.base, workspace, name, vectors, head.output_blocks, {"family": FAMILY})
        return workspace

    def _texts(self, content: ContentVectors, made_from: str, progress: Progress) -> Texts:
        catalogue = Catalogue.open(self.base["catalogue"].require()[0])
        file = self.root / f"texts-{made_from[:16]}.safetensors"
        if file.exists():
            found = load_file(file)
            shape = (len(found["told"]), len(found["phrases"]))
            holders = csr_matrix((found["data"], found["indices"], found["indptr"]), shape)
            return Texts(found["told"], found["double"], found["phrases"], holders)
        texts = read_texts(catalogue, content, words_by(registry.load(self.embed)), progress)
        held = {name: getattr(texts.holders, name) for name in ("data", "indices", "indptr")}
        partial = file.with_suffix(".partial")
        save_file({"told": texts.told, "double": texts.double, "phrases": texts.phrases, **held}, partial)
        partial.replace(file)
        return texts


class TunedContentKNN(ContentKNN):
    """Content neighbours by fine-tuned vectors.

    Args:
        tuning: How they are fine-tuned.
        name: As it stands in tables.
    """

    kind: Kind = "baseline"

    def __init__(self, tuning: Tuning, name: str) -> None:
        super().__init__()
        self.name = name
        self._tuning = tuning
        self.settings = {**self.settings, "finetune": tuning.settings.model_dump()}

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> Fitted:
        """See :class:`molar_eval.models.base.Model`."""
        workspace = self._tuning.workspace(task.training, progress)
        vectors = np.array(ContentVectors.open(workspace["content"].require()[0]).vectors, np.float32)
        return super().fit(replace(task, content=vectors), seed, progress)
