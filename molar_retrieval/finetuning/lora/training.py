"""Training an adapter: steps that mix the tasks, and how well withheld items are found after some of them."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch

from molar_retrieval.encoders import base
from molar_retrieval.errors import BackendError
from molar_retrieval.finetuning.forecast import DAY, REMEDY
from molar_retrieval.finetuning.lora.examples import Drawn, ExampleSampler, Step
from molar_retrieval.finetuning.lora.learner import Learner
from molar_retrieval.finetuning.lora.objective import Objective
from molar_retrieval.finetuning.lora.validation import AdapterValidation
from molar_retrieval.finetuning.report import Name
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.models.towers.trainer import Trainer, TrainingState, warm_cosine
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.settings import LoraSettings

T = TypeVar("T")
_VALIDATIONS = 10
_WARM_UP = 0.1


@dataclass(frozen=True)
class AdapterScore:
    """How well withheld items are found after some steps, and mean losses since the score before, both by task.

    Losses of writing end in ``words``.
    """

    step: int
    scores: dict[Name, float]
    losses: dict[str, float]

    @property
    def value(self) -> float:
        """The mean over the tasks, by which the best step is known."""
        return sum(self.scores.values()) / len(self.scores)


class AdapterTrainer(Trainer[AdapterScore]):
    """Trains an adapter; a score comes before the first step, and after every few.

    Of several processes gradients are averaged; negatives stay with each.
    """

    score_type = AdapterScore

    def __init__(
        self,
        learner: Learner,
        examples: ExampleSampler,
        validation: AdapterValidation,
        lora: LoraSettings,
        run: str,
        processes: Processes = ALONE,
    ) -> None:
        self.learner, self.examples, self.validation, self.lora = learner, examples, validation, lora
        self.steps = math.ceil(lora.examples / (lora.batch * processes.count))
        self.every = lora.validate_every or max(1, math.ceil(self.steps / _VALIDATIONS))
        weights = learner.trained()
        super().__init__(
            weights,
            torch.optim.AdamW(weights.values(), lr=lora.learning_rate, weight_decay=lora.weight_decay),
            TrainingState(run, lora.chunk),
            rounds=1 + math.ceil(self.steps / self.every),
            patience=lora.patience,
            remedy="run `molar finetune --restart`",
            processes=processes,
        )
        self.objective = Objective(learner, lora, processes.index)
        self._ahead = ThreadPoolExecutor(1, "molar-examples")
        self._next: dict[int, Future[Drawn]] = {}
        self._began = 0.0

    def train(
        self, folder: Path, progress: Progress = SILENT, on_score: Callable[[AdapterScore], None] = lambda _: None
    ) -> AdapterScore | None:
        """See :meth:`Trainer.train`; where it is interrupted the best so far stays in place, and ``done`` is False.

        Interrupted before there is anything to keep it raises the KeyboardInterrupt.
        """
        progress = progress if self.processes.first else SILENT
        try:
            return super().train(folder, progress, on_score)
        except KeyboardInterrupt:
            if (best := self.restore_best()) is None:
                raise
            return best
        finally:
            self._ahead.shutdown(cancel_futures=True)
            progress.finish()

    def _round(self, progress: Progress) -> AdapterScore | None:
        if not self.state.scores:
            progress.note("asking about withheld items before the first step ...")
            return self._score(progress)
        first = not self._began
        if first:
            progress.start("steps", self.steps)
            progress.advance(self.state.step)
            self._began = perf_counter()
        while True:
            self.step(progress)
            progress.advance()
            if first and (days := self.steps * (perf_counter() - self._began) / DAY) >= 1:
                progress.note(f"at the pace of the first step all {self.steps:,} take {days:,.0f} days; {REMEDY}")
            first = False
            if self.state.step % self.every == 0 or self.state.step == self.steps:
                return self._score(progress)
            if self.state.step % self.lora.save_every == 0:
                self.save()

    def _score(self, progress: Progress) -> AdapterScore | None:
        if not self.processes.first:
            return None
        scores = self._within_memory(lambda: self.validation.scores(self.learner, self._chunk), progress)
        since = self.state.step - (self.state.scores[-1].step if self.state.scores else 0)
        losses = {name: total / max(1, since) for name, total in self.state.losses.items()}
        return AdapterScore(self.state.step, scores, losses)

    @property
    def _chunk(self) -> int:
        assert self.state.chunk is not None
        return self.state.chunk

    def step(self, progress: Progress = SILENT) -> dict[str, float]:
        """Take one step; BackendError if memory is short even for one item at a time, or a loss is no number."""
        made = self._examples(self.state.step)
        self.learner.training(True)
        losses = self._within_memory(lambda: self.objective.gradients(made, self.state.step, self._chunk), progress)
        if not all(map(math.isfinite, losses.values())):
            raise BackendError(
                f"a loss of step {self.state.step + 1} is no number: {losses}", "lower lora.learning_rate"
            )
        warm_up = max(1.0, _WARM_UP * self.steps)
        self.update(self.lora.learning_rate * warm_cosine(self.state.step, self.steps, warm_up))
        for name, loss in losses.items():
            self.state.losses[name] = self.state.losses.get(name, 0.0) + loss
        return losses

    def _within_memory(self, work: Callable[[], T], progress: Progress) -> T:
        """Do some work with fewer and fewer items in one forward pass, until it fits."""
        while True:
            try:
                with base.memory_errors():
                    return work()
            except MemoryError as error:
                if self._chunk == 1:
                    raise BackendError(
                        "memory is too short to train on a single item",
                        "lower embed.image_pixels or embed.max_text_tokens, or name a smaller model",
                    ) from error
            self.state.chunk = self._chunk // 2
            progress.note(f"memory is short: from now on {self.state.chunk} items in one forward pass")

    def _examples(self, number: int) -> Step:
        """The examples of a step; photos of the next one are opened meanwhile."""
        own = self.processes.index, self.processes.count
        ready = self._next.get(number)
        drawn = self.examples.draw(number, *own) if ready is None else ready.result()
        self._next = {}
        if number + 1 < self.steps:
            self._next = {number + 1: self._ahead.submit(self.examples.draw, number + 1, *own)}
        return self.examples.build(drawn, self.learner.encoder.entry)
