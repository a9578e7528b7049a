"""Whether the content tower is worth training to the end: asked after two epochs, as it takes a third of the time.

A weight that was chosen on the same cases gains about a standard error by chance (Breiman et al. 1984, Classification
and Regression Trees), so a third of the time must bring more than that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from molar_retrieval.models.base import CountModels
from molar_retrieval.models.blending import ENOUGH, Gain, ScoreComponent, blend
from molar_retrieval.models.cold_start import fair_share
from molar_retrieval.models.towers.training import TrainingData
from molar_retrieval.workspace.settings import AlignSettings

_CONTENT = "content_tower"
_MOST_ITEMS = 50_000
"""Of a larger catalogue what is counted would take much memory beside the training."""


@dataclass(frozen=True)
class TowerPruning:
    """Names the content tower where the sum of the other tower and the count-based models is as good without it.

    It is asked nothing where content is needed for cold-start items, which would have places among the first ten, where
    few cases could tell (such logs train quickly), or where a large catalogue would have to be counted before it is
    trained on.
    """

    data: TrainingData
    settings: AlignSettings
    counted: Callable[[], CountModels]

    @property
    def asks(self) -> bool:
        """Whether there is anything to be asked."""
        data, towers = self.data, self.settings.towers
        possible = len(towers) > 1 and _CONTENT in towers and len(data.cases) >= ENOUGH
        return possible and not fair_share(~data.warm) and data.log.n_items <= _MOST_ITEMS

    def __call__(self, towers: Mapping[str, ScoreComponent]) -> Mapping[str, Gain]:
        """What the content tower brings, if that is no more than chance gives; nothing where it stays."""
        if len(towers) < 2 or not self.asks:
            return {}
        data = self.data
        parts = {**towers, **self.counted().parts(data.cases)}
        blended = blend(data.cases, parts, self.settings.seed, least=1.0)
        others = [blended.weights[name] for name in towers if name != _CONTENT]
        if blended.weights[_CONTENT] or not all(others):  # where none has a weight, they are young, and nothing is told
            return {}
        return {_CONTENT: blended.dropped.get(_CONTENT, Gain(0.0, 0.0))}
