"""Statistics with noise: a release, the artefact ``statistics``, the file for other shops, and sums of several shops.

Nothing in them is of one person, and nothing here reads what anybody did. The artefact has the same file as is written
for other shops: the release, the items by their ids, and the map from an encoder's vectors to the features in which
content is told; the latter two are of the catalogue, which is public. Files of other shops that add to it lie in a
folder of their own. A private alignment is made of these alone, also over later catalogues.

It is a safetensors file, whose metadata has an entry ``molar``: JSON with the form and its version, the
ids of the items in the order of the rows, ε, δ and the noise, in which terms content is told, and two names drawn at
random: of the release, and of the shop, so that nobody is counted twice. Where shops add up, each shop's promise is
about what that shop tells, whatever others do. Who is in several is told of by each of them.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.content_features import Conditioner
from molar_retrieval.models.item_item import moved
from molar_retrieval.privacy.mechanism import GaussianMechanism
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Manifest
from molar_retrieval.workspace.files import disk_error, sync_file, sync_folder
from molar_retrieval.workspace.tensors import Array, Matrix, Rows

_AXES = "axes"
_BLOCKS, _ENCODER = "content_blocks", "encoder"


@dataclass(frozen=True, eq=False)
class ContentBasis:
    """How content is told: by which encoder, conditioned how, along which axes.

    ``encoder`` has its name and fingerprint; ``axes``, (f, d), lead from conditioned vectors to features.
    """

    encoder: dict[str, Any]
    conditioner: Conditioner
    axes: Matrix

    @cached_property
    def digest(self) -> str:
        """Statistics can be added up where it is the same."""
        said = fingerprint.of_json([self.encoder["fingerprint"], self.facts()[_BLOCKS]])
        return fingerprint.of_bytes([said.encode(), *(array.tobytes() for array in self.tensors().values())])

    def facts(self) -> dict[str, Any]:
        """What is no array, as JSON."""
        blocks = [[block.name, block.start, block.stop] for block in self.conditioner.blocks]
        return {_BLOCKS: blocks, _ENCODER: self.encoder}

    def tensors(self) -> dict[str, Array]:
        """Means, maps and axes, by name."""
        arrays = {f"mean.{number}": mean for number, mean in enumerate(self.conditioner.means)}
        arrays |= {f"map.{number}": matrix for number, matrix in enumerate(self.conditioner.maps)}
        return {name: np.ascontiguousarray(array) for name, array in (arrays | {_AXES: self.axes}).items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`facts` and :meth:`tensors`."""
        blocks = tuple(VectorBlock(*block) for block in facts[_BLOCKS])
        means, maps = (tuple(tensors[f"{what}.{n}"] for n in range(len(blocks))) for what in ("mean", "map"))
        return cls(dict(facts[_ENCODER]), Conditioner(blocks, means, maps), tensors[_AXES])


PEOPLE, POPULARITY, TRANSITIONS, PAIRS = "people", "popularity", "transitions", "pairs"
THRESHOLD = 4.0
"""Pairs whose noised sum is so many standard deviations of the noise are read."""


