"""Settings of every step: user configuration, ``molar.toml``, environment (``MOLAR_ALIGN_EPOCHS=3``), then flags.

Settings that name a host, a file outside of the shop, a program or a secret are marked as trusted. They count from the
user configuration, the environment and flags; in ``molar.toml``, which travels with data, they are refused.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from molar_retrieval.cluster_settings import ClusterSettings
from molar_retrieval.errors import SettingsError
from molar_retrieval.event_settings import EventSettings
from molar_retrieval.experiments.settings import ExperimentSettings
from molar_retrieval.presets import PRESETS, Preset
from molar_retrieval.privacy_settings import PrivacySettings
from molar_retrieval.serve_settings import ServeSettings
from molar_retrieval.settings import LISTED, Addresses, Settings, refuse_trusted, trusted, validated
from molar_retrieval.toml import read_toml
from molar_retrieval.user_configuration import user_configuration, user_file

FILE_NAME = "molar.toml"
_ENVIRONMENT = "MOLAR_"
_NOT_SETTINGS = {"MOLAR_DATA", "MOLAR_WORKSPACE"}
_WIDEST = 65_536  # numbers of a vector: no index takes more
_LARGEST_BATCH = 65_536


class EmbedSettings(Settings):
    """``[embed]``: which encoder, and how it runs."""

    model: str = Field(
        "builtin", description="builtin, builtin-multilingual, gemma-3-270m, a local folder or a hub name"
    )
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    dim: int | None = Field(None, ge=1, le=_WIDEST, description="keep only this many leading dimensions (MRL models)")
    batch_size: int = Field(32, ge=1, le=4096, description="items per batch; halved by itself when memory is short")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="precision of the weights")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    max_text_tokens: int = Field(512, ge=8, le=131_072, description="longer texts are cut at this many tokens")
    image_pixels: int = Field(
        262_144, ge=1024, le=1 << 24, description="photos of multimodal LLMs are scaled to at most this area"
    )
    photos: Literal["own", "builtin"] = Field(
        "own", description="what the model sees of photos itself, or, beside one that only reads, the built-in encoder"
    )
    prompt: str | None = Field(None, description="instruction for models that take one; None: the model's own")
    offline: bool = Field(False, description="never ask a model hub")

    def trusting(self) -> "EmbedSettings":
        """The same for a run that may run code which a model brings; no file and no variable can say so."""
        return _Trusting.model_validate(self.model_dump(exclude_unset=True))

    @property
    def trusts_code(self) -> bool:
        """Whether code that a model brings may run."""
        return isinstance(self, _Trusting)


class _Trusting(EmbedSettings):
    """Settings that :meth:`EmbedSettings.trusting` made. The trust is no field, so it is never written nor read."""


class FinetuneSettings(Settings):
    """``[finetune]``: which tasks the encoder learns from the shop, and how."""

    image_text: bool = Field(True, description="a photo must find its title and description, and these the photo")
    attributes: bool = Field(True, description="attributes must find the title and description")
    behaviour: bool = Field(True, description="a history must find the items that come next")
    keep: int = Field(
        256, ge=8, le=_WIDEST, description="dimensions kept of the words, of the photo, and of the words as written"
    )
    factors: int = Field(128, ge=1, le=_WIDEST, description="dimensions that say who takes an item")
    withheld: float = Field(0.1, gt=0, lt=0.5, description="share of the items that only choose")
    seed: int = 0


class LoraSettings(Settings):
    """``[lora]``: how `molar finetune` trains a language model; which tasks it learns is in ``[finetune]``."""

    rank: int = Field(16, ge=1, le=4096, description="rank of the adapter")
    alpha: float = Field(32, gt=0, description="the adapter counts alpha / rank times")
    dropout: float = Field(0.05, ge=0, lt=1, description="on what the adapter reads")
    layers: float = Field(1.0, gt=0, le=1, description="share of the layers that get the adapter, the upper ones")
    vision: bool = Field(False, description="train the vision tower as well")
    image_text_weight: float = Field(1.0, gt=0)
    attributes_weight: float = Field(1.0, gt=0)
    behaviour_weight: float = Field(1.0, gt=0)
    generate: float = Field(
        0.1, ge=0, description="weight of writing the title and description, beside finding them; 0: only find"
    )
    masked: float = Field(0.5, ge=0, lt=1, description="share of the attributes that an example hides")
    history: int = Field(5, ge=1, le=1000, description="latest items of a person that find the next one")
    temperature: float = Field(0.05, gt=0, description="of the contrastive losses")
    batch: int = Field(32, ge=2, le=_LARGEST_BATCH, description="examples of each task in a step, per process")
    chunk: int = Field(
        8,
        ge=1,
        le=_LARGEST_BATCH,
        description="items in one forward pass; gradients of a larger step are cached; halved by itself",
    )
    examples: int = Field(10_000, ge=1, le=100_000_000, description="examples of each task that training sees")
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_checkpointing: bool = Field(True, description="half the speed backwards, a fraction of the memory")
    gradient_caching: bool = Field(
        True, description="items of a step are encoded twice, so that memory holds the states of one chunk alone"
    )
    validation: int = Field(
        256, ge=10, le=1_000_000, description="withheld items that judge, and people who took one, at most"
    )
    validate_every: int | None = Field(None, ge=1, description="steps between two; None: ten in a run")
    patience: int = Field(3, ge=1, description="validations without a better score before it stops")
    save_every: int = Field(50, ge=1, description="steps between two checkpoints")
    merged: bool = Field(True, description="write the whole model with the adapter merged, not the adapter alone")


class SplitSettings(Settings):
    """``[split]``: which interactions validate; everything that is fitted sees only the others."""

    validation_users: int = Field(
        10_000, ge=0, le=10_000_000, description="most users whose last interaction is held out"
    )
    seed: int = 0


class CFSettings(Settings):
    """``[cf]``: implicit ALS (Hu, Koren, Volinsky 2008, doi:10.1109/ICDM.2008.22)."""

    factors: int = Field(64, ge=1, le=_WIDEST)
    regularization: float = Field(0.01, ge=0)
    alpha: float = Field(1.0, gt=0, description="confidence of one interaction")
    iterations: int = Field(15, ge=1, le=10_000)
    seed: int = 0


Tower = Literal["collaborative", "content"]
Expert = Literal["sequence", "linear", "neighbours", "trend"]


class AlignSettings(Settings):
    """``[align]``: the post-alignment network, the experts beside it, and the training."""

    preset: Preset = Field(
        "default", description="how much time training may take: instant (counting only, seconds), fast, default, best"
    )
    towers: Annotated[tuple[Tower, ...], LISTED] = Field(
        ("collaborative", "content"), description="sequence models that are trained"
    )
    experts: Annotated[tuple[Expert, ...], LISTED] = Field(
        ("sequence", "linear", "neighbours", "trend"), description="models that only count, summed with the towers"
    )
    newcomers: Annotated[float, Field(ge=0, le=0.9)] | Literal["auto"] = Field(
        "auto",
        description="share of the first 10 places that items without interactions get; auto: their share of the"
        " catalogue, as far as validation allows",
    )
    horizon: Literal["next", "later", "both"] = Field(
        "both",
        description="what weights are chosen for: the next item, or that and all that people take later, which is then"
        " what is asked for where a query does not say (later), or only where it does (both)",
    )
    rerank: bool | Literal["auto"] = Field(
        "auto", description="move the first 200 by a second stage; auto: where validation bears it out"
    )
    partners: int = Field(200, ge=1, le=10_000, description="strongest partners that an item keeps per counting expert")
    dim: int | None = Field(
        None,
        ge=8,
        le=_WIDEST,
        multiple_of=8,
        description="width of the collaborative tower; None: by the size of the log",
    )
    members: int = Field(
        1, ge=1, le=16, description="collaborative towers from random starts of their own, whose scores are summed"
    )
    content_dim: int = Field(64, ge=8, le=_WIDEST, multiple_of=8, description="width of the content tower")
    blocks: int = Field(2, ge=1, le=100, description="attention blocks of the collaborative tower")
    content_blocks: int = Field(1, ge=0, le=100, description="attention blocks of the content tower")
    history: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description="most recent items of a user that the network reads; None: by the log's histories",
    )
    dropout: float = Field(0.2, ge=0, lt=1)
    epochs: int = Field(24, ge=1, le=100_000)
    patience: int = Field(8, ge=1, description="epochs without a better validation score before it stops")
    batch_tokens: int | None = Field(
        None,
        ge=64,
        le=10_000_000,
        description="interactions per step, of all processes together; None: by the size of the log, at most 3200",
    )
    negatives: int = Field(1024, ge=1, le=1_000_000, description="sampled items that each step's targets compete with")
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    content_dims: int = Field(
        256, ge=8, le=_WIDEST, description="spectral dimensions kept of each block of a content vector"
    )
    align_weight: float = Field(0.1, ge=0, description="weight of the user-level contrastive loss")
    align_temperature: float = Field(0.1, gt=0)
    als_start: bool = Field(True, description="start the item table from the ALS factors")
    content_start: bool = Field(True, description="start the item table, or its second half, from the items' content")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; None: all; 1 makes reruns bit-equal")
    device: str = "auto"
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """A preset's values under those that are given."""
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values


