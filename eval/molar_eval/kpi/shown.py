"""What molar would have earned on a log of impressions: fitted on what lies before it, asked as each context was."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_eval.cases import Cases
from molar_eval.kpi.impression_events import logged_impressions
from molar_eval.kpi.impressions import Impressions, read_impressions
from molar_eval.kpi.off_policy import PolicyEvaluation, evaluate_policy
from molar_eval.kpi.reward_model import Features, Rows, modelled_reward
from molar_eval.kpi.slates import SlateEvaluation, answerable, evaluate_slates
from molar_eval.kpi.target_policy import uniform_policy, whole_lists
from molar_eval.models.base import EvaluationTask
from molar_eval.models.ours import Molar
from molar_eval.ranking import rank
from molar_retrieval.data.interactions import Interactions, holdout_last
from molar_retrieval.errors import DataError
from molar_retrieval.ids import IdMap
from molar_retrieval.models.als import open_log
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, user_keys
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.settings import MolarSettings


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
