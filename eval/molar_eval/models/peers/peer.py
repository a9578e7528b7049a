"""A model of another project under test."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.cases import Mask, Scores
from molar_eval.models.base import Kind, Task
from molar_eval.models.peers.environments import NotInstallableError, PeerEnvironment
from molar_eval.models.peers.process import PeerProcess
from molar_eval.models.peers.scripts.exchange import CONTENT, PLAN, PeerHistories
from molar_eval.models.tuning import Fitted, Scoring, sample, validation_ndcg
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models.item_item import known_items
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically

SCRIPTS = Path(__file__).with_name("scripts")
_QUESTION = "question"


@dataclass(frozen=True, eq=False)
class Peer:
    """Another project's model with settings that its authors published, or its defaults.

    ``script`` is a file of ``scripts/`` that runs in an ``environment`` below ``environments``; ``options`` are what it
    is told, ``source`` where they come from. Validation chooses the epoch, by our metric. A killed run goes on as far
    as the script can.
    """

    name: str
    environment: PeerEnvironment
    environments: Path
    script: str
    options: Mapping[str, Any]
    source: str
    kind: Kind = field(default="baseline", init=False)
    stochastic: bool = field(default=True, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the result."""
        code = ast.dump(ast.parse((SCRIPTS / self.script).read_text("utf-8")))  # comments do not count
        return {
            "options": dict(self.options),
            "source": self.source,
            "requirements": self.environment.requirements,
            "script": fingerprint.of_json(code),
        }

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> "PeerScorer":
        """Train; DataError where there is nothing to train on, no environment can be made, or the script fails."""
        if not len(task.training):
            raise DataError(f"{self.name}: there are no training interactions", "check the split, or give more data")
        python = self._python(progress)
        name = fingerprint.of_json([self.settings, seed, task.digest])
        folder = task.folder / f"peer-{name[:16]}"
        _write(folder, task, self.options, seed)
        process = PeerProcess(self.name, python, SCRIPTS / self.script, folder)
        cases, scorable = sample(task.validation), known_items(task.training)
        progress.start(self.name, self.options.get("epochs"))
        while "judge" in (message := process.hear()):
            table = _taken(folder / message["judge"])
            process.say(repr(validation_ndcg(Fitted(_in_order(table), scorable, {}), task, cases)))
            progress.advance()
        progress.finish()
        facts = {**message["facts"], "validation_cases": len(cases)}
        return PeerScorer(process, folder, scorable, facts)

    def _python(self, progress: Progress) -> Path:
        folder = self.environments / self.environment.name
        if self.environment.made(folder) is None:
            progress.start(f"installing {', '.join(self.environment.pins)}", None)
        try:
            return self.environment.make(folder)
        except NotInstallableError as error:
            what = f"{self.name}: its environment cannot be made: {error}"
            raise DataError(what, "leave this model out of the suite, or run it where packages can be had") from error


@dataclass(frozen=True, eq=False)
class PeerScorer:
    """A trained peer, whose process answers; items without training interactions it cannot score."""

    process: PeerProcess
    folder: Path
    scorable: Mask
    facts: Mapping[str, Any]
    files: None = field(default=None, init=False)  # its process is the only one that answers

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        _histories(inputs).write(self.folder, _QUESTION)
        self.process.say(_QUESTION)
        table = _taken(self.folder / self.process.hear()["answer"])
        if table.shape != (inputs.n_users, inputs.n_items):
            what = f"{self.process.name}: its script returned scores of shape {table.shape}"
            raise DataError(what, f"return one of {inputs.n_users} rows and {inputs.n_items} columns")
        table[:, ~self.scorable] = -np.inf
        return table

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Nothing more; see :class:`molar_eval.models.base.Scorer`."""
        return scores


def _taken(path: Path) -> Scores:
    """The scores in a file, which goes: each is of megabytes."""
    table: Scores = np.load(path)
    path.unlink()
    return table


def _in_order(table: Scores) -> Scoring:
    """Scores that are there already, asked for block by block."""
    rows = iter(table)
    return lambda inputs: np.stack([next(rows) for _ in range(inputs.n_users)])


def _write(folder: Path, task: Task, options: Mapping[str, Any], seed: int) -> None:
    """All that the script may see; nothing where it is there already."""
    if (folder / PLAN).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    _histories(task.training).write(folder, "training")
    _histories(sample(task.validation).inputs()).write(folder, "validation")
    if task.content is not None:
        np.save(folder / CONTENT, task.content)
    for_owner(folder)
    plan = {"items": task.training.n_items, "seed": seed, "options": dict(options)}
    write_atomically(folder / PLAN, json.dumps(plan, indent=1))


def _histories(log: Interactions) -> PeerHistories:
    never = np.zeros(log.n_users, np.int64)
    return PeerHistories(
        row=log.user.astype(np.int64),
        item=log.item.astype(np.int64),
        timestamp=log.timestamp.astype(np.int64),
        asked_at=never if log.asked_at is None else log.asked_at,
        person=never - 1 if log.asked_by is None else log.asked_by,
    )
