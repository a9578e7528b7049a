"""The contents of ``report.json``.

Numbers of a metric are fractions, times are seconds, ``low`` and ``high`` the ends of a 95 % interval. A metric's name
ends in its cutoff: ``ndcg@10``. The file holds no line of the data that it was made from: examples with titles and
photos lie beside it in ``examples.json``.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FORMAT = 1
Figure = Annotated[float, AfterValidator(lambda value: float(f"{value:.6g}"))]
"""A number with six significant digits: more are noise, and twice the size of the file."""


class Record(BaseModel):
    """Base of all parts of a report."""

    # JSON has no word for them: they would be written as null and not be read again.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(Record):
    """A mean with its interval, clustered by user."""

    mean: Figure = Field(description="mean over the cases, over the seeds where there are several")
    low: Figure = Field(description="lower end of the 95 % interval")
    high: Figure = Field(description="upper end of the 95 % interval")
    sd: Figure | None = Field(None, description="standard deviation over seeds; None with one seed")

    @property
    def half(self) -> str:
        """Half the width of the interval, as reports write it."""
        return f"±{(self.high - self.low) / 2:.4f}"


class Comparison(Record):
    """One model against another on the same cases."""

    baseline: str = Field(description="name of the other model")
    difference: Estimate = Field(description="mean of this model minus the baseline's, per case")
    p: Figure = Field(description="two-sided paired permutation test, users as clusters")
    p_holm: Figure = Field(
        description="the same, corrected after Holm over all that was tested on this split; over the whole "
        "run where the suite declares a primary comparison, whose own is its p"
    )


class SliceScore(Record):
    """A metric on a part of the cases."""

    value: str = Field(description="which part of the dimension")
    cases: int = Field(description="cases in it")
    users: int = Field(description="users that these cases belong to")
    metrics: dict[str, Estimate] | None = Field(description="None: too few users to tell")

    def get(self, metric: str) -> Estimate | None:
        """A metric, where it can be told."""
        return (self.metrics or {}).get(metric)


class CalibrationBin(Record):
    """Cases with like scores of their first recommendation: does a higher score mean more hits?"""

    score: Figure = Field(description="mean score of the first recommendation, standardised over the cases")
    hit_rate: Figure = Field(description="share of the cases with a hit among the first k")
    cases: int = Field(description="cases in the bin")


class ModelResult(Record):
    """One model on one split."""

    name: str = Field(description="as it stands in tables")
    kind: Literal["ours", "ablation", "baseline"] = Field(
        description="what is tested, that with something taken away, or what it is compared to"
    )
    settings: dict[str, Any] = Field(description="all that shapes the result but data and seed")
    facts: dict[str, Any] = Field(description="what validation chose, and what it tried")
    seeds: list[int] = Field(description="seeds that it was fitted with")
    fit_seconds: Figure = Field(description="wall time of fitting and tuning, mean over seeds")
    score_seconds: Figure = Field(description="wall time of scoring and ranking all test cases")
    metrics: dict[str, Estimate] = Field(description="by metric")
    lists: dict[str, Figure | None] = Field(description="coverage, Gini, novelty, diversity, … of the lists")
    versus: dict[str, list[Comparison]] = Field(description="by metric")
    slices: dict[str, list[SliceScore]] = Field(description="by dimension, in a sensible order")
    calibration: list[CalibrationBin] = Field(description="in order of score")
    kpi: dict[str, Estimate] = Field(default_factory=dict)


class IndexCost(Record):
    """What the served index loses against the exact one on the same queries."""

    backend: str = Field(description="name of the index backend")
    settings: dict[str, Any] = Field(description="settings of the index")
    queries: int = Field(description="queries asked")
    recall: float = Field(description="share of the exact first k that the index finds")
    metrics: dict[str, float] = Field(description="with the served index")
    exact_metrics: dict[str, float] = Field(description="with exact search")
    milliseconds: float = Field(description="median time of a query")


class DiversityPoint(Record):
    """What lists are like under one weight of diversity."""

    weight: float = Field(description="of unlikeness, 0 to 1")
    cases: int = Field(description="cases that were asked")
    metrics: dict[str, float] = Field(description="NDCG and recall of the lists")
    diversity: float = Field(description="mean unlikeness of two items of a list, by content")
    coverage: float = Field(description="share of the catalogue in any list")


class WalkStep(Record):
    """One window of a walk through time."""

    begin: str = Field(description="when it begins, ISO 8601, UTC")
    cases: int = Field(description="cases in it")
    learned: int = Field(description="interactions since the beginning of the step before, of the first training first")


class WalkArm(Record):
    """One way to go on, step by step."""

    name: str = Field(description="the model's name")
    values: list[Figure] = Field(description="the primary metric of each step's cases, mean")
    seconds: list[Figure] = Field(description="wall time of learning at each step")
    cpu_seconds: list[Figure] = Field(description="the same in processor time, over all threads")
    kept: Estimate | None = Field(description="share of the reference's sum of the metric; null: itself, a baseline")
    cost: Figure | None = Field(description="share of the reference's wall time of learning, all steps")
    cpu_cost: Figure | None = Field(description="the same in processor time")


class WalkResult(Record):
    """A walk through time: every window is asked, then learned from."""

    window: str = Field(description="day or week")
    reference: str | None = Field(description="the arm that the others are compared to, None: it did not take part")
    steps: list[WalkStep] = Field(description="in the order of time")
    arms: list[WalkArm] = Field(description="in the order of the suite")


class SplitResult(Record):
    """All models on one split."""

    name: str = Field(description="as suites name it")
    title: str = Field(description="as people read it")
    fingerprint: str = Field(description="changes with every interaction, case and target")
    settings: dict[str, Any] = Field(description="all that shaped the split")
    warning: str | None = Field(description="why the numbers may flatter, where they may")
    facts: dict[str, Any] = Field(description="counts and cuts worth knowing")
    seen: Literal["hide", "show"] = Field(description="whether items that a user had are kept out of the ranking")
    cases: int = Field(description="test cases")
    users: int = Field(description="users that they belong to")
    candidates: int = Field(description="items that were ranked for every case")
    primary: str = Field(description="the metric that models are ordered and judged by")
    against: str = Field(description="the baseline that every model is tested against")
    models: list[ModelResult] = Field(description="in any order")
    index: list[IndexCost] = Field(default_factory=list)
    trade_off: list[DiversityPoint] = Field(default_factory=list)
    walk: WalkResult | None = Field(None, description="of a walk through time: its steps")


class PrimaryResult(Record):
    """The one comparison that the suite declared before the run."""

    split: str = Field(description="name of the test")
    model: str = Field(description="the model")
    against: str = Field(description="whom it is compared to")
    metric: str = Field(description="by which it is")
    comparison: Comparison | None = Field(
        description="what came out, p uncorrected; None: one of them did not take part"
    )


class Table(Record):
    """A table laid out as a paper's."""

    title: str = Field(description="heading")
    note: str = Field("", description="what a reader has to know")
    columns: list[str] = Field(description="headings of the columns")
    rows: list[list[str | float | None]] = Field(description="first column: the model")


