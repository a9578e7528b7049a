"""From a log to the artefact ``statistics``, by way of the ledger: the one place that reads histories for statistics.

**Contributions.** What one person adds to the sums are vectors of whole numbers, each as long as a radius at most,
computed from the person's own history and from public data alone, scaled and cut towards zero.

**Release.** Each sum gets noise. Nothing that was drawn leaves this process before the ledger has its entry on the
disk. A release of the same log at the same ε and δ is found again, and costs nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags_array, vstack

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.run import find_model_folder
from molar_retrieval.encoders import head
from molar_retrieval.errors import DataError, SettingsError, StaleArtefactError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.content_features import fit
from molar_retrieval.models.content_knn import compressed, principal
from molar_retrieval.models.item_item import binary, moved
from molar_retrieval.privacy.ledger import PrivacyLedger
from molar_retrieval.privacy.mechanism import GRID, GaussianMechanism, Whole, discrete_gaussian
from molar_retrieval.privacy.statistics import (
    FILE,
    KIND,
    PAIRS,
    PEOPLE,
    POPULARITY,
    THRESHOLD,
    TRANSITIONS,
    ContentBasis,
    DPStatistics,
    SharedStatistics,
    write_shared,
)
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest, Workspace
from molar_retrieval.workspace.files import require_space
from molar_retrieval.workspace.pinned import PinnedWorkspace, pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.settings import PrivacySettings
from molar_retrieval.workspace.tensors import Matrix

LATEST = 2_000
"""Latest interactions of a person that count."""
WINDOW, DECAY = 10, 0.9
"""How many places apart two interactions lie at most to be a pair, and what a place between them leaves of it."""
_ROWS = 1 << 15
_MARGIN = 1 - 1e-9
"""What floating point may get wrong of a length."""


def latest(log: Interactions) -> Interactions:
    """The log without what is too long ago in a history for it to count."""
    ends = np.repeat(log.offsets[1:], np.diff(log.offsets))
    return log.select(ends - np.arange(len(log)) <= LATEST)


def people_sum(log: Interactions, radius: int) -> Whole:
    """How many people took anything, shape (1,)."""
    return np.array([np.count_nonzero(np.diff(log.offsets)) * radius])


def popularity_sums(log: Interactions, radius: int) -> Whole:
    """What people had, every item once a person, shape (n_items,)."""
    own = _contributed(binary(log), radius)
    return np.bincount(own.indices, own.data, minlength=log.n_items).astype(np.int64)


def pair_sums(log: Interactions, radius: int) -> csr_matrix:
    """Pairs of different items that one person took near to each other, shape (n_items, n_items), int64.

    Row i is of what came after item i.
    """
    width = log.n_items
    total = csr_matrix((1, width**2), dtype=np.int64)
    for block in _blocks(log):
        near = _near(block).tocoo()
        first, second = block.item[near.col], block.item[near.row]
        cells = block.user[near.row], first * np.int64(width) + second
        own = _contributed(csr_matrix((near.data * (first != second), cells), (block.n_users, width**2)), radius)
        summed = csr_matrix((own.data, own.indices, [0, own.nnz]), shape=(1, width**2))
        summed.sum_duplicates()  # else the sum takes memory for every pair there could be
        total = total + summed
    total.eliminate_zeros()
    return total.reshape(width, width).tocsr()


def transition_sums(log: Interactions, features: Matrix, radius: int) -> Whole:
    """After what each item was taken: decayed sums of the features of what the same person took just before.

    Features have shape (n_items, d), and so has the result, int64.
    """
    n_items, d = features.shape
    total = np.zeros(n_items * d, np.int64)
    for block in _blocks(log):
        past = _near(block) @ features[block.item].astype(np.float64)
        cells = block.item.astype(np.int64)[:, None] * d + np.arange(d)
        told = csr_matrix((past.ravel(), (np.repeat(block.user, d), cells.ravel())), (block.n_users, n_items * d))
        own = _contributed(told, radius)
        total += np.bincount(own.indices, own.data, minlength=len(total)).astype(np.int64)
    return total.reshape(n_items, d)


def _contributed(own: csr_matrix, radius: int) -> csr_matrix:
    """People's vectors, the rows, each scaled to the radius, in whole numbers."""
    own = own.astype(np.float64)
    own.sum_duplicates()
    people, person = own.shape[0], np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
    length = np.sqrt(np.bincount(person, own.data**2, minlength=people))
    scale = np.divide(radius * _MARGIN, length, out=np.zeros(people), where=length > 0)
    own.data = np.trunc(own.data * scale[person])
    own.data[np.bincount(person, own.data**2, minlength=people)[person] > radius**2] = 0  # but for faults, nobody
    return own.astype(np.int64)


