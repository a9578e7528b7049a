"""A head's maps fitted on some items, and how well the other items are found by them."""

from dataclasses import dataclass, replace

import numpy as np

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.head import FusionHead, Lexical
from molar_retrieval.finetuning.inputs import Inputs
from molar_retrieval.finetuning.withheld import MOST, WithheldCases, crossed, recall
from molar_retrieval.models.content_knn import consumed_together, ridge
from molar_retrieval.workspace.settings import FinetuneSettings
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows


@dataclass(frozen=True)
class Chosen:
    """What is chosen on withheld items; with it each map can be fitted on any items."""

    move: float = 0.0  # how far words are brought to what attributes say of them, 0 to 1
    attributes: float = 1.0  # penalty of the map that says it
    seen: float | None = None  # penalty of the map from photo to words; None: words are not guessed
    shown: float | None = None  # penalty of the map from words to photo; None: photos are not guessed
    words: float = 0.5  # share of the words beside the photo
    written: float = 0.0  # share of the words as they are written, beside both
    taken: float = 0.0  # share of what says who takes an item, beside all three
    behaviour: float = 1.0  # penalty of the map that says it


class HeadFit:
    """Maps fitted on some items, and scores of the others."""

    def __init__(self, inputs: Inputs, log: Interactions | None, settings: FinetuneSettings, withheld: Mask) -> None:
        self.inputs, self.log, self.settings, self.withheld = inputs, log, settings, withheld
        views = inputs.described, inputs.named, inputs.half_named, inputs.photo
        described, named, half, seen = (np.asarray(view.any(axis=1), bool) for view in views)
        self.pairs = {"image_text": described & seen, "attributes": described & named, "half": described & half}
        self.cases = WithheldCases.of(log, withheld, settings.seed)
        self._factors: tuple[Rows, Matrix] | None = None
        self._last: tuple[Chosen, Matrix] | None = None

    def head(self, chosen: Chosen) -> FusionHead:
        """The head fitted on all items to learn from but the withheld ones."""
        among, inputs, head = self.inputs.learn & ~self.withheld, self.inputs, self.inputs.head
        if not chosen.written:
            head = replace(head, lexical=Lexical.none())
        if chosen.move:
            whole, half = (np.flatnonzero(self.pairs[name] & among) for name in ("attributes", "half"))
            named = np.concatenate([inputs.named[whole], inputs.half_named[half]])
            described = np.concatenate([inputs.described[whole], inputs.described[half]])
            said = ridge(named, described, chosen.attributes)
            head = replace(head, attributes=np.float32(chosen.move) * (said - np.eye(len(said), dtype=np.float32)))
        rows = np.flatnonzero(self.pairs["image_text"] & among)
        if chosen.seen is not None:
            head = replace(head, seen=ridge(inputs.photo[rows], head.read(inputs.described[rows]), chosen.seen))
        if chosen.shown is not None:
            head = replace(head, shown=ridge(head.read(inputs.described[rows]), inputs.photo[rows], chosen.shown))
        both = 1 - chosen.written
        shares = (both * chosen.words, both * (1 - chosen.words), chosen.written, 0.0)
        head = replace(head, shares=shares)
        if chosen.taken and self.log is not None:
            self._factors = self._factors or consumed_together(self.log, among, self.settings.factors)
            rows, factors = self._factors
            said = self.fused(head, rows)
            centre, usual = said.mean(axis=0), factors.mean(axis=0)
            taken = ridge(said - centre, factors - usual, chosen.behaviour)
            words, photo, written = ((1 - chosen.taken) * share for share in shares[:3])
            shares = (words, photo, written, chosen.taken)
            head = replace(head, taken=taken, usual=usual - centre @ taken, shares=shares)
        return head

    def fused(self, head: FusionHead, rows: Rows | slice = slice(None)) -> Matrix:
        """Vectors of some items by a head."""
        return head.fused(self.inputs.words[rows], self.inputs.photo[rows], self.inputs.written[rows])

    def gain(self, chosen: Chosen, reading: int) -> float:
        """NDCG@10 of people's next items that are withheld; 0 where there are none."""
        if self._last is None or self._last[0] != chosen:
            self._last = chosen, self.fused(self.head(chosen))
        gains = self.cases.gains(self._last[1], reading)
        return float(gains.mean()) if len(gains) else 0.0

    def named(self, chosen: Chosen) -> float:
        """Recall@10 of titles and descriptions by attributes."""
        head, rows = self.head(chosen), self.asked("attributes")
        return recall(head.read(self.inputs.named[rows]), head.read(self.inputs.described), rows, self.inputs.double)

    def pictured(self, chosen: Chosen | None) -> float:
        """Mean Recall@10 of titles and descriptions by photos, and of photos by these; None: by the encoder itself."""
        inputs = self.inputs
        both = inputs.crossing if chosen is None else views(self.head(chosen), inputs)
        return float(np.mean(crossed(*both, self.asked("image_text"), inputs.double)))

    def asked(self, name: str) -> Rows:
        """Withheld items that have both views of a task, a bounded number of them."""
        return np.flatnonzero(self.pairs[name] & self.withheld)[:MOST]


def views(head: FusionHead, inputs: Inputs) -> tuple[Matrix, Matrix]:
    """Vectors of titles and descriptions alone, and of photos alone, shape (n, head.dim) each."""
    written = np.zeros_like(inputs.written)
    words = head.fused(inputs.described, np.zeros_like(inputs.photo), written)
    return words, head.fused(np.zeros_like(inputs.words), inputs.photo, written)