class NewcomerSettings(Settings):
    """``[newcomers]``: how new items, and those with few interactions, are tried beside what is known to fit."""

    explore: bool = Field(True, description="try them at all; false: answers are what validation chose, without draws")
    places: int | None = Field(
        None,
        ge=0,
        le=9,
        description="how many of the first 10 places they get at least; None: one, or more where validation bears it",
    )
    evidence: float = Field(
        5.0,
        gt=0,
        le=1e6,
        description="interactions that tell as much of an item as its content does; its chance to be tried falls with"
        " its own, to nothing at four times as many",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="of the draw, in spreads of their scores for a person: a small one tries the likeliest alone, a"
        " large one all alike",
    )


class IndexSettings(Settings):
    """``[index]``: the vector index of a generation."""

    backend: Literal["edge", "exact"] = "edge"
    keep: int = Field(2, ge=0, le=10_000, description="older generations that stay for a rollback")
    activate: bool = Field(
        True, description="whether what is published goes live at once; the first generation does in any case"
    )
    segments: Annotated[tuple[str, ...], LISTED] = Field(
        (),
        max_length=100,
        description="columns of users.* by which rules and `molar recommend` may choose people; no others are kept",
    )
    m: int = Field(16, ge=2, le=1024, description="HNSW edges per node")
    ef_construct: int = Field(128, ge=4, le=100_000, description="HNSW candidate list while building")
    ef: int = Field(512, ge=1, le=100_000, description="HNSW candidate list while searching, at least")
    url: Addresses = Field(
        None,
        description="a Qdrant server that answers instead of the workspace's own index; several addresses are nodes of"
        " one cluster",
        json_schema_extra=trusted("--index"),
    )
    collection: str = Field("molar", pattern=r"^[A-Za-z0-9_.-]+$", description="the alias that is asked there")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="ask by gRPC at this port, 0: never; None: at the one after REST's if it answers",
        json_schema_extra=trusted(),
    )
    key_over_http: bool = Field(
        False,
        description="send QDRANT_API_KEY unencrypted to a server on another machine, as in a private network",
        json_schema_extra=trusted(),
    )
    timeout: float = Field(2.0, gt=0, le=86_400, description="seconds that one request of a query may take")
    fallback: Literal["none", "local"] = Field("none", description="what answers where the server does not")
    users: Literal["local", "server"] = Field("local", description="where vectors and histories of people are")
    shards: int | None = Field(None, ge=1, le=10_000, description="shards of a collection; None: the server decides")
    replicas: int = Field(1, ge=1, le=1000, description="copies of each shard")
    on_disk: bool = Field(False, description="vectors are read from disk, not from memory")
    quantisation: Literal["none", "scalar", "binary"] = Field(
        "none", description="copies of 8 bits (scalar) or 1 bit (binary) a number are searched, the best scored again"
    )
    uploads: int = Field(4, ge=1, le=256, description="batches that are sent to a server at once")

    def of_generation(self) -> dict[str, Any]:
        """What shapes a generation, wherever it is served from."""
        return self.model_dump(mode="json", include={"backend", "keep", "segments", "m", "ef_construct", "ef"})


