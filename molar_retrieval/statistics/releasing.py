"""From a log to the artefact ``statistics``, by way of the ledger: the one place where noise is put on people's data.

Nothing that was drawn leaves this process before the ledger has its entry on the disk. A release of the same log at the
same ε and δ is found again, and costs nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from molar_retrieval import fingerprint
from molar_retrieval.alignment.conditioning import fit
from molar_retrieval.arrays import Matrix
from molar_retrieval.catalog import Catalogue
from molar_retrieval.catalog.features import hashed_sayings
from molar_retrieval.collaborative.factors import open_log
from molar_retrieval.disk import require
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.remembered import of_folder
from molar_retrieval.encoders import fused, head, tuned_folder
from molar_retrieval.errors import DataError, SettingsError, StaleArtefactError
from molar_retrieval.experts.content_knn import compressed, principal
from molar_retrieval.interactions.log import InteractionLog
from molar_retrieval.pinned import Pinned, pin
from molar_retrieval.privacy_settings import PrivacySettings
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.statistics.artefact import KIND, save_statistics
from molar_retrieval.statistics.ledger import PrivacyLedger
from molar_retrieval.statistics.mechanism import Mechanism
from molar_retrieval.statistics.release import release
from molar_retrieval.statistics.terms import ContentTerms
from molar_retrieval.versions import library_versions
from molar_retrieval.workspace import Manifest, Workspace

KEPT = 8
"""Older releases that stay: each was paid for, and is found again where its log is."""
_FEATURES = 1024
_FAR_BELOW = 0.1
"""People times δ, above which somebody may be told of as a whole without the promise being broken."""


def release_statistics(
    workspace: Workspace,
    settings: PrivacySettings,
    content_dims: int,
    progress: Progress = SILENT,
    *,
    like: ContentTerms | None = None,
    shops: int | None = None,
    exactly: bool = False,
    work: str = "molar align --privacy",
) -> tuple[Path, Manifest, bool]:
    """Statistics of the workspace's log at the settings' ε and δ: those that were released, or new ones.

    The last of what is returned says whether something was released. What is live stays so, until
    :func:`molar_retrieval.statistics.sharing.beside_others` makes these live with all that is to be added to them.

    Args:
        workspace: Whose.
        settings: With ε, δ and the year's budget.
        content_dims: As of ``[align]``.
        progress: Told of the steps.
        like: In which terms a new release tells content; None: in those of the workspace's own catalogue.
        shops: How many shops add up what they release; None: one.
        exactly: Whether what was released before must be in these terms, and for so many shops, where they are named.
        work: The command, for people and the ledger.

    Raises:
        MissingArtefactError: If content vectors or prepared interactions are missing.
        StaleArtefactError: If they do not belong together, or the ledger is damaged.
        DataError: If the budget does not bear it, or the log is empty.
        SettingsError: If the encoder has learned from people, so that content is no longer public.
        DiskError: If the disk is too small.
    """
    with (
        pin(workspace, "catalogue", "content", "interactions", work=work) as read,
        workspace.lock(KIND, f"releasing statistics of {workspace.root}"),
    ):
        store, ledger = workspace[KIND], PrivacyLedger(workspace.root)
        encoder = _public_encoder(read)
        log = open_log(read)
        if not len(log):
            raise DataError("no interactions are there to be counted", "bring a log")
        digest = log_digest(log)
        wanted = (like.digest if like and exactly else None, shops if exactly else None)
        if (found := _released_before(read, ledger, settings, digest, encoder, wanted)) is not None:
            return found, Manifest.read(found), False
        if like is not None and like.encoder["fingerprint"] != encoder["fingerprint"]:
            raise DataError(
                f"looks are told there by {like.encoder['name']}, and the vectors here are by {encoder['name']}",
                "embed with the same encoder, or release in terms of your own",
            )
        ledger.check(settings)
        if settings.delta * log.n_users > _FAR_BELOW:
            progress.note(f"δ = {settings.delta:g} is not far below one in as many people: set [privacy] delta")
        require(store.root, 4 * _FEATURES * log.n_items, "statistics take about")
        terms, features = _terms(read, content_dims, encoder, like)
        mechanism = Mechanism.of(settings.epsilon or 0.0, settings.delta)
        released = release(log, features, mechanism, progress, shops=shops or 1)
        read.confirm()
        entry = ledger.spend(settings, mechanism.sigma, digest, work)  # from here on it may be seen
        partial = store.partial(entry.name)
        facts = save_statistics(partial, released, log.items, terms)
        facts |= {"ledger": entry.name, "terms": terms.digest, "shops": shops or 1, **released.facts()}
        chosen = {"epsilon": entry.epsilon, "delta": entry.delta}
        versions = library_versions("numpy", "scipy")
        manifest = Manifest(KIND, entry.name, settings=chosen, facts=facts, versions=versions)
        folder = store.publish(partial, manifest, keep=KEPT, live=False)
    return folder, Manifest.read(folder), True


def is_released(workspace: Workspace, settings: PrivacySettings) -> bool:
    """Whether statistics of the workspace's log were released at the settings' ε and δ, so that they cost nothing.

    Raises:
        MissingArtefactError: If content vectors or prepared interactions are missing.
        StaleArtefactError: If the ledger is damaged.
        SettingsError: If the encoder has learned from people, so that content is no longer public.
    """
    with pin(workspace, "catalogue", "content", "interactions", work="molar align --privacy") as read:
        digest, encoder = log_digest(open_log(read)), _public_encoder(read)
        return _released_before(read, PrivacyLedger(read.root), settings, digest, encoder, (None, None)) is not None


def _terms(
    read: Workspace, content_dims: int, encoder: dict[str, Any], like: ContentTerms | None = None
) -> tuple[ContentTerms, Matrix]:
    """In which terms content is told, the catalogue's unless others are given; and all items in them, (n_items, d)."""
    content = ContentVectors.open(read["content"].require()[0])
    attributes = hashed_sayings(Catalogue.open(read["catalogue"].require()[0]))
    if like is not None:
        return replace(like, encoder=encoder), compressed(like.conditioner(content.vectors, attributes), like.axes)
    conditioner = fit(content.vectors, content.blocks, content_dims, attributes, ready=content.conditioned)
    features = conditioner(content.vectors, attributes)
    axes = principal(features)
    return ContentTerms(encoder, conditioner, axes), compressed(features, axes)


