"""Settings of every step: user configuration, ``molar.toml``, environment (``MOLAR_ALIGN_EPOCHS=3``), then flags.

Settings that name a host, a file outside of the shop, a program or a secret are marked as trusted. They count from the
user configuration, the environment and flags; in ``molar.toml``, which travels with data, they are refused.
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from molar_retrieval.errors import SettingsError, redacted, suggestion
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.config_files import (
    EVENT_WEIGHTS,
    PRESETS,
    ObjectiveName,
    Preset,
    read_toml,
    user_configuration,
    user_file,
    variable_of,
)

_LARGEST = 2**63 - 1
_SHOWN = 80
_COMMAND_LINE_ONLY = {
    "embed.trust_remote_code": "remove it: trust comes from the command line alone: --trust-remote-code"
}
"""What no settings can say, and where it is said."""
_TRUSTED = "trusted"


def _split(value: Any) -> Any:
    """Names from an environment variable: ``country,age``."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def _joined(value: Any) -> Any:
    """Texts of a list, separated by commas."""
    return ",".join(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


def _addresses(value: str | None) -> str | None:
    """Addresses, each once and without a login, which would be written down with the settings."""
    found = [] if value is None else [one.strip() for one in value.split(",")]
    for parts in map(urlsplit, found):
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address such as http://host:6333 is due")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("the address holds more than a host; a key belongs into the environment: QDRANT_API_KEY")
    return ",".join(dict.fromkeys(one.rstrip("/") for one in found)) or None


LISTED = BeforeValidator(_split)
"""Marks a field of several names, which an environment variable gives in one string."""
Addresses = Annotated[str | None, BeforeValidator(_joined), AfterValidator(_addresses)]
"""The address of a server, or several of a cluster, which people give as a list or separated by commas."""


_WIDEST = 65_536  # numbers of a vector: no index takes more
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=1, le=10_000)]
Days = Annotated[int, Field(ge=1, le=36_500)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=8, le=_WIDEST)]
Dimensions = Annotated[int, Field(ge=1, le=_WIDEST)]


def trusted(default: Any, description: str, *, option: str | None = None, **bounds: Any) -> Any:
    """A setting that names a host, a file outside of the shop, a program or a secret.

    It counts from the command line, where it may have an ``option``, the environment and the user configuration, and
    never from a file that travels with data: :func:`refuse_trusted`.
    """
    return Field(default, description=description, json_schema_extra={_TRUSTED: True, "option": option}, **bounds)


