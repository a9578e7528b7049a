"""Other content vectors than the base's: with something taken away (ablations and controls), and fine-tuned ones.

Each is a workspace with a catalogue and content vectors of its own. Where the encoder keeps image and text in blocks of
their own, leaving one out is leaving out its dimensions, as the encoder itself would; otherwise, and for attributes,
the items are embedded again with less to say. Lexical features and attributes, which are read beside the encoder too,
are shuffled with the vectors, and are taken away with the text or where vectors are random.

An encoder is fine-tuned for each split, on its training interactions and items alone, by a fusion head or an adapter as
`molar finetune` has it. Items without training interactions, such as those that a split holds out, take no part.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.models.base import EvaluationTask, Fitted
from molar_eval.models.baselines import ContentKNN
from molar_eval.modules import of_making
from molar_retrieval import columns, rng
from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.values import join_present
from molar_retrieval.embedding import ContentVectors, embed
from molar_retrieval.embedding.content_vectors import ITEMS, TENSOR, VECTORS
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import registry, sentence
from molar_retrieval.encoders.base import EncoderInfo, VectorBlock, unit
from molar_retrieval.encoders.head import CARD, FAMILY, FusionHead
from molar_retrieval.finetuning.fit import tune
from molar_retrieval.finetuning.head_fit import views
from molar_retrieval.finetuning.inputs import Inputs, TaskTexts, inputs_of, read_texts
from molar_retrieval.finetuning.run import words_by
from molar_retrieval.finetuning.withheld import crossed
from molar_retrieval.models import content_features
from molar_retrieval.models.item_item import known_items
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings, FinetuneSettings, LoraSettings, MolarSettings
from molar_retrieval.workspace.tensors import Matrix, MatrixWriter, Rows

Variant = Literal["full", "no image", "no text", "no attributes", "shuffled content", "random content"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_TEXT = "text"
_BLOCK = {"no image": "content_image", "no text": "content_text"}
_SEED = 0
_VERSION = 2
"""Raised with every change of what a variant is."""
CROSS_MODAL = "catalogue"
"""The fact of a model that tells how well photos and texts of held-out items find each other."""
_HEAD_CODE = ("molar_retrieval.finetuning.fit", "molar_retrieval.finetuning.inputs")
_ADAPTER_CODE = "molar_retrieval.finetuning.adapter"


def content_workspace(
    base: Workspace, variant: Variant, root: Path, settings: EmbedSettings, progress: Progress = SILENT
) -> Workspace:
    """The workspace of a variant below ``root``, made where it does not exist; ``full`` is the base itself.

    Folders are named by what they were made from: the content, and the files of the catalogue as they were read.
    """
    if variant == "full":
        return base
    folder, manifest = base["content"].require()
    made_from = [manifest.fingerprint, base["catalogue"].require()[1].facts.get("sources"), _VERSION]
    name = f"{variant.replace(' ', '-')}-{fingerprint.of_json(made_from)[:16]}"
    workspace = Workspace.for_catalogue(root / name, base.catalogue)
    if workspace["content"].current is not None:
        return workspace
    _write_catalogue(base, workspace, variant)
    content = ContentVectors.open(folder)
    blocks, apart = content.blocks, {block.name for block in content.blocks} >= set(_BLOCK.values())
    if variant == "no attributes" or (variant in _BLOCK and not apart):
        embed(workspace, settings, progress=progress)
        return workspace
    vectors = np.asarray(content.vectors, np.float32)
    if variant == "shuffled content":
        vectors = vectors[_shuffle(len(vectors))]
    elif variant == "random content":
        vectors = unit(rng.generator(_SEED, variant).standard_normal(vectors.shape, np.float32))
    else:
        kept = [block for block in blocks if block.name != _BLOCK[variant]]
        vectors = unit(np.concatenate([vectors[:, block.start : block.stop] for block in kept], axis=1))
        blocks = VectorBlock.side_by_side((block.name, block.stop - block.start) for block in kept)
    write_content(base, workspace, variant, vectors, blocks)
    return workspace


def link(base: Workspace, workspace: Workspace, kind: str) -> None:
    """Let the workspace use the base's live version of one kind, and stay with it."""
    version, _ = base[kind].require()
    place = workspace.root / kind / version.name
    place.parent.mkdir(exist_ok=True)
    if not place.exists():
        place.unlink(missing_ok=True)
        place.symlink_to(version.resolve())
    workspace[kind].switch(version.name)


