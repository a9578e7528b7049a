"""What the log of impressions says of lists before anybody is shown them.

In a context a *candidate* shows the item a with probability πₐ where the *control* does with κₐ. What it would gain per
place is the mean of Σ (πₐ − κₐ) φₐ, with φₐ what the item earns there. The log knows φₐ of what could be shown. Of the
rest it only knows bounds: nothing earns less than 0 or more than a *ceiling*, of clicks 1. So there is a least gain,
where whatever only the candidate would show and the log could not earns 0, and whatever only the control would show
earns the ceiling; and a most, the other way round. Both are means of weighted rewards as IPS is, estimated without bias
and with an interval of their own; the gain lies between the lower end of the one and the upper end of the other (Manski
1990; Imbens and Manski 2004, doi:10.1111/j.1468-0262.2004.00555.x; of logs without support Sachdeva, Su and Joachims
2020, arXiv:2006.09438).

=============  ======================================================================================================
refuse          even the most that it can gain lies below −harm: it does harm, as surely as the interval holds
pass            even the least lies above −harm: it does none, as surely
cannot_tell     all else, with the reason: mostly that the log never showed what the candidate would show
=============  ======================================================================================================

The assumptions are those of :mod:`molar_eval.kpi.off_policy`, support excepted.

Both arms are asked for the lists of the moments at which people were shown one, by the events of then, and what these
would have earned is told from the impressions: :mod:`molar_eval.kpi.candidate`. Only what was shown after the
generations of both arms were made counts, as they have learned of the rest. New items are drawn for neither arm: the
draws would be those that made the log. The rules are those of now.

Rewards are those of :mod:`molar_eval.kpi.impression_events`: whether a place was clicked, looked at, put into a cart or
bought. People are those of the whole log, whatever the experiment's segment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases
from molar_eval.kpi.impressions import Impressions, logged_impressions, read_impressions
from molar_eval.kpi.off_policy import (
    FEW_ROWS,
    FEW_USERS,
    MEAN_LEVEL,
    Features,
    PolicyEvaluation,
    Rows,
    TargetPolicy,
    effective_rows,
    evaluate_policy,
    importance_weights,
    modelled_reward,
    uniform_policy,
    whole_lists,
)
from molar_eval.kpi.slates import SlateEvaluation, answerable, evaluate_slates
from molar_eval.models.base import EvaluationTask
from molar_eval.models.ours import Molar
from molar_eval.ranking import rank
from molar_eval.statistics import UserRatios
from molar_eval.version_comparison import known_events
from molar_indexes.recommender import Recommender, as_it_was
from molar_retrieval.data.interactions import Interactions, holdout_last
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import open_log
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, of_key, user_keys
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.rules import FILE_NAME
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import MolarSettings

Floats = npt.NDArray[np.float64]
Outcome = Literal["refuse", "pass", "cannot_tell"]
_NEAR = 0.01  # departure of a mean weight from 1 that rounded propensities may cause


@dataclass(frozen=True)
class CandidateVerdict:
    """What a log says of a candidate.

    Attributes:
        outcome: Whether to refuse it.
        why: In sentences.
        requests: Requests of the log that were looked at.
        differing: The share of them in which candidate and control would not show the same.
        logged: What was shown earned so much per place.
        low: Lower end of the interval of the least that the candidate gains per place against the control; None: it
            cannot be told, or there is nothing to tell.
        high: Upper end of that of the most that it gains, likewise.
        missing: Of what the candidate shows more often than the control, the share that the log could not show.
        effective: Kish's effective number of rows in which the two differ.
    """

    outcome: Outcome
    why: tuple[str, ...]
    requests: int = 0
    differing: float = 0.0
    logged: float = 0.0
    low: float | None = None
    high: float | None = None
    missing: float = 0.0
    effective: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def candidate_verdict(
    log: Impressions,
    items: npt.NDArray[np.integer],
    candidate: TargetPolicy,
    control: TargetPolicy,
    *,
    harm: float = 0.0,
    ceiling: float | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> CandidateVerdict:
    """Whether a candidate is to be refused; see the module.

    Args:
        log: Impressions of a stochastic logging policy; rewards are not negative.
        items: The item row of each shown item, as in the policies, shape (n,).
        candidate: What would be shown, in each context of the log.
        control: And without it; it need not be what was logged.
        harm: The share of what was earned that may be lost without harm.
        ceiling: What is at most earned by what the log could not show, on average; None: the largest reward of the
            log, of clicks 1, which assumes nothing. With less, more can be told, as far as that is right.
        level: Nominal coverage of the intervals.
        resamples: Bootstrap samples; whole users are drawn.
        seed: Of the bootstrap.

    Raises:
        DataError: If the log is empty or has negative rewards.
        SettingsError: If ``harm`` is less than 0.
    """
    if not harm >= 0:
        raise SettingsError(f"a harm of {harm}", "give a share of 0 or more")
    if (log.reward < 0).any():
        raise DataError("a reward is negative: what could not be shown has no lower bound", "log 0 or more")
    compared = _Compared.of(log, items, candidate, control)
    effective = effective_rows(compared.more + compared.fewer)
    found = CandidateVerdict(
        "cannot_tell", (), len(log.contexts), compared.differing, float(log.reward.mean()), missing=compared.missing,
        effective=effective,
    )  # fmt: skip
    if not compared.differing:
        return replace(found, outcome="pass", why=("both show the same in all requests",))
    ratios = UserRatios(log.user, len(log.users), resamples=resamples, seed=seed)
    if lacking := _lacking(log, compared, ratios, effective):
        return replace(found, why=lacking)
    least, most = compared.bounds(log.reward, float(log.reward.max()) if ceiling is None else ceiling)
    low, high = ratios.mean(least, level).low, ratios.mean(most, level).high
    found, bearable = replace(found, low=low, high=high), harm * log.reward
    told = f"it would gain {low:+.4g} to {high:+.4g} per place, where {found.logged:.4g} are earned"
    if ratios.mean(most + bearable, level).high < 0:
        return replace(found, outcome="refuse", why=(f"{told}: a loss of more than {harm:.0%}",))
    if ratios.mean(least + bearable, level).low >= 0:
        return replace(found, outcome="pass", why=(f"{told}: no loss of {harm:.0%}",))
    return replace(found, why=(told, _open(compared, ratios)))


def _open(compared: "_Compared", ratios: UserRatios) -> str:
    """Why it cannot be told which side of the harm that may be borne the gain is on."""
    if compared.all_more.any() and ratios.ratio(compared.more, compared.all_more, MEAN_LEVEL).high < 1 - _NEAR:
        return f"{compared.missing:.0%} of what it would show instead was never shown in such contexts"
    return "the log is too small to tell"


@dataclass(frozen=True, eq=False)
class _Compared:
    """How two policies differ, in the rows of a log and on the whole.

    ``more`` and ``fewer`` are by how much likelier the candidate and the control show the item of a row, divided by its
    propensity, shape (n,); ``all_more`` and ``all_fewer`` the sums of that over all items of a context, with its first
    row, likewise of shape (n,), so that without missing support the means are those of ``more`` and ``fewer``.
    """

    more: Floats
    fewer: Floats
    all_more: Floats
    all_fewer: Floats
    weights: tuple[Floats, Floats]
    totals: tuple[Floats, Floats]
    differing: float
    missing: float

    @classmethod
    def of(
        cls, log: Impressions, items: npt.NDArray[np.integer], candidate: TargetPolicy, control: TargetPolicy
    ) -> "_Compared":
        one, other = (importance_weights(log, np.minimum(p.of(log.context, items), 1.0)) for p in (candidate, control))
        sums = _excess(candidate, control), _excess(control, candidate)
        totals = candidate.probabilities.sum(axis=1), control.probabilities.sum(axis=1)
        at_first = [np.zeros(len(log)) for _ in range(4)]
        for rows, values in zip(at_first, (*sums, *totals), strict=True):
            rows[log.first] = values
        more, fewer = np.maximum(one - other, 0), np.maximum(other - one, 0)
        new = float(sums[0].sum())
        missing = max(0.0, 1 - float(more.sum()) / new) if new else 0.0
        differing = float(np.mean((sums[0] > 0) | (sums[1] > 0)))
        return cls(more, fewer, at_first[0], at_first[1], (one, other), (at_first[2], at_first[3]), differing, missing)

    def bounds(self, reward: Floats, ceiling: float) -> tuple[Floats, Floats]:
        """What each row adds to the least and to the most that the candidate gains, shapes (n,)."""
        known = (self.more - self.fewer) * reward
        least = known - ceiling * (self.all_fewer - self.fewer)
        return least, known + ceiling * (self.all_more - self.more)


def _excess(one: TargetPolicy, other: TargetPolicy) -> Floats:
    """By how much likelier than the other policy one shows what it shows likelier, summed by context, shape (C,)."""
    contexts, found = np.arange(len(one.items)), np.zeros(len(one.items))
    for items, probabilities in zip(one.items.T, one.probabilities.T, strict=True):
        found += np.where(items >= 0, np.maximum(probabilities - other.of(contexts, items), 0), 0)
    return found


def _lacking(log: Impressions, compared: _Compared, ratios: UserRatios, effective: float) -> tuple[str, ...]:
    """Why the log says nothing at all."""
    found = []
    for name, weights, totals in zip(("candidate", "control"), compared.weights, compared.totals, strict=True):
        if totals.any() and (mean := ratios.ratio(weights, totals, MEAN_LEVEL)).low > 1 + _NEAR:
            found.append(f"the mean weight of the {name} is {mean.mean:.3f} instead of 1: the propensities are wrong")
    earning = len(np.unique(log.user[(compared.more + compared.fewer > 0) & (log.reward > 0)]))
    if effective < FEW_ROWS:
        found.append(f"effective sample size {effective:.1f} where the two differ: it takes {FEW_ROWS}")
    if earning < FEW_USERS:
        found.append(f"{earning} users with a reward where the two differ: it takes {FEW_USERS}")
    return tuple(found)


@dataclass(frozen=True)
class ShownResult:
    """Estimates for molar's lists on a log of what was shown.

    Attributes:
        k: Length of the lists.
        contexts: Requests in the log.
        without_history: Share of the contexts whose user had no history: they get the most popular items.
        never_shown: Share of the policy's choices that the log never shows; no log can value them.
        evaluation: The estimates and their diagnostics.
        left_out: Requests of the event log that lack propensities.
        slates: Of the event log, what whole lists earn per request.
    """

    k: int
    contexts: int
    without_history: float
    never_shown: float
    evaluation: PolicyEvaluation
    left_out: int = 0
    slates: SlateEvaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def evaluate_shown(
    workspace: Workspace,
    settings: MolarSettings,
    path: Path | None,
    *,
    k: int = 1,
    clip: float | None = None,
    progress: Progress = SILENT,
) -> ShownResult:
    """Fit molar on the interactions before the first impression and value its lists off-policy.

    The policy shows one of the first ``k``, each as often. Without a ``path`` the event log tells what was shown, and
    the policy shows as many of molar's first as the request had items. ``clip`` is the largest weight. Raises
    :class:`DataError` if the log is wrong, has no times, or nothing was logged before it.
    """
    shown, left_out = logged_impressions(workspace) if path is None else (_of_file(workspace, path), 0)
    length = np.full(len(shown.contexts), k) if path is not None else np.bincount(shown.context)
    k = int(length.max())
    if shown.timestamp is None:
        raise DataError(f"{path} has no times", "add the column timestamp: a model must be fitted on what lies before")
    workspace = pin(workspace, "catalogue", "content", "interactions", work="molar evaluate")
    history = open_log(workspace)
    task = _task(history, int(shown.timestamp.min()), settings, workspace.root / "evaluation" / "models" / "shown")
    scorer = Molar(workspace, workspace.root / "evaluation" / "content", settings).fit(task, 0, progress)
    cases, known = _contexts(shown, history)
    popularity, done = np.bincount(task.training.item, minlength=history.n_items), np.zeros(len(known), np.int64)
    lists, done[known] = np.empty((len(known), k), np.int32), cases.length
    ranked = rank(cases, scorer.scores, k=k, candidates=task.candidates, finish=scorer.finish, progress=progress)
    lists[known] = ranked.items
    lists[~known] = np.argsort(-popularity, kind="stable")[:k]
    as_long = np.where(np.arange(k) < length[:, None], lists, -1)
    policy = uniform_policy(lists) if path is not None else whole_lists(as_long)
    items = shown.item_rows(history.items)
    target = policy.of(shown.context, items)
    several = len(shown.users) > 1
    model = modelled_reward(shown, policy, items, _features(lists, popularity, done)) if several else None
    return ShownResult(
        k=k,
        contexts=len(known),
        without_history=float(1 - known.mean()),
        never_shown=policy.share_never_shown(items),
        evaluation=evaluate_policy(shown, target, model=model, clip=clip),
        left_out=left_out,
        slates=evaluate_slates(shown, target, answerable(shown, target)) if path is None else None,
    )


def _of_file(workspace: Workspace, path: Path) -> Impressions:
    """The impressions of a file, their users by the keys under which the workspace has them."""
    shown = read_impressions(path, SuppressionList.of(workspace.root))
    keys = user_keys(Pseudonymiser.of(workspace.root).users(shown.users.array))
    return replace(shown, users=IdMap(keys))


def _features(lists: npt.NDArray[np.int32], popularity: Rows, length: Rows) -> Features:
    """What the model of the reward sees: an item's popularity, the place that molar gives it, how much somebody did."""

    def features(context: Rows, item: Rows) -> npt.NDArray[np.float64]:
        at = (lists[context] == item[:, None]) & (item >= 0)[:, None]
        place = np.where(at.any(axis=1), 1 / np.log2(at.argmax(axis=1) + 2), 0.0)
        taken = np.where(item >= 0, popularity[item], 0)
        return np.stack([np.log1p(taken), taken == 0, place, np.log1p(length[context])], axis=1)

    return features


