"""Models of another project under test, which a script runs in an environment of their own: RecTools' transformers."""

import ast
import json
import subprocess
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.cases import Mask, Scores
from molar_eval.models.base import EvaluationTask, Fitted, Kind, Model, Scoring, sample, validation_ndcg
from molar_eval.models.peers.environments import RECTOOLS, NotInstallableError, PeerEnvironment
from molar_eval.models.peers.scripts.exchange import PLAN, Histories
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError
from molar_retrieval.models.item_item import known_items
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.files import for_owner, write_atomically

SCRIPTS = Path(__file__).with_name("scripts")
LOG = "peer.log"
_QUESTION = "question"
_TAIL = 400
_UNTIL = {"epochs": 100, "patience": 10}
_LONG = {"session_max_len": 200, "n_blocks": 2, "lr": 1e-3, "batch_size": 128}
_BERT4REC = {"n_factors": 64, "n_heads": 2, "dropout_rate": 0.1, "loss": "softmax", "mask_prob": 0.2}
_SASREC = {"n_factors": 64, "n_heads": 1, "dropout_rate": 0.1, "loss": "softmax"}
_HSTU = {
    "n_factors": 50,
    "n_heads": 1,
    "dropout_rate": 0.2,
    "loss": "sampled_softmax",
    "n_negatives": 128,
    "lightning_module_kwargs": {"logits_t": 0.05},
}
_RECTOOLS: dict[str, tuple[dict[str, Any], str]] = {
    "SASRec": (
        _SASREC,
        "sizes of github.com/blondered/transformer_benchmark (configs/paper/loo/ml_1m.yaml), with the full softmax of "
        "Klenitskiy and Vasilev 2023 (arXiv 2309.07602)",
    ),
    "BERT4Rec": (_BERT4REC, "Klenitskiy and Vasilev 2023 (arXiv 2309.07602)"),
    "HSTU": (
        _HSTU,
        "github.com/meta-recsys/generative-recommenders, HSTU for MovieLens-1M: 128 negatives, temperature 0.05",
    ),
}
"""Settings that their authors published for MovieLens-1M, and where."""


def peers(environments: Path) -> dict[str, Callable[[], Model]]:
    """Makes each of the peers that suites can name; ``environments`` is where theirs are made."""
    found: dict[str, Callable[[], Model]] = {}
    for model, (settings, source) in _RECTOOLS.items():
        name, options = f"RecTools {model}", {"model": model, "settings": {**_LONG, **settings}, **_UNTIL}
        found[name] = partial(Peer, name, RECTOOLS, environments, "rectools-transformers.py", options, source)
    return found


@dataclass(frozen=True, eq=False)
class Peer:
    """Another project's model with settings that its authors published.

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

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> "PeerScorer":
        """Train; DataError where there is nothing to train on, no environment can be made, or the script fails."""
        if not len(data.training):
            raise DataError(f"{self.name}: there are no training interactions", "check the split, or give more data")
        python = self._python(progress)
        cases, scorable = sample(data.validation), known_items(data.training)
        name = fingerprint.of_json([self.settings, seed, data.digest])
        folder = data.folder / f"peer-{name[:16]}"
        if not (folder / PLAN).exists():
            folder.mkdir(parents=True, exist_ok=True)
            _histories(data.training).write(folder, "training")
            _histories(cases.inputs()).write(folder, "validation")
            for_owner(folder)
            plan = {"items": data.training.n_items, "seed": seed, "options": dict(self.options)}
            write_atomically(folder / PLAN, json.dumps(plan, indent=1))
        process = PeerProcess(self.name, python, SCRIPTS / self.script, folder)
        progress.start(self.name, self.options.get("epochs"))
        while "judge" in (message := process.hear()):
            judged = _in_order(_read_scores(folder / message["judge"]))
            process.say(repr(validation_ndcg(Fitted(judged, scorable, {}), data, cases)))
            progress.advance()
        progress.finish()
        return PeerScorer(process, folder, scorable, {**message["facts"], "validation_cases": len(cases)})

    def _python(self, progress: Progress) -> Path:
        folder = self.environments / self.environment.name
        if self.environment.made(folder) is None:
            progress.start(f"installing {', '.join(self.environment.pins)}", None)
        try:
            return self.environment.make(folder)
        except NotInstallableError as error:
            what = f"{self.name}: its environment cannot be made: {error}"
            raise DataError(what, "leave this model out of the suite, or run it where packages can be had") from error


class PeerProcess:
    """A running script, which ends with the last reference to it, or with us.

    It hears lines on its standard input and answers in JSON; whatever else it prints goes into ``peer.log`` in its
    folder. The interpreter reads no variables of our Python's.
    """

    def __init__(self, name: str, python: Path, script: Path, folder: Path) -> None:
        self.name, self._log = name, folder / LOG
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python.absolute(), "-E", "-s", "-u", script.absolute(), folder.absolute()],
                cwd=folder,  # some libraries write where they stand
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )
        self._end = weakref.finalize(self, _end, self._process)

    def say(self, line: str) -> None:
        """Send a line; DataError if nobody is there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._lost() from error

    def hear(self) -> Mapping[str, Any]:
        """The next message; DataError if the script ended before it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._lost()
        message: Mapping[str, Any] = json.loads(line)
        return message

    def _lost(self) -> DataError:
        code = self._process.wait()
        printed = self._log.read_text("utf-8", errors="replace").strip()[-_TAIL:]
        last = printed.splitlines()[-1] if printed else "it printed nothing"
        return DataError(f"{self.name}: its script ended with {code}: {last}", f"read {self._log}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


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
        table = _read_scores(self.folder / self.process.hear()["answer"])
        if table.shape != (inputs.n_users, inputs.n_items):
            what = f"{self.process.name}: its script returned scores of shape {table.shape}"
            raise DataError(what, f"return one of {inputs.n_users} rows and {inputs.n_items} columns")
        table[:, ~self.scorable] = -np.inf
        return table

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Nothing more; see :class:`molar_eval.models.base.Scorer`."""
        return scores


def _read_scores(path: Path) -> Scores:
    """The scores in a file, which is removed: each is of megabytes."""
    table: Scores = np.load(path)
    path.unlink()
    return table


def _in_order(table: Scores) -> Scoring:
    """Scores that are there already, asked for block by block."""
    rows = iter(table)
    return lambda inputs: np.stack([next(rows) for _ in range(inputs.n_users)])


def _histories(log: Interactions) -> Histories:
    asked = np.zeros(log.n_users, np.int64) if log.asked_at is None else log.asked_at
    return Histories(log.user.astype(np.int64), log.item.astype(np.int64), log.timestamp.astype(np.int64), asked)