def is_trusted(field: FieldInfo) -> bool:
    """Whether a setting is one of :func:`trusted`."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get(_TRUSTED))


class Settings(BaseModel):
    """Base of all settings: frozen, strict about keys; numbers are finite, and words no books."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=65_536, hide_input_in_errors=True
    )

    @field_validator("*", mode="after")
    @classmethod
    def _of_a_machine(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError("the number is too large")
        return value

    def fingerprint(self) -> str:
        """Changes with every value."""
        return fingerprint.of_json(self.model_dump(mode="json"))


SettingsT = TypeVar("SettingsT", bound=Settings)


def validated(model: type[SettingsT], values: Mapping[str, Any], source: str) -> SettingsT:
    """Settings from plain values; a SettingsError names the first wrong key, its nearest relative and the source."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "constrained-float")
        if first["type"] == "extra_forbidden":
            hint = suggestion(str(first["loc"][-1]), _keys(model, first["loc"][:-1]), "remove it")
            raise SettingsError(f"{source}: unknown key {key!r}", _COMMAND_LINE_ONLY.get(key, hint)) from error
        words = re.findall(r"'([^']*)'", str(first.get("ctx", {}).get("expected", "")))  # the allowed ones
        wrong = first["input"] if isinstance(first["input"], str) else ""
        raise SettingsError(
            f"{source}: {key} = {_brief(first['input'])}: {first['msg'].removeprefix('Value error, ')}",
            suggestion(wrong, words, "correct the value"),
        ) from error


def refuse_trusted(values: Mapping[str, Any], source: str) -> None:
    """Raise a SettingsError where a file that travels with data sets a trusted key; it names the ways that count.

    ``values`` are keys by section, as the file has them; ``source`` is what it is called.
    """
    for section, keys in values.items():
        for key in keys if isinstance(keys, Mapping) else ():
            field = _section(section).get(key)
            if field is not None and is_trusted(field):
                assert isinstance(field.json_schema_extra, dict)
                option = field.json_schema_extra["option"]
                raise SettingsError(
                    f"{source}: {section}.{key} names a host, a file or a secret, and does not count from a file that"
                    " travels with data",
                    f"remove it there; {f'give it on the command line ({option}), ' if option else 'set it '}in the"
                    f" environment ({variable_of(section, key)}) or in the user configuration: [{section}]"
                    f" {key} in {user_file()}",
                )


def _section(name: str) -> Mapping[str, FieldInfo]:
    """The fields of a section; none of one that is unknown."""
    section = MolarSettings.model_fields.get(name)
    return getattr(section and section.annotation, "model_fields", {})


def _brief(value: Any) -> str:
    try:
        shown = redacted(repr(value))
    except ValueError:  # an integer of too many digits
        return "…"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        nested = model.model_fields[str(part)].annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            model = nested
    return list(model.model_fields)


class ClusterSettings(Settings):
    """``[cluster]``: a Ray cluster that does the work of which there is much."""

    address: str | None = trusted(None, "ray://HOST:10001; None: this machine does all work", option="--cluster")
    token_file: Path | None = trusted(
        None, "file with the token of the cluster at that address; None: what Ray's own variables say"
    )
    workers: Number | None = Field(
        None, description="work at once, at most; None: as many as there are CPUs, or GPUs where used"
    )
    ranks: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="train towers together, each with a GPU, or with as many CPUs as [align] threads says; 0: this"
        " machine trains; None: one per GPU, where there are more of them than here",
    )

    @field_validator("address")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme != "ray" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
            raise ValueError("an address such as ray://host:10001 is due")
        return value.rstrip("/")


class EventSettings(Settings):
    """``[events]``: which events make histories, and how long the log keeps them."""

    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
        None,
        description="how much each kind counts: purchase, rating, add_to_cart, click, view; what is not named, not at"
        " all; None: validation chooses",
    )
    keep_days: Days | None = Field(None, description="days before today that the log keeps; None: all")
    late_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        description="days after its time that an event is still taken; None: however late it comes",
    )

    @field_validator("weights")
    @classmethod
    def _kinds(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (wrong := [kind for kind in value if kind not in EVENT_WEIGHTS]):
            raise ValueError(f"{wrong[0]} makes no history; kinds that do are {', '.join(EVENT_WEIGHTS)}")
        if value is not None and not any(value.values()):
            raise ValueError("at least one kind must count")
        return value


class ExperimentSettings(Settings):
    """``[experiments]``: who takes part in none, and what happens by itself."""

    holdout: float = Field(
        0.05,
        ge=0,
        le=0.5,
        description="share of the people who take part in no experiment, and keep what was before one that reaches all",
    )
    automatic: bool = Field(True, description="whether an experiment that does harm goes back by itself")
    watch: float = Field(30, ge=1, le=3_600, description="seconds between two looks of the server at what runs")
    shadow: float = Field(
        1.0, gt=0, le=100, description="lists a second, at most, that both arms rank while nobody sees the new one"
    )


USUAL, FROM = 5, 5_000
"""Fewest people where nothing is said, in logs of so many people or more; in smaller ones it would cost too much."""


class PrivacySettings(Settings):
    """``[privacy]``: by what people are known, and what of them is left out."""

    ids: Literal["plain", "pseudonymous"] = Field(
        "plain",
        description="ids of users in the workspace: plain, as the shop gives them, or pseudonymous",
    )
    key_file: Path | None = trusted(
        None, "keys of the pseudonyms, in a file outside workspace and catalogue; made where there is none"
    )
    suppressed_file: Path | None = trusted(
        None,
        "list of the people who are forgotten or object, outside of the workspace and its backups;"
        " None: suppressed.json in the workspace",
    )
    min_users: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="fewest people on whom a pair of items or an item's popularity may rest; 1: anybody; None: 5 in a"
        " log of 5,000 people or more, else 1",
    )

    epsilon: float | None = Field(
        None,
        ge=0,
        le=100,
        description="align on one release of statistics with noise, (epsilon, delta)-differentially private for each"
        " person; the smaller, the less it tells of anybody; None: without noise; 0: so on purpose, where it was with",
    )
    delta: float = Field(
        1e-6, gt=0, le=1e-3, description="by how much the promise may fail; far less than one in as many people"
    )
    yearly_epsilon: float = Field(8.0, gt=0, le=1_000, description="epsilon that the releases of 365 days may take")
    retention_days: Days | None = Field(None, description="days before today of which interactions are read; None: all")
    copy_retention_days: Days | None = Field(
        None,
        description="days that copies stay: what evaluations keep, unfinished work, older generations; None: no end",
    )

    @model_validator(mode="after")
    def _key_is_somewhere(self) -> Self:
        if self.ids == "pseudonymous" and self.key_file is None:
            raise ValueError("ids = 'pseudonymous' needs key_file, a file outside workspace and catalogue")
        return self

    @property
    def with_noise(self) -> bool:
        """Whether what is learned of people comes from statistics with noise."""
        return bool(self.epsilon)

    def fewest(self, people: int) -> int:
        """The fewest people in a log of so many."""
        if self.min_users is not None:
            return self.min_users
        return USUAL if people >= FROM else 1


_EventType = Literal[
    "purchase",
    "add_to_cart",
    "view",
    "click",
    "impression",
    "remove_from_cart",
    "return",
    "rating",
    "search",
]


class ServeSettings(Settings):
    """``[serve]``: where it listens, how much it takes on, how long an answer may take."""

    host: str = trusted(
        "127.0.0.1", "address to listen on; another than this machine's own needs keys", option="--host"
    )
    port: int = Field(8080, ge=0, le=65535, description="0: any that is free")
    workers: int = Field(1, ge=1, le=64, description="processes; they share generation and event log")
    threads: int = Field(2, ge=1, le=64, description="answers that a process computes at once; more of them are slower")
    queue_size: int = Field(64, ge=1, le=100_000, description="requests that wait for these; more are answered 503")
    deadline: float = Field(
        1.0, gt=0, le=60, description="seconds for a list, then the popular one; `Prefer: wait=50ms` says less"
    )
    response_ttl_minutes: float = Field(
        30, ge=0, le=1_000_000, description="minutes for which a list can be asked for again, and for its next page"
    )
    shutdown_timeout: float = Field(10, gt=0, le=600, description="seconds that answers under way have when it ends")
    certificate: Path | None = trusted(None, "file of a TLS certificate; None: plain HTTP, as behind a proxy")
    private_key: Path | None = trusted(None, "file of the certificate's key")
    event_aliases: dict[str, _EventType] = Field(
        {},
        description="what a shop's own names of events mean, which clients of other products send: reorder = purchase",
    )
    studio: bool = Field(True, description="pages for merchandisers and managers at /studio")
    access_log: bool = Field(False, description="every request in WORKSPACE/serving/access.jsonl, people by pseudonyms")
    opentelemetry: bool = Field(False, description="a span of each request to OTEL_EXPORTER_OTLP_ENDPOINT")


FILE_NAME = "molar.toml"
_ENVIRONMENT = "MOLAR_"
_NOT_SETTINGS = "MOLAR_DATA", "MOLAR_KEY", "MOLAR_PORT", "MOLAR_SERVICE_", "MOLAR_TEST_", "MOLAR_WORKSPACE"
"""Beginnings of variables that are no settings; Kubernetes sets two of them where a service is called molar."""
_MISSPELLED = 0.75  # likeness of two words from which one is taken for the other
_LARGEST_BATCH = 65_536


class EmbedSettings(Settings):
    """``[embed]``: which encoder, and how it runs."""

    model: str = Field(
        "builtin", description="builtin, builtin-multilingual, gemma-3-270m, a local folder or a hub name"
    )
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    dim: Dimensions | None = Field(None, description="keep only this many leading dimensions (MRL models)")
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
    keep: Width = Field(256, description="dimensions kept of the words, of the photo, and of the words as written")
    factors: Dimensions = Field(128, description="dimensions that say who takes an item")
    withheld: float = Field(0.1, gt=0, lt=0.5, description="share of the items that only choose")
    seed: int = 0


class LoraSettings(Settings):
    """``[lora]``: how `molar finetune` trains a language model; which tasks it learns is in ``[finetune]``."""

    rank: int = Field(16, ge=1, le=4096, description="rank of the adapter")
    alpha: Positive = Field(32, description="the adapter counts alpha / rank times")
    dropout: Rate = Field(0.05, description="on what the adapter reads")
    layer_share: float = Field(1.0, gt=0, le=1, description="share of the layers that get the adapter, the upper ones")
    vision: bool = Field(False, description="train the vision tower as well")
    temperature: Positive = Field(0.05, description="of the contrastive loss")
    batch: int = Field(32, ge=2, le=_LARGEST_BATCH, description="pairs of each task in a step, per process")
    mini_batch_size: int = Field(
        8, ge=1, le=_LARGEST_BATCH, description="items in one forward pass; halved by itself when memory is short"
    )
    n_examples: int = Field(10_000, ge=1, le=10_000_000, description="pairs of each task that training sees")
    learning_rate: Positive = 1e-4
    weight_decay: NotNegative = 0.01
    gradient_checkpointing: bool = Field(True, description="half the speed backwards, a fraction of the memory")
    validate_every: Count | None = Field(
        None, description="steps between two validations, each with a checkpoint; None: ten in a run"
    )
    patience: Count = Field(3, description="validations without a better score before it stops")
    merged: bool = Field(True, description="write the whole model with the adapter merged, not the adapter alone")


class SplitSettings(Settings):
    """``[split]``: which interactions validate; everything that is fitted sees only the others."""

    validation_users: int = Field(
        10_000, ge=0, le=10_000_000, description="most users whose last interaction is held out"
    )
    seed: int = 0


class ALSSettings(Settings):
    """``[als]``: implicit ALS (Hu, Koren, Volinsky 2008, doi:10.1109/ICDM.2008.22)."""

    factors: Dimensions = 64
    regularization: NotNegative = 0.01
    alpha: Positive = Field(1.0, description="confidence of one interaction")
    iterations: Number = 15
    seed: int = 0


ModelName = Literal[
    "id_tower",
    "content_tower",
    "sequential",
    "ease",
    "item_knn",
    "content_knn",
    "popularity",
    "repeat_consumption",
]
TOWERS: tuple[ModelName, ...] = ("id_tower", "content_tower")
COUNT_MODELS: tuple[ModelName, ...] = (
    "sequential",
    "ease",
    "item_knn",
    "content_knn",
    "popularity",
    "repeat_consumption",
)


class AlignSettings(Settings):
    """``[align]``: the models of the ensemble, and the training of the post-alignment network."""

    preset: Preset = Field(
        "default",
        description="how much time training may take: instant (no towers, seconds), fast, default, best",
    )
    models: Annotated[tuple[ModelName, ...], LISTED] = Field(
        (*TOWERS, *COUNT_MODELS),
        min_length=1,
        description="models of the ensemble: sequence models that are trained (id_tower, content_tower) and count-based"
        " ones; of ease and item_knn the better one is kept",
    )
    own_models: Annotated[tuple[str, ...], LISTED] = Field(
        (),
        description="models of your own that give vectors, by the names of their entry points, beside the others",
    )
    objectives: Annotated[tuple[ObjectiveName, ...], LISTED] = Field(
        ("next_item", "future_items"),
        min_length=1,
        description="what ensemble weights are chosen for: the next item, always, and all that users take within months"
        " (future_items); lists are for the first one where a query does not say",
    )
    cold_start_share: Annotated[float, Field(ge=0, le=0.9)] | Literal["auto"] = Field(
        "auto",
        description="share of the first 10 slots for items without interactions; auto: their share of the catalogue, as"
        " far as validation allows",
    )
    reranker: bool | Literal["auto"] = Field(
        "auto", description="rerank the first 200; auto: where validation improves significantly"
    )
    neighbors: Number = Field(200, description="strongest item-item weights that an item keeps")
    embedding_dim: Width | None = Field(
        None, multiple_of=8, description="width of the ID tower; None: by the size of the log"
    )
    members: int = Field(1, ge=1, le=16, description="ID towers from different random starts, whose scores are summed")
    content_dim: Width = Field(64, multiple_of=8, description="width of the content tower")
    n_blocks: int = Field(2, ge=1, le=100, description="attention blocks of the ID tower")
    n_content_blocks: int = Field(1, ge=0, le=100, description="attention blocks of the content tower")
    max_history: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description="most recent items of a user that the towers read; None: by the histories of the log",
    )
    dropout: Rate = 0.2
    epochs: int = Field(24, ge=1, le=100_000)
    patience: Count = Field(8, description="epochs without a better validation score before training stops")
    batch_tokens: int | None = Field(
        None,
        ge=64,
        le=10_000_000,
        description="interactions per step, of all processes together; None: by the size of the log, at most 3200",
    )
    n_negatives: int = Field(
        1024, ge=1, le=1_000_000, description="sampled items that the targets of a step compete with"
    )
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 0.01
    content_components: Width = Field(256, description="principal components kept of each block of a content vector")
    alignment_weight: NotNegative = Field(0.1, description="weight of the user-level contrastive loss")
    alignment_temperature: Positive = 0.1
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; None: all; 1 makes reruns bit-equal")
    device: str = "auto"
    seed: int = 0

    @property
    def towers(self) -> tuple[ModelName, ...]:
        """The models that are trained."""
        return tuple(name for name in self.models if name in TOWERS)

    def without_towers(self) -> Self:
        """The same with count-based models alone."""
        return self.model_copy(update={"models": tuple(name for name in self.models if name not in TOWERS)})

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """A preset's values under those that are given."""
        preset = values.get("preset") if isinstance(values, dict) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values


class ExplorationSettings(Settings):
    """``[exploration]``: how cold-start items, and those with few interactions, are shown beside proven ones."""

    explore: bool = Field(True, description="false: lists have what validation chose, without draws")
    slots: int | None = Field(
        None,
        ge=0,
        le=9,
        description="how many of the first 10 slots are drawn, at least; None: one, or more where validation allows",
    )
    prior_strength: float = Field(
        5.0,
        gt=0,
        le=1e6,
        description="interactions that weigh as much as an item's content; the chance to be explored falls"
        " with its own, to nothing at four times as many",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="of the draw, in standard deviations of the scores of a user: a small one takes the likeliest"
        " items, a large one all alike",
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
    url: Addresses = trusted(
        None,
        "a Qdrant server that answers instead of the workspace's own index; several addresses are nodes of one cluster",
        option="--index",
    )
    collection: str = Field("molar", pattern=r"^[A-Za-z0-9_.-]+$", description="the alias that is asked there")
    grpc_port: int | None = trusted(
        None, "ask by gRPC at this port, 0: never; None: at the one after REST's if it answers", ge=0, le=65535
    )
    key_over_http: bool = trusted(
        False, "send QDRANT_API_KEY unencrypted to a server on another machine, as in a private network"
    )
    timeout: float = Field(2.0, gt=0, le=86_400, description="seconds that one request of a query may take")
    fallback: Literal["none", "local"] = Field("none", description="what answers where the server does not")
    users: Literal["local", "server"] = Field("local", description="where vectors and histories of people are")
    shards: Number | None = Field(None, description="shards of a collection; None: the server decides")
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

    max_age_days: Days | None = Field(
        90, description="days since training after which another one is due; None: never by age"
    )
    drift: float | None = Field(
        0.2,
        gt=0,
        lt=1,
        description="share by which new interactions are foretold worse than just after training, from which the towers"
        " are trained on; None: never",
    )
    retrain_threshold: float | None = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of interactions newer than the last training of the towers from which they are fine-tuned"
        " incrementally; None: never",
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
    als: ALSSettings = ALSSettings()
    align: AlignSettings = AlignSettings()
    exploration: ExplorationSettings = ExplorationSettings()
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
        source, own = "the settings", dict[str, Any]()
        if path.exists():
            source = str(path)
            try:
                own = read_toml(path)
            except OSError as error:
                raise SettingsError(f"{path} cannot be read: {error}", "make it a readable file") from error
            _refuse_no_tables(own, source)
            refuse_trusted(own, source)
        if user := user_configuration():
            _refuse_no_tables(user, str(user_file()))
            source = f"{source}, with {user_file()}" if own else str(user_file())
        values: dict[str, Any] = {**user, **own}
        for section, one in values.items():
            if isinstance(one, dict):
                values[section] = {**user.get(section, {}), **own.get(section, {})}
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
    """Variables of the form ``MOLAR_SECTION_KEY`` become settings; others with this prefix belong to somebody else.

    A first word that nearly is a section is taken for a misspelled one.
    """
    for name, value in environ.items():
        if not name.startswith(_ENVIRONMENT) or name.startswith(_NOT_SETTINGS):
            continue
        section, _, key = name.removeprefix(_ENVIRONMENT).lower().partition("_")
        if section in MolarSettings.model_fields:
            if key not in _section(section):
                validated(MolarSettings, {section: {key: value}}, f"the environment variable {name}")
            values.setdefault(section, {})[key] = value
        elif close := get_close_matches(section, MolarSettings.model_fields, n=1, cutoff=_MISSPELLED):
            raise SettingsError(f"unknown environment variable {name}", f"did you mean {variable_of(close[0], key)}?")