@dataclass(frozen=True, eq=False)
class DPStatistics:
    """Sums over people with noise on them, in units of one person's contribution, and public parameters.

    Attributes:
        mechanism: What is promised, and the noise for it.
        people: About how many there are.
        popularity: How many had each item, as far as each counts, shape (n_items,); may be below 0.
        transitions: What items look like after which each one was taken, shape (n_items, d); (n_items, 0) where there
            are too few people for it.
        pairs: What came soon after each item, shape (n_items, n_items); only sums above the threshold are kept, and
            none where there are too few people for any.
        deviations: Standard deviation of the noise on each number, by the names of these.
        threshold: Of pairs, in standard deviations.
    """

    mechanism: GaussianMechanism
    people: float
    popularity: Matrix
    transitions: Matrix
    pairs: csr_matrix
    deviations: dict[str, float]
    threshold: float

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.popularity)

    def moved(self, rows: Rows, n_items: int) -> Self:
        """The same over other items: row n is at ``rows[n]`` now, -1 where it is gone; nobody had new ones."""
        here = rows >= 0
        popularity = np.zeros(n_items, np.float32)
        transitions = np.zeros((n_items, self.transitions.shape[1]), np.float32)
        popularity[rows[here]], transitions[rows[here]] = self.popularity[here], self.transitions[here]
        return replace(self, popularity=popularity, transitions=transitions, pairs=moved(self.pairs, rows, n_items))

    def facts(self) -> dict[str, Any]:
        """What may be told of it, as JSON: ε, δ, noise, sizes."""
        return asdict(self.mechanism) | {
            "deviations": self.deviations,
            "threshold": self.threshold,
            "people": round(self.people, 1),
            "items": self.n_items,
            "pairs": int(self.pairs.nnz),
        }

    def tensors(self) -> dict[str, Array]:
        """Its sums as arrays, by name."""
        tensors = {
            POPULARITY: self.popularity,
            TRANSITIONS: self.transitions,
            f"{PAIRS}.data": self.pairs.data,
            f"{PAIRS}.indices": self.pairs.indices.astype(np.int32),
            f"{PAIRS}.indptr": self.pairs.indptr.astype(np.int64),
        }
        return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`facts` and :meth:`tensors`."""
        n_items = len(tensors[POPULARITY])
        arrays = tuple(tensors[f"{PAIRS}.{part}"] for part in ("data", "indices", "indptr"))
        return cls(
            GaussianMechanism(facts["epsilon"], facts["delta"], facts["sigma"]),
            facts["people"],
            tensors[POPULARITY],
            tensors[TRANSITIONS],
            csr_matrix(arrays, shape=(n_items, n_items)),
            facts["deviations"],
            facts["threshold"],
        )


def add_statistics(own: DPStatistics, others: Sequence[tuple[DPStatistics, bool]]) -> tuple[DPStatistics, DPStatistics]:
    """A shop's statistics and others over the same items: popularity and pairs of all shops, and content transitions.

    Of each of the others is said whether it tells content in the same terms, as transitions can only be added up then.
    The second of the results is of the shops that tell them so, with their popularity; where nobody does, it is the
    first.
    """
    telling = [one for one, same in [(own, True), *others] if same and one.transitions.shape[1]]
    total = added([_without_transitions(one) for one in (own, *(one for one, _ in others))])
    return total, added(telling) if telling else total


def added(releases: Sequence[DPStatistics]) -> DPStatistics:
    """The sums of one release or several, over the same items and in the same terms; variances of noise add up.

    A pair is kept that is above the threshold in the sum, or in one of them.
    """
    names = dict.fromkeys(name for one in releases for name in one.deviations)
    deviations = {name: math.hypot(*(one.deviations.get(name, 0.0) for one in releases)) for name in names}
    sigma = math.hypot(*(one.mechanism.sigma for one in releases))
    epsilon, delta = (max(getattr(one.mechanism, name) for one in releases) for name in ("epsilon", "delta"))
    pairs = sum((one.pairs.astype(np.float64) for one in releases[1:]), releases[0].pairs.astype(np.float64))
    kept = pairs > THRESHOLD * deviations.get(PAIRS, 0.0)
    for one in releases:
        kept = kept + (one.pairs > THRESHOLD * one.deviations.get(PAIRS, 0.0))
    found = csr_matrix(pairs.multiply(kept), dtype=np.float32)
    found.sort_indices()
    return DPStatistics(
        GaussianMechanism(epsilon, delta, sigma),
        sum(one.people for one in releases),
        np.asarray(np.sum([one.popularity for one in releases], axis=0, dtype=np.float64), np.float32),
        np.asarray(np.sum([one.transitions for one in releases], axis=0, dtype=np.float64), np.float32),
        found,
        deviations,
        THRESHOLD,
    )


def _without_transitions(released: DPStatistics) -> DPStatistics:
    deviations = {name: own for name, own in released.deviations.items() if name != TRANSITIONS}
    return replace(released, transitions=np.zeros((released.n_items, 0), np.float32), deviations=deviations)


FORM, VERSION = "molar shared statistics", 1
"""The version is raised with every change of what one person adds to a sum, too."""
_KEY = "molar"


@dataclass(frozen=True, eq=False)
class SharedStatistics:
    """What a file of shared statistics holds: a release over some items, and in which terms content is told.

    ``release`` and ``shop`` are random names; ``digest`` is that of the file, and ``path`` is where it was read.
    """

    released: DPStatistics
    items: IdMap
    terms: ContentBasis
    release: str
    shop: str
    digest: str = ""
    path: Path = Path()


def write_shared(shared: SharedStatistics, path: Path) -> str:
    """Write a file, whole or not at all; its digest."""
    facts = {"form": FORM, "version": VERSION, "release": shared.release, "shop": shared.shop}
    facts |= {**shared.released.facts(), **shared.terms.facts(), "items": shared.items.array.to_pylist()}
    tensors = shared.released.tensors() | shared.terms.tensors()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, {_KEY: json.dumps(facts, ensure_ascii=False)})
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        remedy = "name a file in a folder that is there"
        raise disk_error(error) or DataError(f"{path} cannot be written: {error}", remedy) from error
    return fingerprint.of_file(path)


def open_shared(path: Path) -> SharedStatistics:
    """Read a file that another shop wrote.

    A RequestError if there is none; a DataError if another version wrote it, or its numbers cannot be.
    """
    if not path.is_file():
        raise RequestError(f"there is no file {path}", "name a file that `molar privacy share` wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dictionary
        if facts.get("form") != FORM or facts.get("version") != VERSION:
            said = f"its form is {facts.get('form')}, version {facts.get('version')}"
            raise ValueError(f"{said}, and this molar reads {FORM}, version {VERSION}")
        return replace(_checked(facts, tensors), digest=fingerprint.of_file(path), path=path)
    except (SafetensorError, OSError, AttributeError, LookupError, TypeError, ValueError, DataError) as error:
        raise DataError(
            f"{path} holds no shared statistics: {error}",
            "ask for a file that `molar privacy share` of the same version of molar wrote",
        ) from error


def _checked(facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> SharedStatistics:
    """What the file says, if it can be: it comes from elsewhere."""
    released, terms, items = DPStatistics.of(facts, tensors), ContentBasis.of(facts, tensors), IdMap(facts["items"])
    mechanism, conditioner, width = released.mechanism, terms.conditioner, released.transitions.shape[1]
    released.pairs.check_format(full_check=True)
    sums = [tensors[name] for name in (POPULARITY, TRANSITIONS, f"{PAIRS}.data")]
    noise = [mechanism.epsilon, mechanism.delta, mechanism.sigma, *released.deviations.values()]
    lengths = [(block.stop - block.start,) for block in conditioner.blocks]
    told = {POPULARITY, TRANSITIONS} if width else {POPULARITY}
    for fine, fault in (
        (all(one.dtype == np.float32 and np.isfinite(one).all() for one in sums), "there are values that cannot be"),
        (all(isinstance(one, float | int) and 0 < one < math.inf for one in noise), "the noise on it is not said"),
        (told <= released.deviations.keys(), "the noise on it is not said"),
        (sums[0].shape == (len(items),) and sums[1].shape == (len(items), width), "it has not as many rows as items"),
        (np.isfinite(released.people) and width in (0, terms.axes.shape[-1]), "its numbers do not belong together"),
        ({"name", "fingerprint"} <= terms.encoder.keys(), "no encoder is named"),
        (
            all([array.shape[:1] for array in part] == lengths for part in (conditioner.means, conditioner.maps))
            and all(array.ndim == 2 for array in conditioner.maps)
            and terms.axes.shape[:-1] == (conditioner.dim,)
            and all(np.isfinite(array).all() for array in terms.tensors().values()),
            "content is told in no terms that could be",
        ),
    ):
        if not fine:
            raise ValueError(fault)
    return SharedStatistics(released, items, terms, str(facts["release"]), str(facts["shop"]))


KIND = "statistics"
FILE = "statistics.safetensors"
OTHERS = "others"
"""The folder, in a version, of files of other shops, by their digests."""


@dataclass(frozen=True, eq=False)
class PublishedStatistics:
    """A version of the artefact: the shop's own statistics, and files of other shops that add to them."""

    own: SharedStatistics
    manifest: Manifest
    others: tuple[SharedStatistics, ...] = ()

    def over(self, items: IdMap) -> tuple[DPStatistics, DPStatistics]:
        """Sums over other items, with those of the other shops: see :func:`add_statistics`."""

        def here(one: SharedStatistics) -> DPStatistics:
            return one.released.moved(items.rows(one.items.array).astype("int64"), len(items))

        others = [(here(one), one.terms.digest == self.own.terms.digest) for one in self.others]
        return add_statistics(here(self.own), others)


def open_statistics(folder: Path) -> PublishedStatistics:
    """Read a version; a StaleArtefactError says that its manifest is damaged."""
    others = tuple(open_shared(path) for path in sorted((folder / OTHERS).glob("*")))
    return PublishedStatistics(open_shared(folder / FILE), Manifest.read(folder), others)