class Made(Record):
    """Where the numbers come from."""

    command: str = Field(description="the command line")
    date: str = Field(description="day, ISO 8601")
    molar: str = Field(description="version of molar")
    commit: str | None = Field(None, description="commit of molar's source, +changes behind it where files differed")
    code: str | None = Field(None, description="fingerprint of the code that the numbers come from")
    versions: dict[str, str] = Field(description="versions of the libraries that shape results")
    cores: int = Field(description="CPU cores that the run could use")
    device: str = Field(description="cpu, or the accelerator's name")
    seconds: float = Field(
        description="wall time of all that this run computed; cached results count with their own time"
    )


class Data(Record):
    """The data set."""

    name: str = Field(description="name of the data set")
    users: int = Field(description="users in the log")
    items: int = Field(description="items in the catalogue")
    interactions: int = Field(description="interactions in the log")
    fingerprint: str = Field(description="of log and catalogue")
    attributes: tuple[str, ...] | None = Field(None, description="columns of items that are read; None: not told")


class Report(Record):
    """``report.json``."""

    format: int = Field(FORMAT, description="changes where fields change their meaning")
    title: str = Field(description="heading")
    suite: str = Field(description="name of the suite")
    description: str = Field(description="what the suite asks")
    primary_comparison: PrimaryResult | None = Field(None, description="what the run is to be judged by, if declared")
    data: Data = Field(description="the data set")
    made: Made = Field(description="where the numbers come from")
    splits: list[SplitResult] = Field(description="results, split by split")
    tables: list[Table] = Field(description="tables laid out as the papers'")
    settings: dict[str, Any] = Field(description="every setting of the suite and of molar")
    notes: list[str] = Field(default_factory=list, description="what was left out, and why")


class ExampleItem(Record):
    """An item as an example shows it."""

    item_id: str = Field(description="the item")
    title: str = Field(description="its title")
    photo: str | None = Field(None, description="path relative to the catalogue's folder")
    hit: bool = Field(False, description="whether it is one of the targets")


class ExampleUser(Record):
    """One user's case: what was known, what came, what the models showed."""

    split: str = Field(description="name of the split")
    person: int = Field(description="which of the examples, from 1; who it is is not told")
    history: list[ExampleItem] = Field(description="the last items, oldest first")
    targets: list[ExampleItem] = Field(description="what would have been right")
    lists: dict[str, list[ExampleItem]] = Field(description="by model")


class ReportExamples(Record):
    """``examples.json``; stays with the data, is not published."""

    format: int = Field(FORMAT, description="as in the report")
    catalogue: str = Field(description="the catalogue that the photos belong to")
    users: list[ExampleUser] = Field(description="a few of them")
