"""`molar finetune`: from a catalogue, its vectors and its log to a folder that `molar embed --model` takes."""

import time
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.run import digests_of
from molar_retrieval.encoders import head, registry
from molar_retrieval.encoders.base import Encoder, EncoderInput
from molar_retrieval.encoders.head import check_target
from molar_retrieval.errors import DataError
from molar_retrieval.finetuning.fit import tune
from molar_retrieval.finetuning.inputs import Words, inputs_of, read_texts
from molar_retrieval.finetuning.report import FinetuneReport, TaskOutcome, card
from molar_retrieval.models.als import held_out
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import MolarSettings

_MADE_FROM = "made_from"
_READ = ("catalogue", "interactions")
"""What a head is fitted from, beside the encoder."""


def unchanged(workspace: Workspace, settings: MolarSettings, folder: Path) -> FinetuneReport | None:
    """The report of an earlier run that fitted this folder's head from the very same, or None; reads no vectors."""
    account = head.read_account(folder)
    if account.get(_MADE_FROM) != _made_from(workspace, settings):
        return None
    own = {field.name for field in fields(FinetuneReport)} & set(account)
    found = {name: account[name] for name in own} | {"folder": folder, "up_to_date": True}
    return FinetuneReport(**{**found, "tasks": tuple(TaskOutcome(**task) for task in account["tasks"])})


def _made_from(workspace: Workspace, settings: MolarSettings) -> str:
    encoder = registry.describe(settings.embed, digests_of(workspace)).fingerprint
    read = [None if (one := workspace[kind].manifest) is None else one.fingerprint for kind in _READ]
    chosen = settings.model_dump(mode="json", include={"finetune", "split"})
    return fingerprint.of_json([head.HEAD_VERSION, encoder, read, chosen])


def finetune(
    workspace: Workspace, settings: MolarSettings, folder: Path, progress: Progress = SILENT
) -> FinetuneReport:
    """Fit a fusion head over the encoder that made the workspace's content vectors.

    It goes into ``folder``. Only training interactions are read, where there are any: what validates `molar align` is
    left out here as well.

    Raises:
        DataError: If the encoder is fine-tuned already or does not keep words and photos apart, or the folder holds
            something else.
        StaleArtefactError: If the vectors or the log are not of the catalogue.
        BackendError: If the encoder is not available.
    """
    check_target(folder)
    began = time.perf_counter()
    with pin(workspace, "catalogue", "content", optional=("interactions",), work="molar finetune") as read:
        catalogue = Catalogue.open(read["catalogue"].require()[0])
        version, manifest = read["content"].require()
        content = ContentVectors.open(version)
        name = str(content.info["name"])
        if content.conditioned:
            raise DataError(f"{name} is fine-tuned already", "name the encoder beneath it, such as --model builtin")
        log = held_out(read, settings.split).training if "interactions" in read.names else None
        texts = read_texts(catalogue, content, words_by(registry.load(settings.embed)), progress)
        ready = time.perf_counter()
        own = settings.finetune
        inputs = inputs_of(content, texts, np.ones(len(catalogue), bool), own.keep, own.seed)
        tuned = tune(inputs, log, own, progress)
        report = FinetuneReport(
            folder=folder,
            encoder=name,
            items=len(catalogue),
            interactions=0 if log is None else len(log),
            withheld=tuned.withheld,
            tasks=tuned.tasks,
            chosen=asdict(tuned.chosen),
            parameters=sum(array.size for array in tuned.head.to_tensors().values()),
            seconds={"texts": round(ready - began, 1), "fit": round(time.perf_counter() - ready, 1)},
        )
        account = report.account() | {
            _MADE_FROM: _made_from(read, settings),
            "content": manifest.fingerprint,
            "settings": own.model_dump(mode="json"),
        }
        base = str(content.info["fingerprint"])
        head.save_head(folder, tuned.head, settings.embed, base, account, card(report, content.info))
        return report


def words_by(encoder: Encoder) -> Words:
    """Encodes texts alone."""
    return lambda texts: encoder.encode([EncoderInput(text=text) for text in texts])
