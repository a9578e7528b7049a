"""Evaluation of models on the splits of a suite."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from molar_eval.cases import Cases, Mask, Rows, Seen
from molar_eval.evaluation import Evaluation
from molar_eval.index_recall import index_costs, trade_off
from molar_eval.metrics import ListContext, Purchases, estimate_kpis, target_values
from molar_eval.model_runs import FOLDER, Trial, TrialRunner, scores_path, write_scores
from molar_eval.models.base import EvaluationTask, Model, Tested
from molar_eval.models.ours import Molar
from molar_eval.models.own import OwnModels
from molar_eval.models.prequential import arms
from molar_eval.models.registry import OURS, ModelRegistry, with_changes
from molar_eval.modules import LIBRARIES, RESULTS, commit, of_modules
from molar_eval.prequential import WalkRunner, walk_result
from molar_eval.prices import item_prices
from molar_eval.ranking import Ranked
from molar_eval.report.schema import (
    Data,
    DiversityPoint,
    ExampleItem,
    ExampleUser,
    IndexCost,
    Made,
    Report,
    ReportExamples,
    SplitResult,
)
from molar_eval.report.tables import paper_tables
from molar_eval.results import (
    ModelScores,
    SplitTest,
    best_baseline,
    compared,
    corrected,
    estimate,
    model_result,
    model_scores,
    pairs,
)
from molar_eval.slices import MINIMUM_USERS, groups_of, labels
from molar_eval.splits import FILE_ORDER, PREQUENTIAL, Split, check_leaks, checked_options, make_split, prequential
from molar_eval.suite import SplitPlan, Suite, knows_only_days, of_days
from molar_eval.trial_costs import TrialCosts
from molar_retrieval import columns
from molar_retrieval.data.catalogue import ITEMS_FILE, Catalogue
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.models import content_features
from molar_retrieval.models.als import open_log
from molar_retrieval.models.towers.distributed import pick_device
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import generation_size, require_space
from molar_retrieval.workspace.jobs import Runner, SerialRunner
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import Timer, Took, library_versions
from molar_retrieval.workspace.settings import MolarSettings, with_preset

_HISTORY, _LIST = 6, 6


def choose(ours: Ranked, theirs: Ranked | None, cases: Cases, count: int) -> list[int]:
    """Cases worth a look, each of another user: ours right, only ours right, only theirs right, both wrong, in turn."""
    first = cases.offsets[:-1]
    a = _within(ours.ranks[first])
    b = _within(theirs.ranks[first]) if theirs is not None else ~a
    groups = [np.flatnonzero(mask) for mask in (a & ~b, ~a & b, a & b, ~a & ~b)]
    chosen: list[int] = []
    users: set[int] = set()
    for turn in range(max((len(group) for group in groups), default=0)):
        for group in groups:
            if turn < len(group) and len(chosen) < count and int(cases.user[group[turn]]) not in users:
                chosen.append(int(group[turn]))
                users.add(int(cases.user[group[turn]]))
        if len(chosen) == count:
            break
    return chosen


def examples(
    split: str, cases: Cases, chosen: Sequence[int], ranked: Mapping[str, Ranked], catalogue: Catalogue
) -> list[ExampleUser]:
    """The chosen cases with the lists of the models in ``ranked``; people are numbered, their ids are not told."""
    table = pq.read_table(catalogue.version / ITEMS_FILE, columns=[columns.ITEM_ID, columns.TITLE, columns.IMAGE])

    def item(row: int, targets: set[int]) -> ExampleItem:
        item_id, title, photo = (table[name][row].as_py() for name in table.column_names)
        return ExampleItem(item_id=item_id, title=title or item_id, photo=photo, hit=row in targets)

    result = []
    for person, case in enumerate(chosen, 1):
        targets = {int(row) for row in cases.targets[cases.offsets[case] : cases.offsets[case + 1]]}
        history = cases.seen(slice(case, case + 1)).item[-_HISTORY:]
        example = ExampleUser(
            split=split,
            person=person,
            history=[item(int(row), set()) for row in history],
            targets=[item(row, targets) for row in sorted(targets)],
            lists={
                name: [item(int(row), targets) for row in found.items[case, :_LIST] if row >= 0]
                for name, found in ranked.items()
            },
        )
        result.append(example)
    return result


def _within(ranks: Rows) -> Mask:
    hit: Mask = (ranks >= 1) & (ranks <= _LIST)
    return hit


_MEMORY = 256 << 20
_NOT_SHOWN = {"index": {"url": True}}
"""Settings that a report keeps to itself: whose server was asked."""


@dataclass
class Evaluator:
    """Runs one suite on a workspace's catalogue with prepared interactions and content vectors.

    ``folder`` is that of this run, None: a new one in the workspace; ``command`` what the user typed, for the report;
    ``memory`` bytes for scores in ranking, of each process that ranks. ``tell`` is told of each finished model. Of
    tests that are large the ``runner`` ranks the cases. ``own`` are models of the user's own that the suite names.
    """

    workspace: Workspace
    suite: Suite
    settings: MolarSettings
    folder: Path | None = None
    command: str = ""
    memory: int = _MEMORY
    runner: Runner = field(default_factory=SerialRunner)
    progress: Progress = SILENT
    tell: Callable[[str], None] = lambda _: None
    notes: list[str] = field(default_factory=list)
    users: list[ExampleUser] = field(default_factory=list)
    own: OwnModels = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root, self.kept, self.trials = self.workspace.root / "evaluation", 0.0, Took()
        self.taken = TrialCosts(self.root)
        now = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        self.out = self.folder or self.root / "runs" / f"{self.suite.name}-{now}"
        self.inputs = pin(self.workspace, "catalogue", "content", "interactions", work="molar evaluate")
        self.workspace = self.inputs
        self.catalogue = Catalogue(*self.workspace["catalogue"].require())
        whole = open_log(self.workspace)
        self.log = whole.strongest
        if self.log is not whole:
            weaker = len(whole) - len(self.log)
            self.notes.append(f"{weaker:,} interactions of weaker kinds than the strongest are left out")
        if knows_only_days(self.log) and (fitting := of_days(self.suite)) != self.suite:
            self.suite = fitting
            self.note("the log knows only days: leave-one-out, which needs an order within them, became last day")
        self.least = self.settings.privacy.fewest(int(np.count_nonzero(np.diff(whole.offsets))))
        self.fewest = max(MINIMUM_USERS, self.least)
        if self.suite.examples and self.least > 1:
            self.notes.append(f"no users are shown: each would be one, and [privacy] min_users is {self.least}")
        content = ContentVectors.open(self.workspace["content"].require()[0])
        dims, ready = self.settings.align.content_components, content.conditioned
        self.content = content_features.fit(content.vectors, content.blocks, dims, ready=ready)(content.vectors)
        self.words = content_features.words_alone(self.catalogue, dims)
        fast = with_changes(with_preset(self.settings, "fast"), self.suite.fast, f"suite {self.suite.name}: fast")
        self.registry = ModelRegistry(self.workspace, self.root / "content", self.settings, fast, self.own)
        log_columns = self.workspace["interactions"].require()[1].settings.get("columns", {})
        self.prices = item_prices(self.catalogue, log_columns.get("item_id", columns.ITEM_ID))

    def run(self) -> Evaluation:
        """Evaluate everything; a killed run goes on where it stopped.

        Raises:
            DataError: If a split cannot be made of the log, or leaks.
            SettingsError: If the suite names an unknown split, model or column.
            DiskError: If the disk is too small.
            StaleArtefactError: If what is read was made anew meanwhile.
        """
        with self.inputs:
            return self._run()

    def _run(self) -> Evaluation:
        began = time.perf_counter()
        need = generation_size(self.log.n_items, self.log.n_users, len(self.log.item))
        require_space(self.root, need, "an evaluation takes at least about")
        shutil.rmtree(self.out / FOLDER, ignore_errors=True)
        splits = [result for plan in self.suite.splits for result in self._plan(plan)]
        splits, primary = corrected(splits, self.suite.primary_comparison)
        if primary is not None and primary.comparison is None:
            self.note(
                f"the primary comparison was not made: {primary.split} lacks {primary.model} or {primary.against}"
            )
        report = Report(
            title=f"{self.suite.name} on {self.workspace.catalogue.name}",
            suite=self.suite.name,
            description=self.suite.description,
            primary_comparison=primary,
            data=Data(
                name=self.workspace.catalogue.name,
                users=self.log.n_users,
                items=self.log.n_items,
                interactions=len(self.log),
                fingerprint=self.workspace["interactions"].require()[1].fingerprint,
                attributes=self.catalogue.attribute_fields,
            ),
            made=self._made(time.perf_counter() - began + self.kept),
            splits=splits,
            tables=[table for split in splits for table in paper_tables(split)],
            settings={
                "suite": self.suite.model_dump(mode="json"),
                "molar": self.settings.model_dump(mode="json", exclude=_NOT_SHOWN),
                "fast": self.registry.fast.model_dump(mode="json", exclude=_NOT_SHOWN),
            },
            notes=self.notes,
        )
        examples = ReportExamples(catalogue=str(self.workspace.catalogue), users=self.users)
        return Evaluation(self.out, report, examples, self.fewest)

    def _plan(self, plan: SplitPlan) -> list[SplitResult]:
        if plan.split == PREQUENTIAL:
            return [self._walked(plan)]
        models = self.registry.models(plan.models or self.suite.models)
        return [result for seen in plan.seen for result in self._split(self.made_split(plan, seen), models, seen)]

    def _walked(self, plan: SplitPlan) -> SplitResult:
        """The arms of a walk through time, judged over the cases of all steps."""
        if plan.seen != ("hide",):
            raise SettingsError("a walk through time asks for what is new to people", "leave seen at hide")
        walk = prequential(self.log, **checked_options(prequential, PREQUENTIAL, plan.options))
        check_leaks(walk.split)
        going = arms(plan.models or self.suite.models, self.settings, self.own)
        runner = self._runner(walk.split, "hide")
        place, k = self.root / "walks", self.suite.k
        walking = WalkRunner(walk, self.workspace, self.settings, runner.task, k, place, self.memory)
        trials = {}
        for arm in going:
            try:
                trials[arm.name] = found = walking.run(arm, self.progress)
            except DataError as error:
                self.note(f"{walk.split.name}: {arm.name} was left out: {error.message}")
                continue
            self._tell_fitted(walk.split.name, arm.name, found.trial)
        test, ran = next(iter(walk.split.tests)), [arm for arm in going if arm.name in trials]
        result = self._test(runner, test, ran, {name: [found.trial] for name, found in trials.items()})
        return result.model_copy(update={"walk": walk_result(walk, trials, self.suite)})

    def made_split(self, plan: SplitPlan, seen: Seen) -> Split:
        """Where seen items are shown, taking one of them again is an answer too."""
        repeats = {"repeats": True} if plan.split == "temporal" and seen == "show" else {}
        split = make_split(plan.split, self.log, {**plan.options, **repeats})
        check_leaks(split)
        return split

    def _split(self, split: Split, models: Sequence[Model], seen: Seen) -> list[SplitResult]:
        runner = self._runner(split, seen)
        trials = {model.name: found for model in models if (found := self._trials(runner, model, seen))}
        ran = [model for model in models if model.name in trials]
        cost, curve = self._served(runner, ran)
        first, *others = (self._test(runner, test, ran, trials) for test in split.tests)
        return [first.model_copy(update={"index": cost, "trade_off": curve}), *others]

    def _runner(self, split: Split, seen: Seen) -> TrialRunner:
        name = split.save(self.root / "splits").name
        task = EvaluationTask(
            training=split.training,
            validation=split.validation,
            candidates=self.candidates(),
            content=self.content,
            words=self.words,
            seen=seen,
            folder=self.root / "models" / name,
        )
        return TrialRunner(split, task, self.suite.k, self.root / "trials", self.memory, self.runner)

    def _trials(self, runner: TrialRunner, model: Model, seen: Seen) -> list[Trial]:
        found = []
        for seed in range(self.suite.seeds if model.stochastic else 1):
            watch = Timer()
            try:
                trial = runner.run(model, seed, self.progress)
            except DataError as error:
                self.note(f"{runner.split.name}: {model.name} was left out: {error.message}")
                return []
            took = watch.took
            self.trials += took
            if not trial.cached and took.seconds >= trial.fit_seconds:  # else it found a part of its fit made before
                self.taken.note_trial(runner, model, took)
            found.append(trial)
            several = self.suite.seeds > 1 and model.stochastic
            where = runner.split.name + ("" if seen == "hide" else ", seen items shown")
            self._tell_fitted(where, model.name + (f", seed {seed}" if several else ""), trial)
        return found

    def _tell_fitted(self, where: str, name: str, trial: Trial) -> None:
        self.kept += trial.fit_seconds + sum(trial.score_seconds.values()) if trial.cached else 0.0
        how = "kept from before" if trial.cached else f"fitted in {trial.fit_seconds:.0f} s"
        self.tell(f"{where}: {name}: {how}")

    def candidates(self) -> Mask:
        """Whether an item is ranked, shape (n_items,)."""
        if self.suite.candidates == "log":
            return np.bincount(self.log.item, minlength=self.log.n_items) > 0
        return np.ones(self.log.n_items, bool)

    def _test(
        self, runner: TrialRunner, test: str, models: Sequence[Tested], trials: Mapping[str, Sequence[Trial]]
    ) -> SplitResult:
        split, seen = runner.split, runner.task.seen
        cases = split.tests[test]
        ties = "" if split.settings.get("ties", FILE_ORDER) == FILE_ORDER else f", ties by {split.settings['ties']}"
        name = f"{split.name}, {test}{ties}" + ("" if seen == "hide" else ", seen items shown")
        groups = None if self.suite.category is None else groups_of(self.catalogue, self.suite.category)
        candidates = cases.among(runner.task.candidates)
        context = ListContext.of(runner.task.training, candidates, seen, self.content, groups)
        marked = labels(cases, runner.task.training, self.workspace, self.suite.columns, cases.readable)
        on = SplitTest(name, split.fingerprint, test, cases, context, marked, self.suite, self.fewest)
        scored = []
        for model in models:
            scores = [on.score(model, trial) for trial in trials[model.name]]
            for one in scores:
                write_scores(scores_path(self.out, name, model.name, one.seed), one)
            scored.append(self._with_kpi(split, on, model_scores(on, model, trials[model.name], scores)))
        against = best_baseline(scored, self.suite.primary)
        versus = compared(on, scored, pairs(scored, against, name, self.suite.primary_comparison))
        self._choose_examples(name, cases, trials, test, against)
        return SplitResult(
            name=name,
            title=f"{split.name}: {test}{ties}",
            fingerprint=split.fingerprint,
            settings=dict(split.settings),
            warning=split.warning,
            facts=dict(split.facts),
            seen=seen,
            cases=len(cases),
            users=len(np.unique(cases.user)),
            candidates=int(candidates.sum()),
            primary=self.suite.primary,
            against=against,
            models=[model_result(on, one, versus[one.model.name]) for one in scored],
        )

    def _with_kpi(self, split: Split, test: SplitTest, scored: ModelScores) -> ModelScores:
        """Conversion, and revenue where there are prices, on the test that takes all that came after a cut in time."""
        if split.name != "temporal" or not test.key.startswith("all "):
            return scored
        cases = test.cases
        price = np.ones(self.log.n_items) if self.prices is None else self.prices
        value = target_values(cases, price[cases.history.item])
        purchases = Purchases(cases.user, cases.offsets, scored.trials[0].ranked[test.key].ranks, value)
        found = estimate_kpis(purchases, self.suite.cutoffs, resamples=self.suite.resamples)
        priced = self.prices is not None
        kpi = {name: estimate(i) for name, i in found.items() if priced or name.startswith("conversion")}
        return replace(scored, kpi=kpi)

    def _served(self, runner: TrialRunner, models: Sequence[Model]) -> tuple[list[IndexCost], list[DiversityPoint]]:
        ours = next((model for model in models if isinstance(model, Molar) and model.name == OURS), None)
        if ours is None or not self.suite.index or runner.task.seen != "hide":
            return [], []
        scorer = ours.fit(runner.task, 0, self.progress)  # what it keeps on disk is not made twice
        cases, k, told = next(iter(runner.split.tests.values())), self.suite.k, self.progress
        cost = index_costs(scorer, cases, self.settings.index, k=k, cutoffs=self.suite.cutoffs, progress=told)
        cutoff = int(self.suite.primary.partition("@")[2])
        return cost, trade_off(scorer, cases, runner.task.candidates, self.content, cutoff, told)

    def _choose_examples(
        self, name: str, cases: Cases, trials: Mapping[str, Sequence[Trial]], test: str, against: str
    ) -> None:
        if self.users or OURS not in trials or not self.suite.examples or self.least > 1:
            return
        shown: dict[str, Ranked] = {n: trials[n][0].ranked[test] for n in dict.fromkeys((OURS, against))}
        chosen = choose(shown[OURS], shown[against] if against != OURS else None, cases, self.suite.examples)
        self.users.extend(examples(name, cases, chosen, shown, self.catalogue))

    def _made(self, seconds: float) -> Made:
        from molar_retrieval import __version__

        return Made(
            command=self.command,
            date=datetime.now(UTC).date().isoformat(),
            molar=__version__,
            commit=commit(),
            code=of_modules(*RESULTS),
            versions=library_versions(*LIBRARIES),
            cores=os.cpu_count() or 1,
            device=str(pick_device(self.settings.align.device)),
            seconds=round(seconds, 1),
        )

    def note(self, text: str) -> None:
        """Keep something for the report that a reader must know."""
        if text not in self.notes:
            self.notes.append(text)
            self.tell(text)
