"""What is made of a catalogue: a check, vectors, factors, a generation, an evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molar.bill import Bill, billed
from molar.bill import tell as tell_bill
from molar.choosing import refuse
from molar.clustering import processes, ranks_of, runner_of
from molar.findings import keep_check
from molar.foretelling import Foretelling
from molar.retaining import at_work
from molar_retrieval.workspace.resources import Timer

if TYPE_CHECKING:
    from molar.aligning import Aligned
    from molar.dataset import Dataset
    from molar.doctor import Health
    from molar_eval.evaluation import Evaluation
    from molar_eval.kpi.prelaunch import ShownResult
    from molar_retrieval.embedding import EmbedReport
    from molar_retrieval.finetuning.lora import AdapterScore
    from molar_retrieval.finetuning.report import FinetuneReport
    from molar_retrieval.models.als import ALSReport
    from molar_retrieval.models.protocol import Model
    from molar_retrieval.models.towers.training import EpochScore
    from molar_retrieval.quality.check import CheckReport
    from molar_retrieval.workspace.config_files import Preset


class Making(Foretelling):
    """Makes the workspace; every method does what the command of its name does."""

    def doctor(self, *, deep: bool = False, versions: bool = False, index: str | None = None) -> "Health":
        """Say what installation, machine and workspace are like, and what is wrong with them, fit for a bug report.

        Args:
            deep: Read every byte of the workspace, import and try the libraries; else it takes about a second.
            versions: Name the versions of all libraries, as a bug report should; else only what is wrong with them.
            index: Address of a Qdrant server; ``local``: none; None: as the settings say.
        """
        from molar.doctor import examine

        return examine(self.workspace, deep=deep, versions=versions, file=self.settings_file, index=index)

    def check(
        self,
        *,
        with_embeddings: bool = False,
        photos: bool = True,
        fix_list: str | Path | None = None,
        page: str | Path | None = None,
        trust_remote_code: bool = False,
    ) -> "CheckReport":
        """Say what is wrong with the data, how much it matters and what to do, before money is spent on them.

        Args:
            with_embeddings: Embed what has no vectors yet, to compare photos with words.
            photos: Decode photos; else only their paths and headers are looked at.
            fix_list: A .parquet, .csv or .jsonl file with a row for each fault.
            page: The HTML page, beside ``check.html`` in the workspace.
            trust_remote_code: Let the encoder run code that it brings.

        Returns:
            Findings by kind, what can be expected, whether the data can be used.
        """
        from molar_retrieval.quality.check import check as examine

        folder, chosen = self.folder(), self._encoding(trust=trust_remote_code)
        with self.bound() as place, self.progress() as progress:
            report = examine(
                folder,
                place,
                chosen,
                photos=photos,
                with_embeddings=with_embeddings,
                fix_list=None if fix_list is None else Path(fix_list),
                progress=progress,
            )
        keep_check(self.workspace, report, folder, Path(page) if page else None)
        return report

    def embed(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        dim: int | None = None,
        batch_size: int | None = None,
        device: str | None = None,
        offline: bool | None = None,
        where: str | None = None,
        vectors: str | Path | None = None,
        trust_remote_code: bool = False,
        cluster: str | None = None,
    ) -> "EmbedReport":
        """Turn each item's photo and words into a vector; only new and changed items are encoded.

        Args:
            model: ``builtin``, ``builtin-multilingual``, ``gemma-3-270m``, a local folder or a hub name.
            revision: Commit or tag of a hub model.
            dim: Keep this many leading dimensions.
            batch_size: Items per batch.
            device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            offline: Never ask a model hub.
            where: Only items that fulfil this condition.
            vectors: Vectors made elsewhere: Parquet with ``item_id`` and ``vector``.
            trust_remote_code: Let the model run code that it brings.
            cluster: Who encodes; see :meth:`recommend`.
        """
        from molar_retrieval.data.prepare import prepare_catalogue
        from molar_retrieval.embedding import embed
        from molar_retrieval.workspace.jobs import SerialRunner

        flags = {"model": model, "revision": revision, "dim": dim, "batch_size": batch_size, "device": device}
        flags |= {"offline": offline}
        if vectors is not None:
            flags |= {"cluster": cluster}
            refuse(flags, "vectors made elsewhere are taken as they are", "leave out the vectors, or these")
        chosen = self._encoding(trust=trust_remote_code, embed=flags).embed
        with (
            self.bound() as place,
            self.progress() as progress,
            billed(place, "embed", self.settings.costs, progress) as work,
        ):
            if told := self._encoder_named(chosen, model):
                progress.note(told)
            facts = prepare_catalogue(self.folder(), place, progress, where=where).facts
            runner = runner_of(self, cluster, SerialRunner())
            brought = None if vectors is None else Path(vectors)
            done = embed(place, chosen, progress=progress, vectors=brought, runner=runner)
            work.outcome = f"{done.encoded:,} items encoded, {done.reused:,} as they were"
            return replace(done, catalogue=dict(facts))

    def finetune(
        self,
        *,
        model: str | None = None,
        revision: str | None = None,
        output: str | Path | None = None,
        image_text: bool | None = None,
        attributes: bool | None = None,
        behaviour: bool | None = None,
        examples: int | None = None,
        device: str | None = None,
        offline: bool | None = None,
        seed: int | None = None,
        resume: bool = True,
        where: str | None = None,
        trust_remote_code: bool = False,
        on_score: "Callable[[AdapterScore], None] | None" = None,
    ) -> "FinetuneReport | None":
        """Let an encoder learn from the shop what goes together and who takes what; :meth:`embed` takes its folder.

        Args:
            model: ``builtin``, CLIP, SigLIP, or a language model: a folder or a hub name.
            revision: Commit or tag of a hub model.
            output: Folder of the encoder; None: ``finetuned`` in the workspace.
            image_text: Whether a photo must find its title and description.
            attributes: Whether attributes must find the title and description.
            behaviour: Whether a history must find the items that come next.
            examples: Of each task to train on; language models.
            device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            offline: Never ask a model hub.
            seed: Of what is drawn at random.
            resume: Go on from an earlier run; False forgets it.
            where: Only items that fulfil this condition.
            trust_remote_code: Let the model run code that it brings.
            on_score: Told of each validation of a language model; None: shown with the progress.

        Returns:
            What was done; None in a process that only helps another one of the same launch.
        """
        from molar.finetuning import finetune, heed_examples

        flags = {"image_text": image_text, "attributes": attributes, "behaviour": behaviour, "seed": seed}
        embed = {"model": model, "revision": revision, "device": device, "offline": offline}
        said: dict[str, Any] = {"embed": embed, "finetune": flags, "lora": {"n_examples": examples}}
        chosen = self._encoding(untuned=True, trust=trust_remote_code, **said)
        target = self.workspace / "finetuned" if output is None else Path(output)
        with self.bound() as place, self.progress() as progress, billed(place, "finetune", chosen.costs, progress):
            heed_examples(place, chosen, examples)
            return finetune(place, chosen, target, progress, where=where, restart=not resume, on_score=on_score)

    def factorise(
        self, *, factors: int | None = None, regularization: float | None = None, iterations: int | None = None
    ) -> "ALSReport":
        """Learn collaborative factors by implicit ALS; :meth:`align` does this by itself.

        Args:
            factors: Length of a factor.
            regularization: L2 penalty.
            iterations: ALS sweeps.
        """
        from molar.aligning import prepare_log
        from molar_retrieval.models.als import factorise

        flags = {"factors": factors, "regularization": regularization, "iterations": iterations}
        chosen, place = self._settings(als=flags), self.opened()
        with self.progress() as progress:
            prepare_log(place, chosen, progress)
            return factorise(place, chosen.als, chosen.split, progress)

    def align(
        self,
        *,
        preset: "Preset | None" = None,
        epochs: int | None = None,
        embedding_dim: int | None = None,
        alignment_weight: float | None = None,
        threads: int | None = None,
        device: str | None = None,
        seed: int | None = None,
        privacy: float | None = None,
        others: Sequence[str | Path] | None = None,
        models: "Sequence[Model | str]" = (),
        resume: bool = True,
        where: str | None = None,
        stage: bool = False,
        index: str | None = None,
        trust_remote_code: bool = False,
        cluster: str | None = None,
        on_epoch: "Callable[[EpochScore], None] | None" = None,
    ) -> "Aligned | None":
        """Train the post-alignment network and publish a generation, so that questions are answered next.

        An interrupted run publishes nothing and goes on where it was.

        Args:
            preset: How long it may take: ``instant`` counts only, ``fast``, ``default``, ``best``.
            epochs: Most passes over the log.
            embedding_dim: Width of the ID tower.
            alignment_weight: Weight of the user-level contrastive loss.
            threads: CPU threads; 1 makes reruns bit-equal.
            device: ``cpu``, ``cuda``, ``mps``.
            seed: Another seed, another run.
            privacy: ε of differential privacy: learn of people by one release of statistics with noise, which the
                ledger counts; 0: without; None: as the settings say, by default without.
            others: Files that other shops wrote with :meth:`.Privacy.share`, whose statistics are added; empty: none;
                None: those that the live alignment has. They cost this shop nothing.
            models: Models of your own that give vectors (:class:`molar.IndexableModel`) and are installed by the entry
                point ``molar.models``: by name, or objects like those; empty: as the settings say.
            resume: Go on with an interrupted run; False forgets it.
            where: Only items that fulfil this condition.
            stage: Leave what is live as it is, so that :meth:`diff` says first what the new generation changes;
                :meth:`rollback` makes it live by its name. Nothing goes to a server. False: as the settings say.
            index: Address of a Qdrant server to push to; ``local``: none; None: as the settings say.
            trust_remote_code: Let the encoder of ``where`` run code that it brings.
            cluster: Who counts where there are so many items that it is done in blocks, who makes vectors of users
                where towers read them, and who trains these where ``[cluster] ranks`` allows it; see
                :meth:`recommend`.
            on_epoch: Told of each epoch's validation score; None: shown with the progress.

        Returns:
            What was done; None in a process that only helps another one of the same launch.
        """
        from molar.aligning import align, refuse_idle
        from molar_retrieval.models.own_block import installed_names

        flags: dict[str, Any] = {
            "preset": preset,
            "epochs": epochs,
            "embedding_dim": embedding_dim,
            "alignment_weight": alignment_weight,
        }
        flags |= {"threads": threads, "device": device, "seed": seed, "own_models": installed_names(models) or None}
        chosen = self._encoding(trust=trust_remote_code, index=index, align=flags, privacy={"epsilon": privacy})
        files = None if others is None else [Path(one) for one in others]
        refuse_idle(chosen, flags, bool(files))
        chosen = self._staging(chosen) if stage else chosen
        place = self.ready()
        with self.progress() as progress, at_work(place, "align", chosen, progress):
            here = processes(chosen.align.threads)
            return align(
                place,
                chosen,
                progress,
                restart=not resume,
                where=where,
                others=files,
                reading=runner_of(self, cluster, here),
                group=ranks_of(self, cluster),
                on_epoch=on_epoch,
            )

    def evaluate(
        self,
        suite: str = "quick",
        *,
        models: "Sequence[Model | str]" = (),
        slices: Sequence[str] = (),
        seeds: int | None = None,
        category: str | None = None,
        ties: str | None = None,
        seen: str | None = None,
        where: str | None = None,
        out: str | Path | None = None,
        memory: int = 256,
        index: str | None = None,
        trust_remote_code: bool = False,
        cluster: str | None = None,
        command: str | None = None,
        tell: "Callable[[str], None] | None" = None,
    ) -> "Evaluation":
        """Measure how good the lists are, beside baselines that are tuned on validation.

        Every model is trained anew on each split's own past and ranks the whole catalogue. What was computed is kept.

        Args:
            suite: ``quick``, ``paper``, ``temporal``, ``cold``, ``prequential``, ``rolling``, or a TOML file.
            models: Only these models: names, or objects of your own (:class:`molar.Model`).
            slices: Item or user columns to report by.
            seeds: Seeds of models that depend on one.
            category: Item column whose mix in a list is compared to the history's.
            ties: Order inside equal times: ``file order`` or ``item id``.
            seen: Items that a user had: ``hide``, ``show`` (taking them again counts) or ``both``.
            where: Only items that fulfil this condition.
            out: Folder of the run; None: a new one in the workspace.
            memory: MiB for scores in ranking, of each process that ranks.
            index: What measures the cost of an index: address of a Qdrant server, ``local``, or as the settings say.
            trust_remote_code: Let the encoder run code that it brings.
            cluster: Who ranks the cases of a large test by models that lie in files; see :meth:`recommend`.
            command: What the report names as its origin; None: this call.
            tell: Told of each finished model; None: shown with the progress.

        Returns:
            The report; its page is ``report.html`` in ``folder``.
        """
        from molar.evaluating import chosen_suite, prepared
        from molar.reports import remember_folder
        from molar_eval.evaluate import Evaluator
        from molar_eval.models.own import checked_models
        from molar_eval.report.page import write_report
        from molar_retrieval.workspace.threads import keep_freed_memory

        keep_freed_memory()
        names, own = checked_models(models)
        chosen = chosen_suite(suite, models=names, slices=slices, seeds=seeds, category=category, ties=ties, seen=seen)
        settings = self._encoding(trust=trust_remote_code, index=index)
        with self.bound() as place, self.progress() as progress, at_work(place, "evaluate", settings, progress):
            if self.catalogue is not None or where is not None:
                prepared(place, settings, progress, where)
            evaluator = Evaluator(
                place,
                chosen,
                settings,
                folder=None if out is None else Path(out),
                command=command or f"molar.Shop.evaluate({suite!r})",
                memory=memory << 20,
                progress=progress,
                tell=tell or progress.note,
                own=own,
            )
            evaluator.runner = runner_of(self, cluster, processes(settings.align.threads))
            watch = Timer()
            result = evaluator.run()
            write_report(evaluator.out, result.report, result.examples, place.catalogue)
            evaluator.taken.note_rest(chosen, len(evaluator.log), watch.took - evaluator.trials)
            if not evaluator.taken.unknown:
                tell_bill(Bill.of(evaluator.taken.foretold, settings.costs), settings.costs, progress, "foretold was")
            remember_folder(place.root, evaluator.out)
            return result

    def dataset(self) -> "Dataset":
        """The shop's interactions in memory, for :func:`molar.evaluate`, with the vectors and words of its items.

        Interactions of weaker kinds than the strongest, such as views beside purchases, are left out.

        Raises:
            MissingArtefactError: If nothing was embedded, or the log was not read yet, as :meth:`align` does.
        """
        from molar.dataset import Dataset, of_workspace
        from molar_retrieval.workspace.pinned import pin

        with pin(self.opened(), "catalogue", "content", "interactions", work="shop.dataset()") as inputs:
            return Dataset(*of_workspace(inputs, self.settings.align.content_components))

    def value_shown(
        self, impressions: str | Path, *, clip: float | None = None, where: str | None = None
    ) -> "ShownResult":
        """Value the lists on a log of what was shown, with propensities (off-policy evaluation).

        Args:
            impressions: The file, see docs/kpi.md; ``events``: the event log.
            clip: Largest weight; None: as they are.
            where: Only items that fulfil this condition.
        """
        from molar.evaluating import prepared
        from molar_eval.kpi.prelaunch import evaluate_shown

        settings = self._encoding()
        with self.bound() as place, self.progress() as progress:
            if self.catalogue is not None or where is not None:
                prepared(place, settings, progress, where)
            path = None if str(impressions) == "events" else Path(impressions)
            return evaluate_shown(place, settings, path, clip=clip, progress=progress)