def _shuffle(count: int) -> Rows:
    return rng.generator(_SEED, "shuffled content").permutation(count)


def write_content(
    base: Workspace,
    workspace: Workspace,
    variant: str,
    vectors: Matrix,
    blocks: tuple[VectorBlock, ...],
    encoder: Mapping[str, Any] | None = None,
) -> None:
    """Publish other vectors of the base's items, shape (n, dim).

    The workspace has the same catalogue, or a variant of it; ``variant`` tells these vectors from others made of the
    same ones; ``encoder`` is what the encoder says of itself, where that is not what the base's said.
    """
    folder, manifest = base["content"].require()
    name = fingerprint.of_json([manifest.fingerprint, variant])
    partial = workspace["content"].partial(name)
    (partial / ITEMS).write_bytes((folder / ITEMS).read_bytes())
    count, dim = vectors.shape
    with MatrixWriter(partial / VECTORS, TENSOR, (count, dim)) as file:
        file.write(np.arange(count), vectors)
    settings = {**manifest.settings, "blocks": [asdict(b) for b in blocks], "variant": variant}
    settings["encoder"] = {**manifest.settings["encoder"], **(encoder or {})}
    inputs = {**manifest.inputs, "catalogue": workspace["catalogue"].require()[1].fingerprint}
    workspace["content"].publish(partial, replace(manifest, fingerprint=name, inputs=inputs, settings=settings))


def _write_catalogue(base: Workspace, workspace: Workspace, variant: Variant) -> None:
    """The base's catalogue with less, or other things, for the encoder and the alignment to read."""
    version, manifest = base["catalogue"].require()
    table, facts = pq.read_table(version / ITEMS_FILE), dict(manifest.facts)
    changed: dict[str, pa.Array | pa.ChunkedArray] = {}
    if variant == "no image":
        changed[columns.IMAGE] = pa.nulls(len(table), pa.string())
    elif variant == "no attributes":
        parts = [table[name].combine_chunks() for name in (columns.TITLE, columns.DESCRIPTION)]
        changed[_TEXT] = join_present(parts, "\n")
    elif variant == "shuffled content":
        order = pa.array(_shuffle(len(table)))
        changed = {name: table[name].take(order) for name in (*Catalogue(version, manifest).attribute_fields, _TEXT)}
    else:
        changed[_TEXT] = pa.nulls(len(table), pa.string())
    if variant in ("no text", "no attributes", "random content"):
        facts["attributes"] = []
    for column, values in changed.items():
        table = table.set_column(table.schema.get_field_index(column), column, values)
    name = fingerprint.of_json([manifest.fingerprint, variant])
    partial = workspace["catalogue"].partial(name)
    pq.write_table(table, partial / ITEMS_FILE, compression="zstd")
    workspace["catalogue"].publish(partial, replace(manifest, fingerprint=name, facts=facts))