def _blocks(log: Interactions) -> Iterator[Interactions]:
    """The people, some at a time, so that what is made of their interactions fits in memory."""
    begin = 0
    while begin < log.n_users:
        end = max(begin + 1, int(np.searchsorted(log.offsets, log.offsets[begin] + _ROWS, side="right")) - 1)
        yield log.of_users(np.arange(begin, end))
        begin = end


def _near(log: Interactions) -> csr_matrix:
    """How much each interaction, as a row, has to do with each earlier one of the same person, shape (n, n)."""
    user, strength = log.user, np.ones(len(log)) if log.strength is None else log.strength.astype(np.float64)
    n, total = len(log), csr_matrix((len(log), len(log)))
    for distance in range(1, min(WINDOW, n - 1) + 1):
        same = user[distance:] == user[:-distance]
        values = same * DECAY ** (distance - 1) * strength[:-distance] * strength[distance:]
        total = total + diags_array(values, offsets=-distance, shape=(n, n), format="csr")
    return csr_matrix(total)


FIRST = {PEOPLE: 0.01, POPULARITY: 0.05}
"""Shares of the square of a person's length for what is released first …"""
TINY, FEW, MANY = {POPULARITY: 0.94}, {TRANSITIONS: 0.94}, {TRANSITIONS: 0.19, PAIRS: 0.75}
"""… and for the rest, by that: popularity again, where it does not stand out of the noise yet; else more."""
CLEAR = 2.0
"""Mean square of the noised counts, in variances of their noise, from which popularity stands out."""
FROM = 16_000
"""People per unit of noise from which there are pairs: of fewer, noise on every pair leaves next to nothing.

Content, which is public, has fewer numbers to be learned. Chosen on validation cases of MovieLens-1M.
"""
LOWEST = 2.0
"""Pairs that other shops add to are kept from so many standard deviations on at least, else nearly all would be."""
MOST = 20_000
"""Items of which pairs are released, those of the highest noised popularity: every two of them get noise."""
_EXACT = 2**20
_CELLS = 1 << 23


def dp_release(
    log: Interactions, features: Matrix, mechanism: GaussianMechanism, progress: Progress = SILENT, *, shops: int = 1
) -> DPStatistics:
    """Noised sums over the people of a log: how many there are, what they had, after what, and what went together.

    A person's vectors have together length 1 at most, whatever their history
    (:mod:`molar_retrieval.privacy.dp_release`), and each sum gets noise for the share of that length that it has,
    by ``mechanism.sigma``. How the rest is shared out, and which items have pairs, is decided by what was released
    before: Gaussian releases of which later ones depend on the results of earlier ones take together what one of the
    whole length does (Dong, Roth, Su 2022, doi:10.1111/rssb.12454). Histories are read in order, with the strength of
    their kinds.

    ``features`` are conditioned content of all items, shape (n_items, f); public, so made without any log. Where so
    many ``shops`` of about this size add up what they release, which is public, what is worth its noise in the sum is
    released, and pairs are kept that are too weak in one shop alone.
    """
    log, axes = latest(log), compressed(features)
    progress.start("private statistics", 3)
    first = {name: radius_of(share, mechanism) for name, share in FIRST.items()}
    (people,) = (_noised(people_sum(log, first[PEOPLE]), mechanism) / first[PEOPLE]).tolist()
    counts = _noised(popularity_sums(log, first[POPULARITY]), mechanism) / first[POPULARITY]
    progress.advance()
    shares = divided(people, counts, mechanism, shops)
    radius = first | {name: radius_of(share, mechanism) for name, share in shares.items()}
    if POPULARITY in shares:
        again = _noised(popularity_sums(log, radius[POPULARITY]), mechanism) / radius[POPULARITY]
        one, other = first[POPULARITY] ** 2, radius[POPULARITY] ** 2
        counts, radius[POPULARITY] = (one * counts + other * again) / (one + other), (one + other) ** 0.5
    transitions = np.zeros((log.n_items, 0))
    if TRANSITIONS in shares:
        transitions = _noised(transition_sums(log, axes, radius[TRANSITIONS]), mechanism) / radius[TRANSITIONS]
    progress.advance()
    pairs = csr_matrix((log.n_items, log.n_items), dtype=np.float32)
    threshold = max(THRESHOLD / shops**0.5, min(THRESHOLD, LOWEST))
    if PAIRS in shares:
        pairs = _pairs(log, counts, radius[PAIRS], mechanism, threshold)
    progress.finish()
    deviations = {name: (GRID if mechanism.sigma else 0) / own for name, own in radius.items()}
    arrays = counts.astype(np.float32), transitions.astype(np.float32), pairs
    return DPStatistics(mechanism, people, *arrays, deviations, threshold)