def log_digest(log: InteractionLog) -> str:
    """What a release depends on: which items each history has, in order, by their ids; nobody's name, no time."""
    own = np.array([int(fingerprint.of_bytes([item.encode()])[:16], 16) for item in log.items.array.to_pylist()], "<u8")
    strength = [] if log.strength is None else [np.ascontiguousarray(log.strength).tobytes()]
    return fingerprint.of_bytes([log.offsets.astype("<i8").tobytes(), own[log.item].tobytes(), *strength])


def _released_before(
    read: Pinned,
    ledger: PrivacyLedger,
    settings: PrivacySettings,
    digest: str,
    encoder: Mapping[str, Any],
    wanted: tuple[str | None, int | None],
) -> Path | None:
    """The version of a release of this log at this ε and δ, in terms of the same encoder; None where there is none.

    It is in the terms, and for the number of shops, that are ``wanted``, where these are not None.
    """
    names = {
        entry.name
        for entry in ledger.entries()
        if (entry.log, entry.epsilon, entry.delta) == (digest, settings.epsilon, settings.delta)
    }
    for folder in reversed(read[KIND].versions()):
        try:
            facts = Manifest.read(folder).facts
        except StaleArtefactError:  # it is damaged, and another one is paid for
            continue
        own = (facts.get("terms"), facts.get("shops", 1))
        fits = all(one is None or one == other for one, other in zip(wanted, own, strict=True))
        if fits and facts.get("ledger") in names and facts.get("encoder") == encoder:
            return folder
    return None


def _public_encoder(read: Workspace) -> dict[str, Any]:
    """Name and fingerprint of the encoder; a SettingsError where it was fine-tuned on what people took."""
    settings = read["content"].require()[1].settings
    made_by = settings["encoder"]
    folder = Path(of_folder(settings.get("embed", {}), read.root).get("model", ""))
    account = fused.read_account(folder) or tuned_folder.read_account(folder)
    tasks = account.get("tasks", ()) if account else ()
    learned = [task for task in tasks if task["name"] == "behaviour" and task.get("left_out") is None]
    if learned or (not account and made_by.get("family") == head.FAMILY):
        raise SettingsError(
            f"the encoder {made_by['name']} was fine-tuned on what people took: its vectors tell of them without noise",
            "embed with the encoder beneath (`molar embed --model builtin`), or fine-tune with `[finetune] behaviour ="
            " false`",
        )
    return {name: made_by[name] for name in ("name", "fingerprint")}