def _task(history: Interactions, cut: int, settings: MolarSettings, folder: Path) -> EvaluationTask:
    before = history.select(history.timestamp < cut)
    if not len(before):
        raise DataError("no interaction lies before the first impression", "bring the log of the time before")
    held = holdout_last(before, settings.split.validation_users, settings.split.seed)
    length = np.diff(held.training.offsets)[held.users]
    validation = Cases.single(history, held.users, length, held.targets)
    return EvaluationTask(held.training, validation, np.ones(history.n_items, bool), None, "hide", folder)


def _contexts(shown: Impressions, history: Interactions) -> tuple[Cases, npt.NDArray[np.bool_]]:
    """A case without targets for each context whose user has a history before it, and which contexts those are."""
    assert shown.timestamp is not None
    user = history.users.rows(shown.users.array)[shown.user[shown.first]].astype(np.int64)
    time = shown.timestamp[shown.first]
    length = np.zeros(len(user), np.int64)
    for context in np.flatnonzero(user >= 0):
        low, high = history.offsets[user[context]], history.offsets[user[context] + 1]
        length[context] = np.searchsorted(history.timestamp[low:high], time[context])
    known = length > 0
    nothing = np.zeros(int(known.sum()) + 1, np.int64)
    return Cases(history, user[known], length[known], nothing, np.zeros(0, np.int32)), known