@dataclass(frozen=True)
class FineTuning:
    """How content vectors, which the encoder of ``embed`` made for the ``base``, are fine-tuned for a split.

    Fine-tuned vectors and adapters are kept below ``root``. The texts that a head reads are encoded once for all
    splits.
    """

    base: Workspace
    root: Path
    embed: EmbedSettings
    settings: FinetuneSettings
    lora: LoraSettings
    _texts: list[TaskTexts] = field(default_factory=list, init=False, repr=False, compare=False)

    def described(self) -> dict[str, Any]:
        """What shapes the vectors but data and seed, JSON-able."""
        own = {"finetune": self.settings.model_dump(exclude={"seed"})}
        return own | ({"lora": self.lora.model_dump()} if self.with_adapter else {})

    @cached_property
    def with_adapter(self) -> bool:
        """Whether the encoder is a language model, which gets an adapter; others get a head."""
        return self._encoder.family in sentence.ADAPTABLE

    @property
    def _encoder(self) -> EncoderInfo:
        return registry.describe(self.embed, digests_of(self.base))

    def workspace(self, log: Interactions, seed: int, progress: Progress = SILENT) -> Workspace:
        """A workspace with the same catalogue and fine-tuned vectors, made where it does not exist.

        ``seed`` draws the items that are withheld to choose by, and what gradients begin with.
        """
        settings = self.settings.model_copy(update={"seed": seed})
        if self.with_adapter:
            return self._with_adapter(log, settings, progress)
        content, made_from = _content(self.base), self.base["content"].require()[1].fingerprint
        read = [fingerprint.of_bytes([np.ascontiguousarray(array).data]) for array in (log.item, log.offsets)]
        name = fingerprint.of_json([made_from, read, settings.model_dump(), of_making(*_HEAD_CODE)])
        workspace = Workspace.for_catalogue(self.root / f"fine-tuned-{name[:16]}", self.base.catalogue)
        if workspace["content"].current is None:
            link(self.base, workspace, "catalogue")
            if not self._texts:
                catalogue = Catalogue.open(self.base["catalogue"].require()[0])
                self._texts.append(read_texts(catalogue, content, words_by(registry.load(self.embed)), progress))
            inputs = inputs_of(content, self._texts[0], known_items(log), settings.keep, seed)
            head = tune(inputs, log, settings, progress).head
            vectors = head.fused(inputs.words, inputs.photo, inputs.written)
            info = {"family": FAMILY, CROSS_MODAL: cross_modal_recall(head, inputs)}
            write_content(self.base, workspace, name, vectors, head.output_blocks, info)
        return workspace

    def _with_adapter(self, log: Interactions, settings: FinetuneSettings, progress: Progress) -> Workspace:
        """The same by an adapter, whose training goes on where a killed run left it."""
        from molar_retrieval.finetuning.adapter import SplitData, finetune

        split, catalogue = SplitData(log, known_items(log)), self.base["catalogue"].require()[1].fingerprint
        made_from = [catalogue, self._encoder.fingerprint, split.fingerprint]
        name = fingerprint.of_json(
            [*made_from, settings.model_dump(), self.lora.model_dump(), of_making(_ADAPTER_CODE)]
        )
        workspace = Workspace.for_catalogue(self.root / f"fine-tuned-{name[:16]}", self.base.catalogue)
        if workspace["content"].current is None:
            link(self.base, workspace, "catalogue")
            folder = self.root / f"adapter-{name[:16]}"
            if not (folder / CARD).exists():
                lora = self.lora.model_copy(update={"merged": False})
                chosen = MolarSettings(embed=self.embed, finetune=settings, lora=lora)
                report = finetune(workspace, chosen, folder, progress, split=split)
                if report is None or report.interrupted:
                    shutil.rmtree(folder)  # the best so far is not the best of all; training goes on next time
                    raise KeyboardInterrupt
            embed(workspace, self.embed.model_copy(update={"model": str(folder)}), progress=progress)
        return workspace


def cross_modal_recall(head: FusionHead, inputs: Inputs) -> dict[str, list[float]]:
    """Recall@10 of texts by photos, and of photos by texts, of items that fitting did not see, among all items.

    They are found by the encoder itself (``before``) and by the head (``after``); empty without such items.
    """
    pairs = inputs.described.any(axis=1) & inputs.photo.any(axis=1)
    rows = np.flatnonzero(pairs & ~inputs.learn)
    if not len(rows):
        return {}
    both = {"before": inputs.crossing, "after": views(head, inputs)}
    return {name: list(crossed(*sides, rows, inputs.double)) for name, sides in both.items()}


class FineTunedContentKNN(ContentKNN):
    """Content neighbours by fine-tuned vectors."""

    stochastic = True

    def __init__(self, tuning: FineTuning, name: str, dims: int) -> None:
        super().__init__()
        self.name, self.settings = name, {**self.settings, **tuning.described()}
        self._tuning, self._dims = tuning, dims

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> Fitted:
        """See :class:`molar_eval.models.base.Model`."""
        content = _content(self._tuning.workspace(data.training, seed, progress))
        vectors = np.array(content.vectors, np.float32)
        if not content.conditioned:
            vectors = content_features.fit(vectors, content.blocks, self._dims)(vectors)
        fitted = super().fit(replace(data, content=vectors), seed, progress)
        return replace(fitted, facts={**fitted.facts, CROSS_MODAL: content.info.get(CROSS_MODAL, {})})


def _content(workspace: Workspace) -> ContentVectors:
    return ContentVectors.open(workspace["content"].require()[0])
