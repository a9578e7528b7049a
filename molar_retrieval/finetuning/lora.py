"""Fine-tuning of a language model by low-rank adaptation (LoRA), with the trainer of sentence-transformers.

Facts about the libraries that shape this file (sentence-transformers 6.2, transformers 5.24, peft 0.21):

* ``SentenceTransformer.add_adapter`` asks for a newer peft than there is, so peft gets the transformers model itself.
* Checkpoints hold the whole model and cannot be loaded where there is an adapter; here they hold the adapter alone.
* A checkpoint is written file by file, so a run that is killed may leave half of one: ``run.json`` names the whole one.
* Batches without duplicates may be short, and with a batch size accelerate gives short ones to no process.
* The trainer would use all GPUs of a single process at once, by threads.
"""

import json
import math
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.base.sampler import RoundRobinBatchSampler
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.util import cos_sim
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, TrainerState

from molar_retrieval import rng
from molar_retrieval.encoders import registry
from molar_retrieval.encoders.base import memory_errors
from molar_retrieval.encoders.sentence import SentenceEncoder, require_packages
from molar_retrieval.errors import BackendError, SettingsError, StaleArtefactError
from molar_retrieval.finetuning.forecast import DAY, REMEDY
from molar_retrieval.finetuning.report import NAMES, Name
from molar_retrieval.finetuning.tasks import TaskData
from molar_retrieval.models.towers.distributed import ALONE, Processes
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace.files import write_atomically
from molar_retrieval.workspace.settings import EmbedSettings, LoraSettings

if TYPE_CHECKING:
    from peft import PeftModel

VALIDATIONS = 10
"""Of a run, where the settings do not say."""
_WARM_UP, _FINAL_RATE = 0.1, 0.05
_ADAPTER, _STATE, _RUN = "adapter.safetensors", "trainer_state.json", "run.json"
_NEEDED = {_ADAPTER, _STATE, "optimizer.pt", "scheduler.pt"}
_RANDOM = re.compile(r"rng_state(_\d+)?\.pth")
_SLACK = 1 << 24
_AGAIN = "run `molar finetune --restart`"
_NOTHING = {"text": "-"}


@dataclass(frozen=True)
class AdapterScore:
    """How well withheld items are found after some steps, by task, and the mean loss since the score before."""

    step: int
    scores: dict[Name, float]
    loss: float | None = None

    @property
    def value(self) -> float:
        """The mean over the tasks, by which the best step is known."""
        return sum(self.scores.values()) / len(self.scores)


@dataclass(frozen=True, eq=False)
class AdaptedEncoder:
    """An encoder, as `molar embed` runs it, on whose transformers model peft has put an adapter."""

    encoder: SentenceEncoder
    adapted: "PeftModel"

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return torch.device(self.encoder.model.device)

    def weights(self) -> dict[str, nn.Parameter]:
        """The adapter's weights by name; all others are frozen."""
        return {name: p for name, p in self.adapted.named_parameters() if p.requires_grad}

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.weights().values())

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Put other weights in their place; StaleArtefactError unless they are of the same shapes."""
        weights = self.weights()
        if {name: p.shape for name, p in weights.items()} != {name: t.shape for name, t in tensors.items()}:
            raise StaleArtefactError("the weights of an unfinished run are not those of this adapter", _AGAIN)
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter.copy_(tensors[name])


def load(settings: EmbedSettings, lora: LoraSettings, seed: int, cache: Path | None = None) -> AdaptedEncoder:
    """Load an encoder and put an adapter on it that does nothing yet; for ``cache`` see :func:`registry.describe`.

    SettingsError if the precision or the device is not fit for training, or the encoder is an adapter itself,
    BackendError if the model or a package is not available, or its language model cannot be told from its vision tower.
    """
    require_packages("peft", "datasets")
    kind, _, number = settings.device.partition(":")
    if kind == "cuda" and number not in ("", "0") and not Processes.of_launcher().several:
        raise SettingsError(
            f"an adapter cannot be trained on {settings.device!r} by that name",
            f"set the variable CUDA_VISIBLE_DEVICES={number} and the device 'cuda'",
        )
    if registry.located(settings, cache).kind == "adapter":
        raise SettingsError(f"{settings.model} is an adapter", "name a whole model, such as the merged one beside it")
    encoder = cast(SentenceEncoder, registry.load(settings, cache))
    if encoder.info.settings["dtype"] == "float16":
        raise SettingsError("embed.dtype = 'float16' is too coarse to train in", "use bfloat16, float32 or auto")
    from peft import LoraConfig, get_peft_model

    transformer: Any = encoder.model[0]
    encoder.model.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # any number will do
        lora_dropout=lora.dropout,
        target_modules=targets(transformer.model, settings.model, vision=lora.vision, share=lora.layer_share),
        task_type="FEATURE_EXTRACTION",
    )
    torch.manual_seed(rng.derive_seed(seed, "adapter"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going to change
        adapted = cast("PeftModel", get_peft_model(transformer.model, config))
        if lora.gradient_checkpointing and transformer.model.supports_gradient_checkpointing:
            # It is about to be called activation_checkpointing_enable.
            transformer.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    own: Any = adapted.peft_config["default"]
    folder = Path(settings.model).expanduser()
    own.base_model_name_or_path = str(folder.resolve()) if folder.is_dir() else settings.model
    own.revision = None if folder.is_dir() else encoder.info.revision
    return AdaptedEncoder(encoder, adapted)


def targets(model: Any, name: str, *, vision: bool, share: float = 1.0) -> list[str]:
    """The names of the linear layers that get an adapter: those of the language model, or of the vision tower as well.

    Of the language model's layers only the upper share do, at least one. BackendError if the model does not say which
    part of it is the language model.
    """
    sees = hasattr(model.config, "vision_config")
    text = model.get_decoder() if sees else model
    if sees and text is model and not vision:
        raise BackendError(
            f"the model {name!r} does not tell its language model from its vision tower",
            "set lora.vision = true to train both",
        )
    count = int(model.config.get_text_config().num_hidden_layers)
    left_out = count - max(1, round(share * count))
    stacks = (module for module in text.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
    lower = next(stacks)[:left_out] if left_out else ()
    below = {id(part) for layer in lower for part in layer.modules()}
    wanted = {id(part) for part in (model if vision else text).modules() if isinstance(part, nn.Linear)} - below
    return [place for place, module in model.named_modules() if id(module) in wanted]


class _Arguments(SentenceTransformerTrainingArguments):
    """A process has one GPU at most."""

    @property
    def n_gpu(self) -> int:
        return min(1, int(super().n_gpu))


class _Batches(RoundRobinBatchSampler):
    """As many batches as were promised, of whatever size; each task's in turn."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = None  # type: ignore[assignment] # then accelerate takes short ones
        for sampler in (self, *self.batch_samplers):
            sampler.drop_last = False

    def __iter__(self) -> Iterator[list[int]]:
        return islice(super().__iter__(), len(self))


