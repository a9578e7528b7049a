"""The trials of a search in Optuna's SQLite file; the only module that imports optuna.

A trial that was under way when its process was killed is run again with the same values: what is drawn depends on the
trials that ended, and on nothing else. So a resumed search gives the same result.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from molar_eval.tuning.result import SearchParameter, State, TuningTrial, Values
from molar_retrieval import rng

FILE = "study.sqlite"
_NAME = "molar tune"
_RANDOM = 8  # trials before the sampler believes what it has seen
_BEFORE_PRUNING = 4  # trials that run to their end before others are compared with them
_LEAST = 2  # epochs that each trial has
_MOST_KILLED = 3
_ENOUGH = 10  # trials that tell what mattered
_SECONDS, _ENDED, _NOTE = "seconds", "ended", "note"
_KILLED, _INTERRUPTED, _PASSED_OVER = "killed", "interrupted", "passed over"
"""How a trial ended that Optuna knows as failed."""
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "passed over",
}


class SettingsStudy:
    """Trials in a folder, whose first one has the present values; one process at a time has it open."""

    def __init__(self, folder: Path, space: Sequence[SearchParameter], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the progress tells what is done
        url = URL.create("sqlite", database=str((folder / FILE).absolute()))
        self._space = {one.name: _distribution(one) for one in space}
        self._first: Values = {one.name: one.current for one in space}
        self._seed = seed
        self._study = optuna.create_study(
            storage=optuna.storages.RDBStorage(url.render_as_string(hide_password=False)),
            study_name=_NAME,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=_LEAST),
            load_if_exists=True,
        )
        for killed in self._of(TrialState.RUNNING):
            self.fail(optuna.trial.Trial(self._study, killed._trial_id), _KILLED)

    @property
    def trials(self) -> list[TuningTrial]:
        """All that ended by themselves, in their order."""
        return [
            TuningTrial(
                number=one.number,
                state=_STATES[one.state],
                values=dict(one.params),
                score=one.value if one.state == TrialState.COMPLETE else None,
                epochs=[score for _, score in sorted(one.intermediate_values.items())],
                seconds=float(one.user_attrs.get(_SECONDS, 0.0)),
                note=str(one.user_attrs.get(_NOTE, "")),
            )
            for one in self._ended()
        ]

    def begin(self) -> "OpenTrial":
        """The next trial: the first one, or the one that was killed, or another one."""
        while True:
            ended = len(self._ended())
            if not ended and not self._of(TrialState.WAITING):
                self._study.enqueue_trial(self._first)
            self._study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=_RANDOM, multivariate=True, seed=rng.derive_seed(self._seed, "tune", ended) % 2**32
            )
            trial = self._study.ask(self._space)
            same = [one for one in self._of(TrialState.FAIL) if one.params == trial.params]
            if not ended or sum(one.user_attrs.get(_ENDED) == _KILLED for one in same) < _MOST_KILLED:
                return OpenTrial(self, trial)
            self.fail(trial, _PASSED_OVER, f"killed {_MOST_KILLED} times, as where memory is short")

    def importance(self) -> dict[str, float]:
        """Share of the scores' variance that each parameter explains, by a random forest (fANOVA).

        Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance.
        Empty where fewer than ten trials ran to their end, or all scores are the same.
        """
        scores = [one.score for one in self.trials if one.score is not None]
        if len(scores) < _ENOUGH or len(set(scores)) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed % 2**32)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def tell(self, trial: optuna.Trial, **outcome: Any) -> None:
        """How a trial ended, by ``values`` or ``state``."""
        self._study.tell(trial, **outcome)

    def fail(self, trial: optuna.Trial, ended: str, note: str = "") -> None:
        """A trial did not end by itself."""
        trial.set_user_attr(_NOTE, note)
        trial.set_user_attr(_ENDED, ended)
        self.tell(trial, state=TrialState.FAIL)

    def _of(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _ended(self) -> list[FrozenTrial]:
        """Those on which the next draw depends."""
        found = self._of(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        return [one for one in found if one.user_attrs.get(_ENDED, _PASSED_OVER) == _PASSED_OVER]


class OpenTrial:
    """A trial under way."""

    def __init__(self, study: SettingsStudy, trial: optuna.Trial) -> None:
        self._study, self._trial = study, trial
        self.number: int = trial.number
        self.values: Values = dict(trial.params)

    def worse(self, epoch: int, score: float) -> bool:
        """Report an epoch's score; whether most trials did better by then, so that this one may end."""
        self._trial.report(score, epoch)
        return bool(self._trial.should_prune())

    def end(self, score: float | None, seconds: float) -> None:
        """Report the result; None: it was worse than most and ended early."""
        self._trial.set_user_attr(_SECONDS, seconds)
        if score is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, values=score)

    def interrupt(self) -> None:
        """It did not end: somebody interrupted it, or an error did."""
        self._study.fail(self._trial, _INTERRUPTED)


def _distribution(parameter: SearchParameter) -> BaseDistribution:
    if parameter.choices:
        return CategoricalDistribution(parameter.choices)
    if parameter.step is None:
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=parameter.step)
