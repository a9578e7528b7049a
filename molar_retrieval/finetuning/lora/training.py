"""The training run: steps that mix the tasks, validation, early stopping, checkpoints."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import torch

from molar_retrieval.config import LoraSettings
from molar_retrieval.encoders import runtime
from molar_retrieval.errors import BackendError
from molar_retrieval.finetuning.forecast import DAY, REMEDY
from molar_retrieval.finetuning.lora import checkpoint
from molar_retrieval.finetuning.lora.checkpoint import Score, Story
from molar_retrieval.finetuning.lora.examples import ExampleSampler
from molar_retrieval.finetuning.lora.learner import Learner
from molar_retrieval.finetuning.lora.objective import Objective
from molar_retrieval.finetuning.lora.step import Drawn, Step
from molar_retrieval.finetuning.lora.validation import AdapterValidation
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.training.processes import ALONE, Processes

T = TypeVar("T")
_VALIDATIONS = 10
_WARM_UP = 0.1
_FINAL_RATE = 0.05
_STEEPEST = 1.0


class Trainer:
    """One run in memory; with one thread it is bit-equal when it is repeated, or killed and continued.

    Args:
        learner: What learns.
        examples: What it learns from.
        trial: What it is judged by.
        lora: Rates and sizes.
        run: Fingerprint of data and settings.
        processes: Who trains; gradients are averaged, negatives stay with each process.
    """

    def __init__(
        self,
        learner: Learner,
        examples: ExampleSampler,
        trial: AdapterValidation,
        lora: LoraSettings,
        run: str,
        processes: Processes = ALONE,
    ) -> None:
        self.learner, self.examples, self.trial, self.lora = learner, examples, trial, lora
        self.processes = processes
        self.story = Story(run, lora.chunk)
        self.steps = math.ceil(lora.examples / (lora.batch * processes.count))
        self.every = lora.validate_every or max(1, math.ceil(self.steps / _VALIDATIONS))
        self.optimiser = torch.optim.AdamW(
            learner.trained().values(), lr=lora.learning_rate, weight_decay=lora.weight_decay
        )
        self.objective = Objective(learner, lora, processes.index)
        self._ahead = ThreadPoolExecutor(1, "molar-examples")
        self._next: tuple[int, Future[Drawn]] | None = None

    @property
    def done(self) -> bool:
        """Whether all steps are over, or withheld items have not been found better for long enough."""
        scores = self.story.scores
        if not scores:
            return False
        since = sum(score.step > self.story.best.step for score in scores)
        return self.story.step >= self.steps or since >= self.lora.patience

    def train(
        self, folder: Path, progress: Progress = SILENT, on_score: Callable[[Score], None] = lambda _: None
    ) -> Score:
        """Train until done, continuing what an earlier process left in ``folder``; the best adapter is left in place.

        Args:
            folder: For the checkpoints.
            progress: Told of each step.
            on_score: Told of each score once it is safe on disk.

        Returns:
            The score of that adapter; ``done`` is False where the run was interrupted.

        Raises:
            KeyboardInterrupt: If it is interrupted before there is anything to keep.
        """
        progress = progress if self.processes.first else SILENT
        self.story = checkpoint.load(folder, self.learner, self.optimiser, self.story)
        for score in self.story.scores:
            on_score(score)
        stopped = None
        try:
            with torch.random.fork_rng():
                self._run(folder, progress, on_score)
        except KeyboardInterrupt as interruption:
            stopped = interruption
        finally:
            self._ahead.shutdown(cancel_futures=True)
            progress.finish()
        best = checkpoint.load_best(folder, self.learner, self.story.run) if self.processes.first else self.story.best
        if best is None:
            raise stopped or KeyboardInterrupt
        return best

    def _run(self, folder: Path, progress: Progress, on_score: Callable[[Score], None]) -> None:
        if not self.story.scores:
            progress.note("asking about withheld items before the first step ...")
            self._judge(folder, progress, on_score)
        progress.start("steps", self.steps)
        progress.advance(self.story.step)
        began, first = perf_counter(), self.story.step
        while not self.done:
            self.step(progress)
            progress.advance()
            if self.story.step == first + 1 and (days := self.steps * (perf_counter() - began) / DAY) >= 1:
                progress.note(f"at the pace of the first step all {self.steps:,} take {days:,.0f} days; {REMEDY}")
            if self.story.step % self.every == 0 or self.story.step == self.steps:
                self._judge(folder, progress, on_score)
            elif self.story.step % self.lora.save_every == 0 and self.processes.first:
                checkpoint.save(folder, self.learner, self.optimiser, self.story)

    def _judge(self, folder: Path, progress: Progress, on_score: Callable[[Score], None]) -> None:
        own = None
        if self.processes.first:
            own = self._within_memory(lambda: self.trial.scores(self.learner, self.story.chunk), progress)
        scores = self.processes.agreed(own)
        assert scores is not None
        since = self.story.step - (self.story.scores[-1].step if self.story.scores else 0)
        losses = {name: total / max(1, since) for name, total in self.story.losses.items()}
        score = Score(self.story.step, scores, losses)
        self.story.scores.append(score)
        self.story.losses = {}
        if self.processes.first:
            checkpoint.save(folder, self.learner, self.optimiser, self.story)
            on_score(score)

    def step(self, progress: Progress = SILENT) -> dict[str, float]:
        """Take one step.

        Returns:
            The losses by task.

        Raises:
            BackendError: If memory is short even for one item at a time, or a loss is no number.
        """
        made = self._examples(self.story.step)
        self.learner.training(True)
        losses = self._within_memory(
            lambda: self.objective.gradients(made, self.story.step, self.story.chunk), progress
        )
        if not all(map(math.isfinite, losses.values())):
            raise BackendError(
                f"a loss of step {self.story.step + 1} is no number: {losses}", "lower lora.learning_rate"
            )
        parameters = list(self.learner.trained().values())
        self.processes.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, _STEEPEST)
        for group in self.optimiser.param_groups:
            group["lr"] = self.lora.learning_rate * self._rate()
        self.optimiser.step()
        self.story.step += 1
        for name, loss in losses.items():
            self.story.losses[name] = self.story.losses.get(name, 0.0) + loss
        return losses

    def _within_memory(self, work: Callable[[], T], progress: Progress) -> T:
        """Do some work with fewer and fewer items in one forward pass, until it fits."""
        while True:
            try:
                with runtime.memory_errors():
                    return work()
            except MemoryError as error:
                if self.story.chunk == 1:
                    raise BackendError(
                        "memory is too short to train on a single item",
                        "lower embed.image_pixels or embed.max_text_tokens, or name a smaller model",
                    ) from error
            self.story.chunk //= 2
            progress.note(f"memory is short: from now on {self.story.chunk} items in one forward pass")

    def _examples(self, number: int) -> Step:
        """The examples of a step; photos of the next one are opened meanwhile."""
        own = self.processes.index, self.processes.count
        ready = self._next
        there = ready is not None and ready[0] == number
        drawn = ready[1].result() if ready is not None and there else self.examples.draw(number, *own)
        self._next = None
        if number + 1 < self.steps:
            self._next = number + 1, self._ahead.submit(self.examples.draw, number + 1, *own)
        return self.examples.build(drawn, self.learner.encoder.entry)

    def _rate(self) -> float:
        """Linear warm-up, then a cosine down to a twentieth."""
        done = self.story.step / self.steps
        warm_up = min(1.0, (self.story.step + 1) / max(1.0, _WARM_UP * self.steps))
        return warm_up * (_FINAL_RATE + (1 - _FINAL_RATE) * (1 + math.cos(math.pi * done)) / 2)
