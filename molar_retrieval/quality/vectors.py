"""The vectors that a check judges pairs by: those that are there, or made for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from molar_retrieval.catalog.catalogue import Catalogue
from molar_retrieval.config import EmbedSettings
from molar_retrieval.embedding.contents import ContentVectors
from molar_retrieval.encoders.composite import image_block
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.progress import Progress
from molar_retrieval.quality.measured import KIND
from molar_retrieval.workspace import ArtefactStore, Workspace

_OWN = ("builtin", "builtin-multilingual")  # Encoders whose vectors have words and photo apart, and that run anywhere


@dataclass(frozen=True)
class PairVectors:
    """Words and photos as vectors, shape (n_items, d), zeros for none; image ``features`` are not of unit length."""

    texts: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    encoder: str


def stored(workspace: Workspace, catalogue: Catalogue) -> PairVectors | None:
    """The workspace's vectors, if they are of the catalogue as it is and have words and photo apart."""
    return _usable(workspace["content"], catalogue) or _usable(_own(workspace)["content"], catalogue)


def make(workspace: Workspace, folder: Path, settings: EmbedSettings, progress: Progress) -> None:
    """Embed what is new or changed with a built-in encoder.

    Where that is the workspace's encoder, or it has no vectors yet, this is what `molar embed` does, and is not done
    again there. Vectors of another encoder stay as they are; those of the check lie beside them.
    """
    from molar_retrieval.catalog.prepare import condition_of, prepare_catalogue
    from molar_retrieval.embedding.run import embed

    live = workspace["content"].manifest
    if settings.model in _OWN and (live is None or live.settings["encoder"]["name"] == settings.model):
        embed(workspace, settings, progress=progress)
        return
    place = Workspace.for_catalogue(_own(workspace).root, folder)
    prepare_catalogue(folder, place, progress, where=condition_of(workspace))
    chosen = EmbedSettings(model=_OWN[0], batch_size=settings.batch_size, device=settings.device)
    embed(place, chosen, progress=progress)


def _own(workspace: Workspace) -> Workspace:
    return Workspace(workspace.root / KIND / "vectors")


def _usable(store: ArtefactStore, catalogue: Catalogue) -> PairVectors | None:
    try:
        live = store.live
        if live is None or live[1].inputs.get("catalogue") != catalogue.manifest.fingerprint:
            return None
        found = ContentVectors.open(live[0])
    except StaleArtefactError:
        return None
    texts, images = found.block("content_text"), found.block("content_image")
    seen = image_block(found.info, found.blocks)
    if len(found.ids) != len(catalogue) or texts is None or images is None or seen is None:
        return None
    return PairVectors(texts, images, found.vectors[:, seen.start : seen.stop], str(found.info["name"]))