MOST = 500
"""Requests that are looked at; of more some, spread evenly over the log."""


@dataclass(frozen=True)
class Moment:
    """When somebody was shown a list.

    Attributes:
        person: Who, by key, see :mod:`molar_retrieval.privacy.pseudonyms`.
        events: The last event before it, by its number.
        at: The time.
        places: How many items the list had.
    """

    person: str
    events: int
    at: datetime
    places: int


Lists: TypeAlias = Callable[[Sequence[Moment]], Sequence[Sequence[str]]]
"""From moments to the item ids, best first, that would have been shown."""


def verdict_beforehand(
    workspace: Workspace, control: Arm, treatment: Arm, *, harm: float = 0.0, most: int = MOST
) -> CandidateVerdict:
    """Whether a treatment is to be refused; that the log cannot tell is a result as well.

    Args:
        workspace: With a live generation and, for anything to be told, impressions in its event log.
        control: What people have.
        treatment: What is to be tried.
        harm: The share of what is earned per place that may be lost without harm.
        most: Requests that are looked at; two lists for each take 5 to 17 ms.

    Raises:
        MissingArtefactError: If there is no generation, or none of that name.
        SettingsError: If the rules of an arm are wrong.
    """
    try:
        log, _ = logged_impressions(workspace)
    except DataError as error:
        return CandidateVerdict("cannot_tell", (error.message,))
    with arm_lists(workspace, control) as (before, first), arm_lists(workspace, treatment) as (after, second):
        return verdict_on_lists(log, before, after, since=max(first, second), harm=harm, most=most)