class UpdateSettings(Settings):
    """``[update]``: when `molar update` says that training is due."""

    max_age_days: int | None = Field(
        90, ge=1, le=36_500, description="days since training after which another one is due; None: never by age"
    )
    drift: float | None = Field(
        0.2,
        gt=0,
        lt=1,
        description="share by which new interactions are foretold worse than just after training, from which the towers"
        " are trained on; None: never",
    )
    unread: float | None = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of the interactions that are newer than all that the towers have read, from which they are"
        " trained on; None: never",
    )


class CostSettings(Settings):
    """``[costs]``: what machines cost, so that what is done on them can be told in money."""

    machine_hour: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="what an hour of the machine that updates and trains costs",
    )
    watts: float | None = Field(None, ge=0, le=1e6, description="what that machine draws while it works")
    currency: str = Field("", max_length=8, description="what that is in: EUR, JPY, …")
    margin: float | None = Field(None, ge=0, le=1, description="share of revenue that stays: 0.3 is 30 %")


class MolarSettings(Settings):
    """All of ``molar.toml``."""

    embed: EmbedSettings = EmbedSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    lora: LoraSettings = LoraSettings()
    split: SplitSettings = SplitSettings()
    cf: CFSettings = CFSettings()
    align: AlignSettings = AlignSettings()
    newcomers: NewcomerSettings = NewcomerSettings()
    index: IndexSettings = IndexSettings()
    events: EventSettings = EventSettings()
    update: UpdateSettings = UpdateSettings()
    costs: CostSettings = CostSettings()
    experiments: ExperimentSettings = ExperimentSettings()
    privacy: PrivacySettings = PrivacySettings()
    serve: ServeSettings = ServeSettings()
    cluster: ClusterSettings = ClusterSettings()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        name: str = FILE_NAME,
        environ: Mapping[str, str] = os.environ,
        flags: Mapping[str, Mapping[str, Any]] | None = None,
        file: Path | None = None,
    ) -> Self:
        """Settings from the user configuration, ``folder/molar.toml`` (or ``file``), the environment and flags.

        The later ones win; trusted keys are refused in the file.

        Args:
            folder: Where ``molar.toml`` may lie: beside the workspace.
            name: What it is called there.
            environ: Variables of the form ``MOLAR_SECTION_KEY``.
            flags: By section and key; None means that the flag was not given.
            file: A settings file named by the user; it must exist.

        Raises:
            SettingsError: On an unknown key (naming the nearest one), a wrong value, or a trusted key in the file.
        """
        path = file or folder / name
        if file is not None and not file.exists():
            raise SettingsError(f"there is no settings file {file}", "name an existing TOML file")
        own: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                own = read_toml(path)
            except OSError as error:
                raise SettingsError(f"{path} cannot be read: {error}", "make it a readable file") from error
        source = str(path) if path.exists() else "the settings"
        _refuse_no_tables(own, source)
        refuse_trusted(cls, own, source, user_file())
        if user := user_configuration():
            _refuse_no_tables(user, str(user_file()))
            source = f"{source}, with {user_file()}" if own else str(user_file())
        values: dict[str, Any] = {**user, **own}
        for section in user.keys() & own.keys():
            if isinstance(user[section], dict) and isinstance(own[section], dict):
                values[section] = {**user[section], **own[section]}
        values = {section: dict(one) if isinstance(one, dict) else one for section, one in values.items()}
        _merge_environment(values, environ)
        for section, pairs in (flags or {}).items():
            if given := {key: value for key, value in pairs.items() if value is not None}:
                values.setdefault(section, {}).update(given)
        return validated(cls, values, source)


def with_preset(settings: MolarSettings, name: Preset) -> MolarSettings:
    """The settings with another preset of ``[align]``; of its other keys only device, threads and seed stay."""
    kept = settings.align.model_dump(include={"device", "threads", "seed", "precision"})
    return settings.model_copy(update={"align": AlignSettings(preset=name, **kept)})


def _refuse_no_tables(values: Mapping[str, Any], source: str) -> None:
    if wrong := [name for name in MolarSettings.model_fields if not isinstance(values.get(name, {}), dict)]:
        raise SettingsError(f"{source}: {wrong[0]} is no table", f"write [{wrong[0]}], and its keys below")


def _merge_environment(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        if not name.startswith(_ENVIRONMENT) or name in _NOT_SETTINGS or name.startswith("MOLAR_TEST_"):
            continue
        section, _, key = name.removeprefix(_ENVIRONMENT).lower().partition("_")
        if section in MolarSettings.model_fields:
            values.setdefault(section, {})[key] = value
        else:
            sections = ", ".join(f"MOLAR_{s.upper()}_…" for s in MolarSettings.model_fields)
            raise SettingsError(f"unknown environment variable {name}", f"known are {sections}")
