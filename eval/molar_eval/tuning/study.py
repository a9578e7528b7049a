"""The search by Optuna, kept in SQLite beside its page; the only module that imports optuna.

A trial that was under way when its process was killed is run again with the same values: what is drawn depends on the
trials that ended, and on nothing else. So a search that was killed and gone on with is the one that was not.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from molar_eval.tuning.result import State, TuningTrial
from molar_eval.tuning.space import Dial, Values
from molar_retrieval import rng

FILE = "study.sqlite"
_NAME = "molar tune"
_RANDOM = 8  # trials before the sampler believes what it has seen
_BEFORE_PRUNING = 4  # trials that run to their end before others are compared with them
_LEAST = 2  # epochs that each trial has
_MOST_KILLED = 3
_ENOUGH = 10  # trials that tell what mattered
_SECONDS, _ENDED, _NOTE = "seconds", "ended", "note"
_Ended = Literal["killed", "interrupted", "passed over"]


class SettingsStudy:
    """Trials in a folder, whose first one has the present values; one process at a time has it open."""

    def __init__(self, folder: Path, dials: Sequence[Dial], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # what is done is told by the progress
        url = URL.create("sqlite", database=str((folder / FILE).absolute()))
        self._space = {dial.name: _distribution(dial) for dial in dials}
        self._first: Values = {dial.name: dial.now for dial in dials}
        self._seed = seed
        self._study = optuna.create_study(
            storage=optuna.storages.RDBStorage(url.render_as_string(hide_password=False)),
            study_name=_NAME,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=_LEAST),
            load_if_exists=True,
        )
        for killed in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self._fail(optuna.trial.Trial(self._study, killed._trial_id), "killed")

    @property
    def trials(self) -> list[TuningTrial]:
        """All that ended by themselves, in their order."""
        return [_told(one) for one in self._ended()]

    def begin(self) -> "OpenTrial":
        """The next trial: the first one, or the one that was killed, or another one."""
        while True:
            ended = len(self._ended())
            if not ended and not self._study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
                self._study.enqueue_trial(self._first)
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=_RANDOM, multivariate=True, seed=rng.derive_seed(self._seed, "tune", ended) % 2**32
            )
            trial = self._study.ask(self._space)
            if ended and self._killed(trial.params) >= _MOST_KILLED:
                self._fail(trial, "passed over", f"killed {_MOST_KILLED} times, as where memory is short")
                continue
            return OpenTrial(self, trial)

    def importance(self) -> dict[str, float]:
        """Share of the scores' variance that each dial explains, by a random forest (fANOVA).

        Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance.
        Empty where fewer than ten trials ran to their end, or all scores are the same.
        """
        scores = [one.score for one in self.trials if one.score is not None]
        if len(scores) < _ENOUGH or len(set(scores)) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed % 2**32)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def _ended(self) -> list[FrozenTrial]:
        """Of which the next draw depends."""
        kept = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        found = self._study.get_trials(deepcopy=False, states=kept)
        return [one for one in found if one.user_attrs.get(_ENDED, "passed over") == "passed over"]

    def _killed(self, values: dict[str, Any]) -> int:
        failed = self._study.get_trials(deepcopy=False, states=[TrialState.FAIL])
        return sum(one.params == values and one.user_attrs.get(_ENDED) == "killed" for one in failed)

    def _fail(self, trial: optuna.Trial, ended: _Ended, note: str = "") -> None:
        trial.set_user_attr(_NOTE, note)
        trial.set_user_attr(_ENDED, ended)
        self._study.tell(trial, state=TrialState.FAIL)


class OpenTrial:
    """A trial under way."""

    def __init__(self, study: SettingsStudy, trial: optuna.Trial) -> None:
        self._study, self._trial = study, trial
        self.number: int = trial.number
        self.values: Values = dict(trial.params)

    def worse(self, epoch: int, score: float) -> bool:
        """Tell an epoch's score; whether most trials did better by then, so that this one may end."""
        self._trial.report(score, epoch)
        return bool(self._trial.should_prune())

    def end(self, score: float | None, seconds: float) -> None:
        """Tell what came of it; None: it was worse than most and ended early."""
        self._trial.set_user_attr(_SECONDS, seconds)
        if score is None:
            self._study._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study._study.tell(self._trial, score)

    def interrupt(self) -> None:
        """It did not end: somebody interrupted it, or an error did."""
        self._study._fail(self._trial, "interrupted")


_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "passed over",
}


def _told(trial: FrozenTrial) -> TuningTrial:
    epochs = [score for _, score in sorted(trial.intermediate_values.items())]
    return TuningTrial(
        number=trial.number,
        state=_STATES[trial.state],
        values=dict(trial.params),
        score=trial.value if trial.state == TrialState.COMPLETE else None,
        epochs=epochs,
        seconds=float(trial.user_attrs.get(_SECONDS, 0.0)),
        note=str(trial.user_attrs.get(_NOTE, "")),
    )


def _distribution(dial: Dial) -> BaseDistribution:
    if dial.choices:
        return CategoricalDistribution(dial.choices)
    if dial.step is None:
        return FloatDistribution(dial.low, dial.high, log=dial.log)
    return IntDistribution(int(dial.low), int(dial.high), log=dial.log, step=dial.step)
