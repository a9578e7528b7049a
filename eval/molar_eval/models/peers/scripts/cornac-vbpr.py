"""Cornac's VBPR, with our content vectors as the features of the items.

It knows people by name, not by what they took: of somebody without training interactions it can say nothing.
"""

import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
from cornac.data import Dataset, ImageModality
from cornac.models import VBPR
from exchange import Exchange, PeerHistories


def main(folder: Path) -> None:
    exchange, began = Exchange(folder), perf_counter()
    log = exchange.training
    training = Dataset.from_uir([(row, item, 1.0) for row, item in zip(log.row, log.item, strict=True)], exchange.seed)
    items = np.array(list(training.item_ids), np.int64)
    images = ImageModality(features=exchange.content[items], ids=list(training.item_ids))
    images.build(id_map=training.iid_map)
    training.add_modalities(item_image=images)
    model = VBPR(**exchange.options["settings"], n_epochs=exchange.options["epochs"], seed=exchange.seed, verbose=False)
    model.fit(training)

    def score(histories: PeerHistories) -> np.ndarray:
        found = np.zeros((len(histories), exchange.n_items), np.float32)
        for row, person in enumerate(histories.person.tolist()):
            if (known := training.uid_map.get(person)) is not None:
                found[row, items] = model.score(known)
        return found

    exchange.answer(
        score,
        epochs=[{"ndcg": exchange.judged(score(exchange.validation)), "seconds": perf_counter() - began}],
        fit_seconds=perf_counter() - began,
        versions={name: version(name) for name in ("cornac", "torch")},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
