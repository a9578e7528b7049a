"""What diversity costs: lists under several weights of it, on some of a test's cases."""

from dataclasses import replace

import numpy as np

from molar_eval.cases import Cases, Mask, Scores
from molar_eval.metrics.per_list import diversity, listed_accuracy
from molar_eval.metrics.whole_run import coverage
from molar_eval.models.ours import MolarScorer
from molar_eval.ranking import allowed
from molar_eval.report.schema import DiversityPoint
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.diversity import Composition, diversify

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
CASES = 1000
_BATCH = 250


def trade_off(
    scorer: MolarScorer, cases: Cases, candidates: Mask, content: Scores, k: int, progress: Progress = SILENT
) -> list[DiversityPoint]:
    """Quality and variety of the lists of ``k`` items under each weight of diversity, see ``molar query --diversity``.

    At most 1,000 of the cases are drawn. ``content`` has rows of length 1 or 0, shape (n_items, f).
    """
    drawn = replace(cases.drawn(CASES, "diversity"), readable=None)
    lists = np.full((len(WEIGHTS), len(drawn), k), -1, np.int32)
    progress.start("diversity", len(drawn))
    for begin in range(0, len(drawn), _BATCH):
        block = slice(begin, min(begin + _BATCH, len(drawn)))
        inputs = drawn.inputs(block)
        users = scorer.model.users(inputs, np.arange(inputs.n_users))
        shown = allowed(drawn, block, candidates, "hide")
        scores = scorer.model.lifted(scorer.model.scores_of(users, inputs), shown)
        scores = scorer.model.reranked(scores, shown, users, inputs)
        for user, found in enumerate(scorer.model.candidates(scores, shown, users, inputs)):
            for number, weight in enumerate(WEIGHTS):
                choices = diversify(scores[user, found.rows], k, Composition(weight), content[found.rows])
                chosen = found.rows[[choice.candidate for choice in choices]]
                lists[number, begin + user, : len(chosen)] = chosen
            progress.advance(1)
    progress.finish()
    points = []
    for weight, own in zip(WEIGHTS, lists, strict=True):
        figures = listed_accuracy(own, drawn, (k,))
        point = DiversityPoint(
            weight=weight,
            cases=len(drawn),
            metrics={name: figures[name] for name in (f"ndcg@{k}", f"recall@{k}")},
            diversity=float(np.nanmean(diversity(own, content))),
            coverage=coverage(own, candidates),
        )
        points.append(point)
    return points
