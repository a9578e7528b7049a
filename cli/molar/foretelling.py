"""What steps would take before they are done: time, disk, energy, money. Nothing is written."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase
from molar.bill import Bill, tell

if TYPE_CHECKING:
    from molar.evaluation_forecast import EvaluationForecast
    from molar.forecasting import AlignForecast
    from molar_retrieval.embedding import EmbedForecast
    from molar_retrieval.finetuning.forecast import FinetuneForecast
    from molar_retrieval.models.protocol import Model
    from molar_retrieval.workspace.config_files import Preset


class Foretelling(ShopBase):
    """Says what each step of :class:`~molar.making.Making` would take."""

    def forecast(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        dim: int | None = None,
        batch_size: int | None = None,
        device: str | None = None,
        offline: bool | None = None,
        where: str | None = None,
        trust_remote_code: bool = False,
    ) -> "EmbedForecast":
        """What :meth:`embed` would take in time and on disk; nothing is written.

        Args:
            model: See :meth:`embed`.
            revision: See :meth:`embed`.
            dim: See :meth:`embed`.
            batch_size: See :meth:`embed`.
            device: See :meth:`embed`.
            offline: See :meth:`embed`.
            where: See :meth:`embed`.
            trust_remote_code: See :meth:`embed`.
        """
        from molar_retrieval.data.prepare import prepare_catalogue
        from molar_retrieval.embedding import dry_run

        flags = {"model": model, "revision": revision, "dim": dim, "batch_size": batch_size, "device": device}
        chosen = self._encoding(trust=trust_remote_code, embed=flags | {"offline": offline}).embed
        with self.bound(dry=True) as place, self.progress() as progress:
            if told := self._encoder_named(chosen, model):
                progress.note(told)
            facts = prepare_catalogue(self.folder(), place, progress, where=where).facts
            found = replace(dry_run(place, chosen, progress=progress), catalogue=dict(facts))
            costs = self.settings.costs
            tell(Bill.by_clock(found.seconds, costs), costs, progress, "that would be")
            return found

    def finetune_forecast(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        image_text: bool | None = None,
        attributes: bool | None = None,
        behaviour: bool | None = None,
        examples: int | None = None,
        device: str | None = None,
        offline: bool | None = None,
        seed: int | None = None,
        where: str | None = None,
        trust_remote_code: bool = False,
    ) -> "FinetuneForecast":
        """What :meth:`finetune` would take in parameters, memory and time; nothing is written.

        Args:
            model: See :meth:`finetune`.
            revision: See :meth:`finetune`.
            image_text: See :meth:`finetune`.
            attributes: See :meth:`finetune`.
            behaviour: See :meth:`finetune`.
            examples: See :meth:`finetune`.
            device: See :meth:`finetune`.
            offline: See :meth:`finetune`.
            seed: See :meth:`finetune`.
            where: See :meth:`finetune`.
            trust_remote_code: See :meth:`finetune`.
        """
        from molar.finetuning import forecast, heed_examples

        flags = {"image_text": image_text, "attributes": attributes, "behaviour": behaviour, "seed": seed}
        embed = {"model": model, "revision": revision, "device": device, "offline": offline}
        said: dict[str, Any] = {"embed": embed, "finetune": flags, "lora": {"n_examples": examples}}
        chosen = self._encoding(untuned=True, trust=trust_remote_code, **said)
        with self.bound(dry=True) as place, self.progress() as progress:
            heed_examples(place, chosen, examples)
            found = forecast(place, chosen, progress, where=where)
            tell(Bill.by_clock(found.seconds, chosen.costs), chosen.costs, progress, "that would be")
            return found

    def align_forecast(
        self,
        *,
        preset: "Preset | None" = None,
        epochs: int | None = None,
        embedding_dim: int | None = None,
        alignment_weight: float | None = None,
        threads: int | None = None,
        device: str | None = None,
        privacy: float | None = None,
    ) -> "AlignForecast":
        """What :meth:`align` would take in time, energy and money, measured on parts of it; nothing is written.

        Args:
            preset: See :meth:`align`.
            epochs: See :meth:`align`.
            embedding_dim: See :meth:`align`.
            alignment_weight: See :meth:`align`.
            threads: See :meth:`align`.
            device: See :meth:`align`.
            privacy: See :meth:`align`; nothing of the year's budget is spent.
        """
        from molar.aligning import refuse_idle
        from molar.forecasting import forecast

        flags: dict[str, Any] = {
            "preset": preset,
            "epochs": epochs,
            "embedding_dim": embedding_dim,
            "alignment_weight": alignment_weight,
        }
        chosen = self._settings(align=flags | {"threads": threads, "device": device}, privacy={"epsilon": privacy})
        refuse_idle(chosen, flags | {"threads": threads, "device": device})
        with self.bound(dry=True) as place, self.progress() as progress:
            return forecast(place, chosen, progress)

    def evaluation_forecast(
        self,
        suite: str = "quick",
        *,
        models: "Sequence[Model | str]" = (),
        slices: Sequence[str] = (),
        seeds: int | None = None,
        category: str | None = None,
        ties: str | None = None,
        seen: str | None = None,
    ) -> "EvaluationForecast":
        """What :meth:`evaluate` would take in time, energy and money, as far as it is known here; nothing is written.

        What is kept from before costs nothing; else the last run here of the same model and split tells it.

        Args:
            suite: See :meth:`evaluate`.
            models: See :meth:`evaluate`.
            slices: See :meth:`evaluate`.
            seeds: See :meth:`evaluate`.
            category: See :meth:`evaluate`.
            ties: See :meth:`evaluate`.
            seen: See :meth:`evaluate`.
        """
        from molar.aligning import prepare_log
        from molar.evaluating import chosen_suite
        from molar.evaluation_forecast import forecast
        from molar_eval.models.own import checked_models

        names, own = checked_models(models)
        chosen = chosen_suite(suite, models=names, slices=slices, seeds=seeds, category=category, ties=ties, seen=seen)
        settings = self._settings()
        with self.bound(dry=True) as place, self.progress() as progress:
            if self.catalogue is not None:
                prepare_log(place, settings, progress)
            return forecast(place, chosen, settings, self.workspace / "evaluation", own)
