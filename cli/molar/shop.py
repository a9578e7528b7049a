"""A shop: its catalogue, what molar has made of it, and everything that can be asked of it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from molar_retrieval.workspace import DEFAULT_NAME, Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar.aligning import Aligned
    from molar_eval.evaluate import Evaluation
    from molar_indexes.recommend import RecommendReport
    from molar_indexes.recommender import Recommender
    from molar_retrieval.alignment.checkpoint import EpochScore
    from molar_retrieval.collaborative.factors import CFReport
    from molar_retrieval.config import MolarSettings, Preset
    from molar_retrieval.embedding import EmbedForecast, EmbedReport
    from molar_retrieval.progress import Progress
    from molar_retrieval.quality.report import CheckReport
    from molar_retrieval.ranking.answer import Answer

Display = Callable[[], "Any"]
Seen = Literal["hide", "show"]


@dataclass(frozen=True)
class Shop:
    """A catalogue and its workspace; every method does what the command of its name does.

    Attributes:
        catalogue: The folder with items, photos and log.
        workspace: The folder with all that molar makes of it.
        settings_file: Settings; None: ``molar.toml`` beside the workspace, if there is one.
        display: Makes the progress display of a long step; None: the one that suits a terminal or a notebook.
    """

    catalogue: Path
    workspace: Path
    settings_file: Path | None = None
    display: "Display | None" = None

    @classmethod
    def from_tables(
        cls,
        items: Any,
        interactions: Any = None,
        *,
        users: Any = None,
        images: str | Path | None = None,
        columns: Mapping[str, Mapping[str, str]] | None = None,
        folder: str | Path = "molar-shop",
    ) -> Self:
        """A shop from tables in memory or files, written as a catalogue folder.

        The same call again finds its work done; changed tables replace the former ones, and the next
        :meth:`embed` encodes only what has changed.

        Args:
            items: One row per item: ``item_id`` and whatever is known of it. A pandas, polars or pyarrow table, a list
                of dictionaries, a dictionary of columns, or a Parquet, CSV or JSONL file.
            interactions: One row per purchase, view …: ``user_id``, ``item_id``, ``timestamp``.
            users: One row per user: ``user_id`` and attributes for rules and segments.
            images: Folder of the photos, named ``<item_id>.jpg`` or as the items' column ``image`` says.
            columns: What the columns are called where they are not called as above, by table:
                ``{"items": {"item_id": "sku"}, "interactions": {"user_id": "customer"}}``.
            folder: Where the catalogue and the workspace go.

        Raises:
            DataError: If the folder holds something else, or a table is none.
        """
        from molar.tables import INTERACTIONS, ITEMS, USERS, write_catalogue

        root = Path(folder)
        tables = {ITEMS: items, INTERACTIONS: interactions, USERS: users}
        write_catalogue(root / "catalog", tables, images, columns)
        return cls(root / "catalog", root / DEFAULT_NAME)

    @property
    def settings(self) -> "MolarSettings":
        """The settings of ``molar.toml`` and the environment."""
        return self.settings_with({})

    def settings_with(self, flags: Mapping[str, Mapping[str, Any]]) -> "MolarSettings":
        """The settings with values of one call.

        Args:
            flags: By section and key; None values change nothing.
        """
        from molar_retrieval.config import MolarSettings

        return MolarSettings.load(self.workspace.parent, flags=flags, file=self.settings_file)

    def opened(self) -> Workspace:
        """The workspace.

        Raises:
            MissingArtefactError: If nothing was made yet.
        """
        return Workspace.open(self.workspace)

    def check(
        self,
        *,
        deep: bool = False,
        photos: bool = True,
        forecast: bool = True,
        gpu: str = "A100",
        fix_list: str | Path | None = None,
        page: str | Path | None = None,
    ) -> "CheckReport":
        """Say what is wrong with the data, how much it matters and what to do, before money is spent on them.

        Args:
            deep: Embed what has no vectors yet, to compare photos with words.
            photos: Decode photos; else only their paths and headers are looked at.
            forecast: Measure what embedding takes here, by a few items.
            gpu: The GPU of the other forecast.
            fix_list: A Parquet file with a row for each fault.
            page: The HTML page; None: ``check.html`` in the workspace.

        Returns:
            Findings by kind, what can be expected, whether the data can be used.
        """
        from molar_eval.check_page.write import write_page
        from molar_retrieval.catalog.resolve import items_source
        from molar_retrieval.quality.check import CheckOptions
        from molar_retrieval.quality.check import check as examine

        items_source(self.catalogue)  # before a workspace is made for what is not there
        place = Workspace.for_catalogue(self.workspace, self.catalogue)
        options = CheckOptions(photos, deep, forecast, gpu, None if fix_list is None else Path(fix_list))
        with self.progress() as progress:
            report = examine(self.catalogue, place, self.settings, options, progress=progress)
        write_page(Path(page) if page else self.workspace / "check.html", report, self.catalogue)
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
    ) -> "EmbedReport":
        """Turn each item's photo and words into a vector; only new and changed items are encoded.

        Args:
            model: ``builtin``, ``builtin-multilingual``, a local folder or a hub name.
            revision: Commit or tag of a hub model.
            dim: Keep this many leading dimensions.
            batch_size: Items per batch.
            device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
            offline: Never ask a model hub.
            where: Only items that fulfil this condition.
            vectors: Vectors made elsewhere: Parquet with ``item_id`` and ``vector``.
        """
        from molar_retrieval.embedding import embed

        flags = {"model": model, "revision": revision, "dim": dim, "batch_size": batch_size, "device": device}
        chosen = self.settings_with({"embed": flags | {"offline": offline}}).embed
        with self.progress() as progress:
            place = self._prepared(progress, where)
            return embed(place, chosen, progress=progress, vectors=None if vectors is None else Path(vectors))

    def forecast(self, *, model: str | None = None, device: str | None = None) -> "EmbedForecast":
        """What :meth:`embed` would take in time and on disk; nothing is written but the prepared catalogue.

        Args:
            model: See :meth:`embed`.
            device: See :meth:`embed`.
        """
        from molar_retrieval.embedding import dry_run

        chosen = self.settings_with({"embed": {"model": model, "device": device}}).embed
        with self.progress() as progress:
            return dry_run(self._prepared(progress), chosen, progress=progress)

    def factorise(
        self, *, factors: int | None = None, regularization: float | None = None, iterations: int | None = None
    ) -> "CFReport":
        """Learn collaborative factors by implicit ALS; :meth:`align` does this by itself.

        Args:
            factors: Length of a factor.
            regularization: L2 penalty.
            iterations: ALS sweeps.
        """
        from molar_retrieval.collaborative.factors import factorise
        from molar_retrieval.interactions import prepare_interactions

        flags = {"factors": factors, "regularization": regularization, "iterations": iterations}
        chosen, place = self.settings_with({"cf": flags}), self.opened()
        with self.progress() as progress:
            prepare_interactions(place.catalogue, place, progress)
            return factorise(place, chosen.cf, chosen.split, progress)

    def align(
        self,
        *,
        preset: "Preset | None" = None,
        epochs: int | None = None,
        dim: int | None = None,
        align_weight: float | None = None,
        threads: int | None = None,
        device: str | None = None,
        seed: int | None = None,
        resume: bool = True,
        where: str | None = None,
        on_epoch: "Callable[[EpochScore], None] | None" = None,
    ) -> "Aligned | None":
        """Train the post-alignment network and publish a generation, so that questions are answered next.

        An interrupted run publishes nothing and goes on where it was.

        Args:
            preset: How long it may take: ``instant`` counts only, ``fast``, ``default``, ``best``.
            epochs: Most passes over the log.
            dim: Width of the collaborative tower.
            align_weight: Weight of the user-level contrastive loss.
            threads: CPU threads; 1 makes reruns bit-equal.
            device: ``cpu``, ``cuda``, ``mps``.
            seed: Another seed, another run.
            resume: Go on with an interrupted run; False forgets it.
            where: Only items that fulfil this condition.
            on_epoch: Told of each epoch's validation score; None: shown with the progress.
        """
        from molar.aligning import align

        flags: dict[str, Any] = {"preset": preset, "epochs": epochs, "dim": dim, "align_weight": align_weight}
        flags |= {"threads": threads, "device": device, "seed": seed}
        chosen = self.settings_with({"align": flags})
        with self.progress() as progress:
            return align(self.opened(), chosen, progress, restart=not resume, where=where, on_epoch=on_epoch)

    def recommender(self, *, generation: str | None = None, rules: str | Path | None = None) -> "Recommender":
        """Ready to answer many questions; a context manager.

        Args:
            generation: Name of a generation; None: the live one.
            rules: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
        """
        from molar_indexes.recommender import Recommender

        return Recommender.open(self.workspace, generation, rules=rules)

    def query(
        self,
        user_id: str,
        k: int = 10,
        *,
        where: str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        diversity: float = 0.0,
        calibrate: str | None = None,
        calibration: float = 0.5,
        rerank: bool = True,
        explain: bool = False,
        language: str = "en",
        fallback: Literal["none", "popular"] = "none",
    ) -> "Answer":
        """What a user should see next.

        Args:
            user_id: The user.
            k: How many items.
            where: Condition on the items' attributes: ``category in (Shoes, Vases) and price < 40``.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            seen: Whether items of the history may come back.
            diversity: Weight of unlikeness among the items, 0 to 1.
            calibrate: A field whose mix in the history the list should have.
            calibration: How much that counts, 0 to 1.
            rerank: Whether the second stage moves what it can.
            explain: Whether to say why.
            language: Of the reasons.
            fallback: ``popular`` answers people without history.
        """
        with self.recommender() as recommender:
            return recommender.query(
                user_id,
                k,
                fallback=fallback,
                where=where,
                exclude=exclude,
                only=only,
                rules=rules,
                seen=seen,
                diversity=diversity,
                calibrate=calibrate,
                calibration=calibration,
                rerank=rerank,
                explain=explain,
                language=language,
            )

    def similar(
        self, item_id: str, k: int = 10, *, where: str | None = None, exclude: Collection[str] = (), rules: bool = True
    ) -> "Answer":
        """The items whose content is most like that of an item.

        Args:
            item_id: The item.
            k: How many items.
            where: See :meth:`query`.
            exclude: See :meth:`query`.
            rules: See :meth:`query`.
        """
        with self.recommender() as recommender:
            return recommender.similar(item_id, k, where=where, exclude=exclude, rules=rules)

    def search(
        self,
        text: str | None = None,
        *,
        image: "str | Path | Image | None" = None,
        similar: str | None = None,
        user_id: str | None = None,
        k: int = 10,
        seen: Seen = "show",
        where: str | None = None,
        exclude: Collection[str] = (),
        rules: bool = True,
    ) -> "Answer":
        """The items that words, a photo or another item ask for, or several of them together.

        Args:
            text: In words.
            image: A file or an image.
            similar: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            k: How many items.
            seen: Whether items that this user has may come.
            where: See :meth:`query`.
            exclude: See :meth:`query`.
            rules: See :meth:`query`.
        """
        with self.recommender() as recommender:
            return recommender.search(
                text,
                image,
                k,
                similar=similar,
                user_id=user_id,
                seen=seen,
                where=where,
                exclude=exclude,
                rules=rules,
            )

    def recommend(
        self,
        out: str | Path = "recommendations.parquet",
        k: int = 10,
        *,
        users: Sequence[str] | None = None,
        segment: str | None = None,
        where: str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        diversity: float = 0.0,
        calibrate: str | None = None,
        rerank: bool = True,
        processes: int | None = None,
    ) -> "RecommendReport":
        """Write the lists of all users, or of some, to a Parquet file; a run that was killed goes on where it was.

        Args:
            out: The file.
            k: How many items for each.
            users: Whose lists; None: all.
            segment: Only people whose attributes fulfil this condition.
            where: See :meth:`query`.
            exclude: See :meth:`query`.
            only: See :meth:`query`.
            rules: See :meth:`query`.
            seen: See :meth:`query`.
            diversity: See :meth:`query`.
            calibrate: See :meth:`query`.
            rerank: See :meth:`query`.
            processes: How many work at once; None: one per core.
        """
        import os

        from molar_indexes.options import Options
        from molar_indexes.recommend import recommend
        from molar_retrieval.allocator import keep_freed_memory

        keep_freed_memory()
        options = Options(
            where=where, exclude=exclude, only=only, rules=rules, seen=seen, diversity=diversity, calibrate=calibrate,
            rerank=rerank,
        )  # fmt: skip
        with self.progress() as progress:
            return recommend(
                self.workspace,
                Path(out),
                k,
                users=users,
                segment=segment,
                processes=processes or os.cpu_count() or 1,
                options=options,
                progress=progress,
            )

    def evaluate(
        self,
        suite: str = "quick",
        *,
        models: Sequence[str] = (),
        slices: Sequence[str] = (),
        seeds: int | None = None,
        category: str | None = None,
        ties: Literal["file order", "item id"] | None = None,
        seen: Literal["hide", "show", "both"] | None = None,
        where: str | None = None,
        out: str | Path | None = None,
    ) -> "Evaluation":
        """Measure how good the lists are, beside baselines that are tuned on validation.

        Every model is trained anew on each split's own past and ranks the whole catalogue. What was computed is kept.

        Args:
            suite: ``quick``, ``paper``, ``temporal``, ``cold``, or a TOML file.
            models: Only these models.
            slices: Item or user columns to report by.
            seeds: Seeds of models that depend on one.
            category: Item column whose mix in a list is compared to the history's.
            ties: Order inside equal times.
            seen: Items that a user had: hide, show (taking them again counts) or both.
            where: Only items that fulfil this condition.
            out: Folder of the run; None: a new one in the workspace.

        Returns:
            The report; its page is ``report.html`` in ``folder``.
        """
        from molar.evaluating import chosen_suite, evaluate, prepared

        chosen = chosen_suite(suite, models=models, slices=slices, seeds=seeds, category=category, ties=ties, seen=seen)
        place = Workspace.for_catalogue(self.workspace, self.catalogue)
        with self.progress() as progress:
            prepared(place, self.settings, progress, where)
            folder = None if out is None else Path(out)
            return evaluate(place, chosen, self.settings, progress, out=folder, command=f"Shop.evaluate({suite!r})")

    @contextmanager
    def progress(self) -> "Iterator[Progress]":
        """The display of a long step."""
        from molar.progress import display

        with (self.display or display)() as shown:
            yield shown

    def _prepared(self, progress: "Progress", where: str | None = None) -> Workspace:
        """The workspace with the present catalogue."""
        from molar_retrieval.catalog import prepare_catalogue
        from molar_retrieval.catalog.resolve import items_source

        items_source(self.catalogue)  # before a workspace is made for what is not there
        place = Workspace.for_catalogue(self.workspace, self.catalogue)
        prepare_catalogue(self.catalogue, place, progress, where=where)
        return place


def open_shop(
    catalogue: str | Path,
    *,
    workspace: str | Path | None = None,
    settings_file: str | Path | None = None,
) -> Shop:
    """A shop by the folder of its catalogue.

    Args:
        catalogue: Folder with ``items.parquet`` (or ``.csv``, ``.jsonl``), photos and log.
        workspace: Where all that molar makes goes; None: ``.molar`` beside the catalogue.
        settings_file: Settings; None: ``molar.toml`` beside the workspace, if there is one.

    Raises:
        DataError: If there are no items.
    """
    from molar_retrieval.catalog.resolve import items_source

    folder = Path(catalogue)
    items_source(folder)
    place = folder.resolve().parent / DEFAULT_NAME if workspace is None else Path(workspace)
    return Shop(folder, place, None if settings_file is None else Path(settings_file))