def radius_of(share: float, mechanism: GaussianMechanism) -> int:
    """How long a person's vector may be in whole numbers, where noise has a deviation of ``GRID``."""
    return int(GRID * share**0.5 / mechanism.sigma) if mechanism.sigma else _EXACT


def divided(
    people: float, counts: npt.NDArray[np.float64], mechanism: GaussianMechanism, shops: int = 1
) -> dict[str, float]:
    """How the rest of a person's length is shared out where noised people and counts, (n_items,), are such.

    Sums of so many shops have as many times the people and counts, and noise by the root of that.
    """
    clear = 1 + (CLEAR - 1) / shops
    if mechanism.sigma and (counts**2).mean() < clear * mechanism.sigma**2 / FIRST[POPULARITY]:
        return TINY
    return MANY if people * shops**0.5 >= FROM * mechanism.sigma else FEW


def _noised(sums: Whole, mechanism: GaussianMechanism) -> Whole:
    return sums + discrete_gaussian(sums.size).reshape(sums.shape) if mechanism.sigma else sums


def _pairs(
    log: Interactions, counts: npt.NDArray[np.float64], radius: int, mechanism: GaussianMechanism, threshold: float
) -> csr_matrix:
    """Noised sums of pairs of the items with the highest noised counts, of which those above the threshold stay.

    Noise is added to every pair, whether anybody had it or not, in blocks of rows.
    """
    items = np.sort(np.argsort(-counts, kind="stable")[:MOST])
    sums = pair_sums(log.select(np.isin(log.item, items)), radius)[items][:, items]
    least, height, kept = threshold * GRID if mechanism.sigma else 0, max(1, _CELLS // max(1, len(items))), []
    for begin in range(0, len(items), height):
        block = _noised(sums[begin : begin + height].toarray(), mechanism)
        kept.append(csr_matrix(np.where(block > least, block, 0) / radius, dtype=np.float32))
    found = csr_matrix(vstack(kept))
    found.setdiag(0)
    found.eliminate_zeros()
    return moved(found, items, log.n_items)


KEPT = 8
"""Older releases that stay: each was paid for, and is found again where its log is."""
_FEATURES = 1024
_FAR_BELOW = 0.1
"""People times δ, above which somebody may be told of as a whole without the promise being broken."""


def release_statistics(
    workspace: Workspace,
    settings: PrivacySettings,
    content_components: int,
    progress: Progress = SILENT,
    *,
    like: ContentBasis | None = None,
    shops: int | None = None,
    exactly: bool = False,
    work: str = "molar align --privacy",
) -> tuple[Path, Manifest, bool]:
    """Statistics of the workspace's log at the settings' ε and δ: those that were released, or new ones.

    The last of what is returned says whether something was released, by the command ``work``. What is live stays so,
    until :func:`molar_retrieval.privacy.federated.beside_others` makes these live with all that is to be added to them.

    A new release tells content in the terms of ``like``, else of the workspace's catalogue, and is one of so many
    ``shops``, else of one. What was released before must be so, where these are named, only if ``exactly`` is set.

    Raises:
        DataError: If the budget does not bear it, the log is empty, or ``like`` is of another encoder.
        SettingsError: If the encoder has learned from people, so that content is no longer public.
    """
    with (
        pin(workspace, "catalogue", "content", "interactions", work=work) as read,
        workspace.lock(KIND, f"releasing statistics of {workspace.root}"),
    ):
        store, ledger = workspace[KIND], PrivacyLedger(workspace.root)
        encoder, log = _public_encoder(read), open_log(read)
        if not len(log):
            raise DataError("no interactions are there to be counted", "bring a log")
        digest = log_digest(log)
        wanted = (like.digest if like else None, shops) if exactly else (None, None)
        if (found := _released_before(read, settings, digest, encoder, *wanted)) is not None:
            return found, Manifest.read(found), False
        if like is not None and like.encoder["fingerprint"] != encoder["fingerprint"]:
            raise DataError(
                f"looks are told there by {like.encoder['name']}, and the vectors here are by {encoder['name']}",
                "embed with the same encoder, or release in terms of your own",
            )
        ledger.check(settings)
        if settings.delta * log.n_users > _FAR_BELOW:
            progress.note(f"δ = {settings.delta:g} is not far below one in as many people: set [privacy] delta")
        require_space(store.root, 4 * _FEATURES * log.n_items, "statistics take about")
        terms, features = _terms(read, content_components, encoder, like)
        mechanism = GaussianMechanism.of(settings.epsilon or 0.0, settings.delta)
        released = dp_release(log, features, mechanism, progress, shops=shops or 1)
        read.confirm()
        entry = ledger.spend(settings, mechanism.sigma, digest, work)  # from here on it may be seen
        partial = store.partial(entry.name)
        shop = ledger.entries()[0].name
        write_shared(SharedStatistics(released, log.items, terms, entry.name, shop), partial / FILE)
        manifest = Manifest(
            KIND,
            entry.name,
            settings={"epsilon": entry.epsilon, "delta": entry.delta},
            facts=terms.facts() | {"ledger": entry.name, "terms": terms.digest, "shops": shops or 1} | released.facts(),
            versions=library_versions("numpy", "scipy"),
        )
        folder = store.publish(partial, manifest, keep=KEPT, live=False)
    return folder, Manifest.read(folder), True


def is_released(workspace: Workspace, settings: PrivacySettings) -> bool:
    """Whether statistics of the workspace's log were released at the settings' ε and δ, so that they cost nothing.

    A SettingsError if the encoder has learned from people, so that content is no longer public.
    """
    with pin(workspace, "catalogue", "content", "interactions", work="molar align --privacy") as read:
        return _released_before(read, settings, log_digest(open_log(read)), _public_encoder(read)) is not None


def _terms(
    read: Workspace, content_components: int, encoder: dict[str, Any], like: ContentBasis | None = None
) -> tuple[ContentBasis, Matrix]:
    """In which terms content is told, the catalogue's unless others are given; and all items in them, (n_items, d)."""
    content = ContentVectors.open(read["content"].require()[0])
    attributes = hashed_features(Catalogue.open(read["catalogue"].require()[0]))
    if like is not None:
        return replace(like, encoder=encoder), compressed(like.conditioner(content.vectors, attributes), like.axes)
    conditioner = fit(content.vectors, content.blocks, content_components, attributes, ready=content.conditioned)
    features = conditioner(content.vectors, attributes)
    axes = principal(features)
    return ContentBasis(encoder, conditioner, axes), compressed(features, axes)


def log_digest(log: Interactions) -> str:
    """What a release depends on: which items each history has, in order, by their ids; nobody's name, no time."""
    own = np.array([int(fingerprint.of_bytes([item.encode()])[:16], 16) for item in log.items.array.to_pylist()], "<u8")
    strength = [] if log.strength is None else [np.ascontiguousarray(log.strength).tobytes()]
    return fingerprint.of_bytes([log.offsets.astype("<i8").tobytes(), own[log.item].tobytes(), *strength])


def _released_before(
    read: PinnedWorkspace,
    settings: PrivacySettings,
    digest: str,
    encoder: Mapping[str, Any],
    terms: str | None = None,
    shops: int | None = None,
) -> Path | None:
    """The version of a release of this log at this ε and δ, in terms of the same encoder; None where there is none.

    It is in the terms and for the number of shops that are named.
    """
    asked = digest, settings.epsilon, settings.delta
    entries = PrivacyLedger(read.root).entries()
    names = {one.name for one in entries if (one.log, one.epsilon, one.delta) == asked}
    for folder in reversed(read[KIND].versions()):
        try:
            facts = Manifest.read(folder).facts
        except StaleArtefactError:  # it is damaged, and another one is paid for
            continue
        fits = terms in (None, facts["terms"]) and shops in (None, facts["shops"])
        if fits and facts["ledger"] in names and facts["encoder"] == encoder:
            return folder
    return None


def _public_encoder(read: Workspace) -> dict[str, Any]:
    """Name and fingerprint of the encoder; a SettingsError where it was fine-tuned on what people took."""
    settings = read["content"].require()[1].settings
    made_by = settings["encoder"]
    folder = Path(find_model_folder(settings.get("embed", {}), read.root).get("model", ""))
    account = head.read_account(folder)
    tasks = account.get("tasks", ()) if account else ()
    learned = [task for task in tasks if task["name"] == "behaviour" and task.get("left_out") is None]
    if learned or (not account and made_by.get("family") == head.FAMILY):
        raise SettingsError(
            f"the encoder {made_by['name']} was fine-tuned on what people took: its vectors tell of them without noise",
            "embed with the encoder beneath (`molar embed --model builtin`), or fine-tune with `[finetune] behaviour ="
            " false`",
        )
    return {name: made_by[name] for name in ("name", "fingerprint")}
