"""The live generation with other attributes: price, stock, whatever neither encoder nor model reads; other names.

A generation says of what it is made (`materials`). Where the present artefacts are the same but for attributes, its
index is copied and the changed payloads are written over, its users and its table are shared by links, and the result
is the one that would be made anew. Where people are called something else, or have other attributes, their vectors and
histories are written under the present names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Self

from molar_indexes.attributes import ordinary, payloads
from molar_indexes.backends import restate_index
from molar_indexes.encoder import carry
from molar_indexes.generations import (
    INDEX,
    POPULAR,
    TABLE,
    USERS,
    Generation,
    carry_variants,
    open_generation,
    publish_made,
)
from molar_indexes.proof import Proof
from molar_indexes.records import BATCH, clean_payload
from molar_indexes.table import restated
from molar_indexes.users import rewrite_users
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import TEXT
from molar_retrieval.data.users_file import Segments
from molar_retrieval.embedding.content_vectors import VECTORS
from molar_retrieval.errors import MissingArtefactError, StaleArtefactError
from molar_retrieval.models.als import open_log
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.progress import Progress
from molar_retrieval.ranking.index_protocol import IndexItem, StoredItem
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import link_or_copy
from molar_retrieval.workspace.pinned import PinnedWorkspace
from molar_retrieval.workspace.settings import IndexSettings
from molar_retrieval.workspace.tensors import Array, mapped

_PEOPLE = "people"  # in settings: the digest of attributes of people
_NUMBERS = "numbers"  # the one tensor of an alignment that is made of attributes
_MODEL = (
    "weights", "cold_start_weights", "objectives", "default_objective", "slots", "reranker",
    "content_blocks", "item_item", "content_knn", "half_life", "repeat_consumption",
)  # fmt: skip
_MOST = 0.1
"""Share of the items that are restated since their index was built; they are not in its graphs."""
_SAMPLE = 32


def materials(read: Workspace) -> dict[str, str]:
    """Fingerprints of all that a generation is made of, but for settings and the attributes that a payload shows."""
    catalogue = Catalogue(*read["catalogue"].require())
    content, embedded = read["content"].require()
    alignment, manifest = read["alignment"].require()
    known, model = catalogue.manifest.facts, mapped(alignment / FILE)
    texts = [text for batch in catalogue.batches([TEXT], BATCH) for text in batch[TEXT].to_pylist()]
    arrays = [part for name in sorted(model) if name != _NUMBERS for part in (name.encode(), model[name].tobytes())]
    said = {"settings": manifest.settings, **{name: manifest.facts[name] for name in _MODEL if name in manifest.facts}}
    return {
        "items": fingerprint.of_json([known["ids"], catalogue.fields, known.get("availability")]),
        "texts": fingerprint.of_json(texts),
        "content": fingerprint.of_json([fingerprint.of_file(content / VECTORS), embedded.settings]),
        "model": fingerprint.of_json([fingerprint.of_bytes(arrays), said]),
        "interactions": read["interactions"].require()[1].fingerprint,
    }


@dataclass(frozen=True)
class Restated:
    """A generation, which is held, and the items that say something else now; a context manager.

    ``people`` are names and attributes of all users, None: as they were; the new manifest has the settings ``chosen``,
    and ``facts`` are what it says otherwise.
    """

    former: Generation
    catalogue: Catalogue
    items: tuple[StoredItem, ...]
    people: Sequence[tuple[str, Mapping[str, Any]]] | None
    chosen: Mapping[str, Any]
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        read: Workspace,
        chosen: Mapping[str, Any],
        facts: Mapping[str, Any],
        segments: Segments,
    ) -> Self | None:
        """The live generation restated; None where there is none, or more has to be made anew."""
        live = workspace["generations"].manifest
        if live is None or live.facts.get("made_of") != facts["made_of"] or _items(live.settings) != _items(chosen):
            return None
        try:
            former = open_generation(workspace)
        except (MissingArtefactError, StaleArtefactError):  # of another molar, or damaged
            return None
        catalogue = Catalogue(*read["catalogue"].require())
        items = tuple(_changed(former, catalogue))
        count = former.manifest.facts.get("restated", 0) + len(items)
        if former.manifest.facts.get("made_of") != facts["made_of"] or count > _MOST * len(catalogue):
            former.close()
            return None
        told = {**facts, "restated": count}
        told["origins"] = former.manifest.facts["origins"] | {"ordinary": ordinary(catalogue)}
        said = (live.facts.get("people"), live.settings.get(_PEOPLE))
        people = None if said == (facts["people"], chosen.get(_PEOPLE)) else _people(read, segments)
        if people is not None and former.users.removed:  # the others have other numbers now
            former.close()
            return None
        return cls(former, catalogue, items, people, chosen, told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.former.close()

    def publish(
        self,
        workspace: Workspace,
        read: PinnedWorkspace,
        settings: IndexSettings,
        *,
        inputs: Mapping[str, str],
        progress: Progress,
    ) -> Generation:
        """Make it the live generation, and open it."""
        alignment = read["alignment"].require()[0]

        def made(folder: Path) -> dict[str, Any]:
            carry(alignment, folder)
            carry_variants(self.catalogue.variants_file, folder)
            proved = self._made(folder, mapped(alignment / FILE).get(_NUMBERS), progress)
            self.former.close()  # so that it can be pruned
            return {**self.former.manifest.facts, **self.facts, **proved}

        return publish_made(
            workspace,
            made,
            inputs=inputs,
            settings=self.chosen,
            keep=settings.keep,
            activate=settings.activate,
            confirm=read.confirm,
        )

    def _made(self, folder: Path, numbers: Array | None, progress: Progress) -> dict[str, Any]:
        """Fill the folder, and prove that it gives back what it should."""
        former, shown = self.former, self.catalogue.availability.shown_from
        spec = replace(former.spec, efs={})
        restate_index(former.folder / INDEX, folder / INDEX, former.backend, spec, self.items)
        restated(folder / TABLE, former.folder / TABLE, numbers, {item.row: shown(item.payload) for item in self.items})
        link_or_copy(former.folder / POPULAR, folder / POPULAR)
        items, users = list(self._sample()), former.users.between(0, _SAMPLE)
        if self.people is None:
            link_or_copy(former.folder / USERS, folder / USERS)
        else:
            rewrite_users(former.folder / USERS, folder / USERS, self.people)
            users = [replace(user, user_id=key) for user, (key, _) in zip(users, self.people, strict=False)]
        proof = Proof.of(spec, items, len(former.index), users, len(former.users))
        return proof.check(folder / INDEX, folder / USERS, former.table.items, former.backend, progress)

    def _sample(self) -> Iterator[IndexItem]:
        """What has to come back: all items that say something else, and some others."""
        anew, index = {item.row: item for item in self.items}, self.former.index
        drawn = Random(0).sample(range(len(index)), min(_SAMPLE, len(index)))
        for row in sorted({*drawn, *anew}):
            (item,) = index.fetch([row], vectors=[*index.spec.dims, *index.spec.sparse])
            payload = anew.get(row, item).payload
            yield IndexItem(row, item.item_id, item.vectors, payload, item.sparse)


def _items(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings but for what they keep of people."""
    return {name: value for name, value in settings.items() if name != _PEOPLE}


def _people(read: Workspace, segments: Segments) -> list[tuple[str, Mapping[str, Any]]]:
    """What each user of the interactions is called, with their attributes."""
    return [(key, segments.of.get(key, {})) for key in open_log(read).users.array.to_pylist()]


def _changed(former: Generation, catalogue: Catalogue) -> Iterator[StoredItem]:
    """The items whose payload is another one than is stored, as it is to be stored."""
    said = payloads(catalogue)
    for begin in range(0, len(catalogue), BATCH):
        stored = former.index.fetch(range(begin, begin + BATCH))
        for (item_id, payload), before in zip(islice(said, BATCH), stored, strict=True):
            cleaned = clean_payload(item_id, payload)
            if cleaned != before.payload:
                yield StoredItem(before.row, item_id, cleaned)