@dataclass
class _Collator(SentenceTransformerDataCollator):
    """Makes a batch of pairs of codes; pairs with an input of which the encoder would see nothing are left out."""

    entries: Callable[[Sequence[int]], list[dict[str, Any]]] = lambda _: []

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        made = self.entries([code for row in features for code in row.values()])
        pairs = [{"query": own, "document": other} for own, other in zip(made[::2], made[1::2], strict=True)]
        kept = [pair for pair in pairs if all(pair.values())]
        return super().__call__(kept or [{"query": _NOTHING, "document": _NOTHING}])  # a single pair teaches nothing


class _Evaluator(BaseEvaluator):
    """Asks the encoder about withheld items."""

    def __init__(self, data: TaskData, encoder: SentenceEncoder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._data, self._encoder = data, encoder

    def __call__(self, model: Any, *arguments: Any, **named: Any) -> dict[str, float]:
        return {str(name): score for name, score in self._data.scores(self._encoder.encode).items()}


class _Course(TrainerCallback):
    """Shows how far the run is, tells scores once they are safe on disk, and stops it when they do not rise."""

    def __init__(self, trainer: "LoraTrainer") -> None:
        self._trainer = trainer
        self.moments: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for score in self._trainer.kept:
            self._trainer.tell(score)
        self._trainer.progress.start("steps", self._trainer.steps)
        self._trainer.progress.advance(state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self.moments:
            self.moments.append(perf_counter())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.moments.append(perf_counter())
        steps, progress = self._trainer.steps, self._trainer.progress
        progress.advance()
        if state.global_step >= steps:
            control.should_log = True
        if len(self.moments) == 2 and (days := steps * (self.moments[1] - self.moments[0]) / DAY) >= 1:
            progress.note(f"at the pace of the first step all {steps:,} take {days:,.0f} days; {REMEDY}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._trainer.keep()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer.keep()
        control.should_training_stop |= self._trainer.done


class LoraTrainer(SentenceTransformerTrainer):
    """A run in ``folder``; with one thread it is bit-equal when it is repeated, or killed and continued.

    A step sees a batch of each task. A validation comes before the first step, and after every few with a checkpoint.

    Attributes:
        steps: Of the whole run.
        every: Steps between two validations.
        kept: Scores that are safe on disk.
    """

    def __init__(
        self,
        learner: AdaptedEncoder,
        data: TaskData,
        lora: LoraSettings,
        folder: Path,
        run: str,
        seed: int,
        *,
        processes: Processes = ALONE,
        progress: Progress = SILENT,
        on_score: Callable[[AdapterScore], None] = lambda _: None,
        validates: bool = True,
    ) -> None:
        """Prepare the run that is known by the fingerprint ``run``."""
        from datasets import Dataset, DatasetDict

        self.learner, self.data, self.lora, self.folder, self.run = learner, data, lora, folder, run
        self.processes = processes
        self.progress = progress if processes.first else SILENT
        self._on_score = on_score
        self.steps = math.ceil(lora.n_examples / (lora.batch * processes.count))
        self.every = lora.validate_every or math.ceil(self.steps / VALIDATIONS)
        self.kept: list[AdapterScore] = []
        self._start = {name: p.detach().clone() for name, p in learner.weights().items()}
        self._largest = 4 * sum(p.nbytes for p in self._start.values()) + _SLACK
        encoder, dim = learner.encoder, learner.encoder.dim
        count = self.steps * lora.batch * processes.count
        drawn = {name: data.draw(name, count).T for name in data.tasks}
        when = "steps" if validates else "no"
        arguments = _Arguments(
            output_dir=str(folder),
            num_train_epochs=1,
            per_device_train_batch_size=lora.batch,
            gradient_accumulation_steps=len(drawn),
            learning_rate=lora.learning_rate,
            weight_decay=lora.weight_decay,
            warmup_steps=_WARM_UP,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": _FINAL_RATE},
            batch_sampler="no_duplicates",
            multi_dataset_batch_sampler=_Batches,
            eval_strategy=when,
            eval_steps=self.every,
            eval_on_start=validates,
            save_strategy=when,
            save_steps=self.every,
            logging_steps=self.every,
            seed=rng.derive_seed(seed, "dropout") % 2**31,
            report_to="none",
            disable_tqdm=True,
            use_cpu=learner.device.type == "cpu",
            dataloader_drop_last=True,  # several processes insist on it
            dataloader_pin_memory=learner.device.type == "cuda",
        )

        def similarity(left: Tensor, right: Tensor) -> Tensor:
            return cos_sim(left[:, :dim].float(), right[:, :dim].float())

        def entries(codes: Sequence[int]) -> list[dict[str, Any]]:
            return [encoder.entry(one) for one in data.inputs(codes)]

        self._course = _Course(self)
        super().__init__(
            model=encoder.model,
            args=arguments,
            train_dataset=DatasetDict(
                {name: Dataset.from_dict({"query": pairs[0], "document": pairs[1]}) for name, pairs in drawn.items()}
            ),
            loss=CachedMultipleNegativesRankingLoss(
                encoder.model,
                scale=1 / lora.temperature,
                similarity_fct=similarity,
                mini_batch_size=lora.mini_batch_size,
                directions=("query_to_doc", "doc_to_query"),
                partition_mode="per_direction",
            ),
            evaluator=_Evaluator(data, encoder) if validates else None,
            data_collator=_Collator(
                encoder.model.preprocess, prompts=str(encoder.info.settings["prompt"]), entries=entries
            ),
            callbacks=[self._course],
        )
        self.remove_callback(PrinterCallback)

    @property
    def best(self) -> AdapterScore | None:
        """The highest score, the earlier of equals."""
        return max(self.kept, key=lambda score: score.value, default=None)

    @property
    def done(self) -> bool:
        """Whether all steps are over, or the score has not risen for long enough."""
        if self.best is None:
            return False
        return self.kept[-1].step >= self.steps or len(self.kept) - 1 - self.kept.index(self.best) >= self.lora.patience

    @property
    def taken(self) -> int:
        """Steps taken."""
        return int(self.state.global_step)

    @property
    def step_seconds(self) -> float:
        """How long the last step took."""
        return self._course.moments[-1] - self._course.moments[-2]

    def fit(self) -> AdapterScore | None:
        """Train until done, going on from what an earlier process left; the best weights stay in place.

        Interrupted, it ends with the best so far, or raises the KeyboardInterrupt where there is nothing to keep. The
        first process returns the best score.

        Raises:
            StaleArtefactError: If what an earlier process left cannot be read.
            BackendError: If memory is too short even for one item at a time, or a loss is no number.
        """
        checkpoint = self._resumed()
        self.args.eval_on_start = self.args.eval_on_start and checkpoint is None
        try:
            if not self.done:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)  # accelerate calls torch by former names
                    self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except KeyboardInterrupt:
            if not self.kept:
                raise
        finally:
            self.progress.finish()
        if self.best is not None and self.processes.first:
            best = self.best.step
            self._load_from_checkpoint(str(self._checkpoint(best))) if best else self.learner.fill(self._start)
        return self.best

    def keep(self) -> None:
        """Remember and tell the score of this step."""
        self.kept = _scores(self.state)
        self.tell(self.kept[-1])

    def tell(self, score: AdapterScore) -> None:
        """Tell whoever listens, in the first process, of a score."""
        if self.processes.first:
            self._on_score(score)

    def _checkpoint(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step}"

    def _resumed(self) -> Path | None:
        """The whole checkpoint of this run, if there is one; everything else is removed."""
        if self.folder.is_symlink():
            raise StaleArtefactError(f"{self.folder} is a link", "remove it")
        step = 0
        with self._reading(self.folder / _RUN):
            if (self.folder / _RUN).is_file() and (self.folder / _RUN).stat().st_size <= _SLACK:
                found = json.loads((self.folder / _RUN).read_text("utf-8"))
                step = int(found["step"]) if found["run"] == self.run else 0
        last = self._checkpoint(step) if step else None
        if last is not None:
            with self._reading(last):
                self._check(last)
                state = TrainerState.load_from_json(str(last / _STATE))
                self.kept = _scores(state)
                if state.global_step != step or not 0 < step <= self.steps or self.kept[-1].step != step:
                    raise ValueError("it is of another step")
            if self.best is not None and self.best.step not in (0, step):
                with self._reading(self._checkpoint(self.best.step)):
                    self._check(self._checkpoint(self.best.step))
        if self.processes.first:
            self._remove_others()
        self.processes.agreed(None)
        return last

    def _check(self, checkpoint: Path) -> None:
        """Raise a ValueError unless a checkpoint has the files of one, and nothing that takes much memory to read."""
        files = sorted(checkpoint.iterdir())
        if checkpoint.is_symlink() or not {file.name for file in files} >= _NEEDED:
            raise ValueError("it is not whole")
        for file in files:
            known = file.name in _NEEDED or _RANDOM.fullmatch(file.name)
            if file.is_symlink() or not file.is_file() or not known:
                raise ValueError(f"{file.name} is no file of a checkpoint")
            size = file.stat().st_size
            if file.suffix in (".pt", ".pth"):
                with zipfile.ZipFile(file) as archive:
                    size = max(size, sum(entry.file_size for entry in archive.infolist()))
            if size > self._largest:
                raise ValueError(f"{file.name} is larger than that of this adapter can be")

    def _remove_others(self) -> None:
        """Keep the last whole checkpoint and the best one."""
        wanted = {_RUN} if self.kept else set()
        wanted |= {self._checkpoint(score.step).name for score in (*self.kept[-1:], *filter(None, [self.best]))}
        for path in self.folder.glob("*"):
            if path.name not in wanted:
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.processes.agreed(None)
        if self.processes.first:
            write_atomically(self.folder / _RUN, json.dumps({"run": self.run, "step": self.state.global_step}))
            self.kept = _scores(self.state)
            self._remove_others()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().cpu().contiguous() for name, p in self.learner.weights().items()}
        save_file(weights, folder / _ADAPTER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with self._reading(resume_from_checkpoint):
            self.learner.fill(load_file(Path(resume_from_checkpoint) / _ADAPTER))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with self._reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with self._reading(checkpoint):
            super()._load_rng_state(checkpoint)

    @contextmanager
    def _reading(self, what: Path | str | None) -> Iterator[None]:
        """All that goes wrong is a StaleArtefactError: a file that was tampered with raises almost anything."""
        try:
            yield
        except Exception as error:
            if isinstance(error, StaleArtefactError):
                raise
            raise StaleArtefactError(f"{what} is unreadable: {error}", _AGAIN) from error

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """The model card is another one."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Fill gradients, with fewer and fewer items in one forward pass until they fit into memory."""
        parameters = list(self.learner.weights().values())
        before = [None if p.grad is None else p.grad.clone() for p in parameters]
        while True:
            try:
                with memory_errors():
                    loss = super().training_step(model, inputs, num_items_in_batch)
                break
            except MemoryError as error:
                cached: Any = self.loss
                if cached.mini_batch_size == 1 or self.processes.several:
                    raise BackendError(
                        "memory is too short to train",
                        "lower lora.mini_batch_size or embed.image_pixels, or name a smaller model",
                    ) from error
                cached.mini_batch_size //= 2
                self.progress.note(f"memory is short: from now on {cached.mini_batch_size} items in one forward pass")
                for parameter, gradient in zip(parameters, before, strict=True):
                    parameter.grad = gradient if gradient is None else gradient.clone()
        if not torch.isfinite(loss):
            raise BackendError(
                f"the loss of step {self.state.global_step + 1} is no number", "lower lora.learning_rate"
            )
        return loss


def _scores(state: TrainerState) -> list[AdapterScore]:
    """The scores of a run so far."""
    losses, found = {}, []
    for entry in state.log_history:
        step = int(entry["step"])
        if "loss" in entry:
            losses[step] = float(entry["loss"])
        if own := {name: float(entry[f"eval_{name}"]) for name in NAMES if f"eval_{name}" in entry}:
            found.append(AdapterScore(step, own, losses.get(step)))
    return found
