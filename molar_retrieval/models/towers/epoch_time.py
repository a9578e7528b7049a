"""What an epoch of the towers takes, from a few of its steps; which do not depend on what the towers know already."""

from molar_retrieval import rng
from molar_retrieval.models.towers.batches import training_batches
from molar_retrieval.models.towers.distributed import threads
from molar_retrieval.models.towers.training import TowerTrainer, TrainingData, validate
from molar_retrieval.workspace.resources import Timer, Took, timed
from molar_retrieval.workspace.settings import AlignSettings

_WARM, _FEWEST, _SECONDS = 3, 5, 8.0
"""Steps before the clock runs; how many it times at least; for how long at most, where these are more."""


def epoch_time(data: TrainingData, settings: AlignSettings) -> Took:
    """What one epoch takes, its validation included; all sizes of ``settings`` are filled in, and a tower is named."""
    with threads(settings.threads):
        trainer = TowerTrainer(data, settings, "forecast")
        random = rng.generator(settings.seed, "batches", 1)
        batches = training_batches(data.log, trainer.windows, trainer.batch_tokens, random)
        trainer.network.train()
        chosen = [batches[place] for place in random.permutation(len(batches))]
        for windows in chosen[:_WARM]:
            trainer.step(windows, random)
        watch, steps = Timer(), 0
        for windows in chosen:
            trainer.step(windows, random)
            steps += 1
            if steps >= _FEWEST and watch.took.seconds > _SECONDS:
                break
        training = watch.took * (len(batches) / max(1, steps))
        return training + timed(lambda: validate(trainer.network, trainer.validation, trainer.precision))