def verdict_on_lists(
    log: Impressions, control: Lists, candidate: Lists, *, since: int = 0, harm: float = 0.0, most: int = MOST
) -> CandidateVerdict:
    """The same of any two ways to make lists, by impressions of the event log after the event ``since``."""
    assert log.number is not None
    assert log.timestamp is not None
    later = np.flatnonzero(log.number[log.first] > since)
    if not len(later):
        return CandidateVerdict("cannot_tell", ("no list was shown since the generations of both arms were made",))
    chosen = np.zeros(len(log.contexts), bool)
    chosen[later[np.arange(min(most, len(later))) * len(later) // min(most, len(later))]] = True
    log = log.select(chosen)
    moments, ids = _moments(log), {item_id: n for n, item_id in enumerate(log.items.array.to_pylist())}
    before, after = (_policy(lists(moments), ids) for lists in (control, candidate))
    return candidate_verdict(log, log.item, after, before, harm=harm)


@contextmanager
def arm_lists(workspace: Workspace, arm: Arm) -> Iterator[tuple[Lists, int]]:
    """The lists of an arm, and the last event that its generation has learned of."""
    if arm.shows == "nothing":
        yield lambda moments: [[] for _ in moments], 0
        return
    rules = arm.rules_in(workspace.root) or file_beside(workspace.root, FILE_NAME)
    with Recommender.open(workspace.root, arm.generation, follow=False) as recommender:
        own = rules if arm.rules is not None or rules.exists() else None

        def lists(moments: Sequence[Moment]) -> list[list[str]]:
            return [_shown(recommender, own, arm, moment) for moment in moments]

        yield lists, known_events(recommender.generation)


def _shown(recommender: Recommender, rules: Path | None, arm: Arm, moment: Moment) -> list[str]:
    kind, name = of_key(moment.person)
    user, session = (name, None) if kind == "user_id" else (None, name)
    with as_it_was(recommender, moment.events, moment.at, rules) as past:
        if arm.shows == "popular":
            answer = past.popular(k=moment.places, user_id=user, anonymous_id=session)
        else:
            options = {**arm.options, "explore": False}
            answer = past.query(user, k=moment.places, anonymous_id=session, **options)
    return [item.item_id for item in answer.items]


def _moments(log: Impressions) -> list[Moment]:
    assert log.number is not None
    assert log.timestamp is not None
    places = np.bincount(log.context)
    return [
        Moment(log.users.id(int(user)), int(number) - 1, datetime.fromtimestamp(int(at), UTC), int(count))
        for user, number, at, count in zip(
            log.user[log.first], log.number[log.first], log.timestamp[log.first], places, strict=True
        )
    ]


def _policy(lists: Sequence[Sequence[str]], ids: dict[str, int]) -> TargetPolicy:
    """Lists as a policy; items that no impression has get the next numbers in ``ids``."""
    rows: npt.NDArray[np.int64] = np.full((len(lists), max(1, *map(len, lists), 1)), -1)
    for row, items in zip(rows, lists, strict=True):
        row[: len(items)] = [ids.setdefault(item_id, len(ids)) for item_id in items]
    return whole_lists(rows)
