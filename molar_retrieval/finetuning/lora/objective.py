"""What a step asks for, as gradients of the adapter: finding by contrast, writing word by word."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from molar_retrieval.finetuning.lora.examples import Step
from molar_retrieval.finetuning.lora.learner import Learner, chunks
from molar_retrieval.models.towers.training import info_nce, next_item
from molar_retrieval.workspace.settings import LoraSettings


class Objective:
    """The weighted sum of the tasks' losses; dropout is drawn from the number of the process."""

    def __init__(self, learner: Learner, lora: LoraSettings, process: int = 0) -> None:
        self.learner, self.lora, self.process = learner, lora, process

    def gradients(self, made: Step, step: int, chunk: int) -> dict[str, float]:
        """Fill the gradients of a step, whose number decides its dropout, with ``chunk`` items in one forward pass.

        Losses are returned by task; those of writing end in ``words``.
        """
        for parameter in self.learner.trained().values():
            parameter.grad = None
        groups = chunks(made.entries, chunk)
        order = torch.tensor([place for group in groups for place in group]).argsort()
        features = [self.learner.features([made.entries[place] for place in group]) for group in groups]
        losses: dict[str, float] = {}

        def encode(number: int) -> Tensor:
            self.learner.seed(self.process, step, number)
            return self.learner.vectors(features[number])

        def loss_of(vectors: Tensor) -> Tensor:
            return self._found(made, vectors[order.to(vectors.device)], losses)

        if groups and self.lora.gradient_caching:
            cached_backward(len(groups), encode, loss_of)
        elif groups:
            vectors = torch.cat([encode(number) for number in range(len(groups))])
            loss_of(vectors).backward()  # type: ignore[no-untyped-call]
        if self.learner.head is not None and self.lora.generate:
            losses |= self._written(made, step, chunk)
        return losses

    def _found(self, made: Step, vectors: Tensor, losses: dict[str, float]) -> Tensor:
        """The weighted sum of the contrastive losses, which are put into ``losses``."""

        def on(array: object) -> Tensor:
            return torch.as_tensor(array, device=vectors.device)

        total, heat = vectors.sum() * 0, self.lora.temperature
        for name, pairs in made.pairs.items():
            if len(pairs.left) > 1:
                loss = info_nce(vectors[on(pairs.left)], vectors[on(pairs.right)], heat, on(pairs.blocked))
                total = total + self._weight(name) * loss
                losses[name] = loss.item()
        if (asked := made.histories) is not None:
            users = F.normalize(on(asked.weights) @ vectors, dim=-1)
            target, log_q, blocked = (on(array) for array in (asked.target, asked.log_q, asked.blocked))
            loss = next_item(users, vectors[on(asked.items)], target, log_q, blocked, heat)
            total = total + self._weight("behaviour") * loss
            losses["behaviour"] = loss.item()
        return total

    def _written(self, made: Step, step: int, chunk: int) -> dict[str, float]:
        """Add the gradients of writing the answers, some at a time; the mean losses per token."""
        losses = {}
        for name, answers in made.answers.items():
            entries, texts = [made.entries[place] for place, _ in answers], [text for _, text in answers]
            count = sum(self.learner.length(text) for text in texts)
            total = 0.0
            for number, group in enumerate(chunks(entries, chunk)):
                self.learner.seed(self.process, step, name, number)
                loss = self.learner.surprise([entries[n] for n in group], [texts[n] for n in group])
                (loss * (self._weight(name) * self.lora.generate / count)).backward()  # type: ignore[no-untyped-call]
                total += loss.item()
            if count:
                losses[f"{name} words"] = total / count
        return losses

    def _weight(self, name: str) -> float:
        weight: float = getattr(self.lora, f"{name}_weight")
        return weight


def cached_backward(chunks: int, encode: Callable[[int], Tensor], loss_of: Callable[[Tensor], Tensor]) -> None:
    """Add the gradients of ``loss_of`` (all vectors) to the parameters, with one chunk's graph in memory at a time.

    GradCache (Gao et al. 2021, arXiv 2101.06983): the vectors are made without a graph first; then the loss says how it
    depends on them, and each chunk is made again to carry that further: ``encode`` must give the same vectors, shape
    (c, d), for the same number, dropout included. One chunk is made once.
    """
    if chunks == 1:
        loss_of(encode(0)).backward()  # type: ignore[no-untyped-call]
        return
    with torch.no_grad():
        parts = [encode(number) for number in range(chunks)]
    leaf = torch.cat(parts).requires_grad_()
    loss_of(leaf).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    for number, slope in enumerate(torch.split(leaf.grad, [len(part) for part in parts])):
        encode(number).backward(slope)  # type: ignore[no-untyped-call]
