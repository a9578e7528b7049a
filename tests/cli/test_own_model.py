"""A model of the user's own is evaluated beside the built-in ones: as an object from Python, installed by its name."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from copies import copy_workspace
from typer.testing import CliRunner

import molar
from molar_cli.app import app

ROOT = Path(__file__).resolve().parents[2]
SUITE = """description = "small"
models = ["popularity", "EASE"]
resamples = 100
examples = 0
[[splits]]
split = "temporal"
"""
INSTALLED = """
import numpy as np

class Popular:
    name = "most taken"
    power = 1.0

    def fit(self, data):
        self.counts = data.interactions.matrix().sum(axis=0)
        return self

    def score(self, histories):
        return np.tile(self.counts**self.power, (len(histories), 1))
"""


class Popular:
    name = "mine"
    stochastic = False

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, data):
        self.counts = np.asarray(data.interactions.matrix().sum(axis=0), np.float32)
        return self

    def score(self, histories):
        return np.tile(self.counts**self.power, (len(histories), 1))


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    copy_workspace(trained.workspace, folder / ".molar")
    shutil.copytree(trained.shop, folder / "shop")
    (folder / "small.toml").write_text(SUITE)
    return folder


@pytest.fixture
def shop(place):
    return molar.Shop(place / "shop", place / ".molar")


@pytest.fixture
def told(place, shop):
    """Evaluates a small suite; gives the report and what was told of it."""

    def evaluate(*models, **options):
        notes = []
        result = shop.evaluate(str(place / "small.toml"), models=models, tell=notes.append, **options)
        return result, notes

    return evaluate


def figures(result, name):
    """Means of all metrics, their intervals, and comparisons with the others, by test."""
    found = {}
    for split in result.report.splits:
        (model,) = [one for one in split.models if one.name == name]
        found[split.name] = {metric: (one.mean, one.low, one.high) for metric, one in model.metrics.items()}
    return found


def installed(folder, monkeypatch, module, code=INSTALLED, **points):
    """A package that brings models, as pip would install it; ``points`` are their classes by name."""
    (folder / f"{module}.py").write_text(code)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {point if ':' in point else f'{module}:{point}'}" for name, point in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[molar.models]", *lines]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, module, raising=False)


def test_the_example_of_the_documents_runs_word_for_word(place, monkeypatch, capsys):
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8")
    (code,) = [one for one in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "class" in one]
    monkeypatch.chdir(place)
    exec(compile(code, "example.py", "exec"), names := {"__name__": "example"})
    board = names["board"].to_pandas().set_index(["split", "model"])
    assert set(board.index.get_level_values("model")) == {"mine", "popularity", "EASE"}
    for split in set(board.index.get_level_values("split")):
        mine, theirs = board.loc[split, "mine"], board.loc[split, "popularity"]
        assert (mine["mean"], mine["low"], mine["high"]) == (theirs["mean"], theirs["low"], theirs["high"])


def test_the_same_arithmetic_has_the_same_figures_intervals_and_tests_as_a_baseline(told):
    result, _ = told(Popular(), "popularity", "EASE")
    assert figures(result, "mine") == figures(result, "popularity")
    for split in result.report.splits:
        models = {model.name: model for model in split.models}
        mine, theirs = models["mine"], models["popularity"]
        assert mine.kind == "baseline"
        if split.against == "mine":  # the first of the best
            assert (theirs.versus["ndcg@10"][0].difference.mean, "mine" in str(models["EASE"].versus)) == (0, True)
        else:
            assert split.against == "EASE"
            assert mine.versus["ndcg@10"] == theirs.versus["ndcg@10"]
            assert mine.versus["ndcg@10"][0].p_holm >= mine.versus["ndcg@10"][0].p
    assert "mine" in (result.folder / "report.html").read_text("utf-8")


def test_what_a_model_sees(told):
    class Curious(Popular):
        name = "curious"
        seen = {}  # noqa: RUF012

        def fit(self, data):
            self.seen["data"] = data
            return super().fit(data)

        def score(self, histories):
            self.seen["histories"] = histories
            return super().score(histories)

    told(Curious())
    data, histories = Curious.seen["data"], Curious.seen["histories"]
    n_items = len(data.item_ids)
    assert isinstance(data, molar.FitData)
    assert isinstance(histories, molar.Histories)
    assert data.content.shape[0] == data.interactions.n_items == n_items
    assert data.interactions.matrix().sum() == len(data.interactions.item) == len(data.interactions.user)
    cases, targets = data.validation.histories, data.validation.targets
    assert targets.shape == (len(cases), n_items)
    assert targets.nnz >= len(cases) > 0
    had = set(zip(cases.user.tolist(), cases.item.tolist(), strict=True))
    assert not had & set(zip(*(part.tolist() for part in targets.nonzero()), strict=True))
    assert (histories.asked_at[histories.user] >= histories.timestamp).all()
    assert data.interactions.timestamp.max() < histories.asked_at.min(), "nothing of the test is trained on"
    for array in (data.interactions.item, data.content, histories.item, histories.offsets):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_every_split_fits_a_copy_and_what_is_unchanged_is_kept(told):
    model = Popular(power=0.5)
    _, first = told(model)
    _, second = told(model)
    assert not hasattr(model, "counts")
    assert first == ["temporal: mine: fitted in 0 s"]
    assert second == ["temporal: mine: kept from before"]
    _, third = told(Popular(power=0.25))
    assert third == ["temporal: mine: fitted in 0 s"], "another attribute"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("self.counts**self.power", "-self.counts"),
        ("power = 1.0", "power = 2.0"),
        ("helper(counts):\n    return counts", "helper(counts):\n    return counts[::-1]"),
        ("SHIFT = np.array([0.0, 1.0])", "SHIFT = np.array([1.0, 1.0])"),
        ("np.zeros(3)", "np.ones(3)"),
    ],
)
def test_a_changed_model_is_not_answered_from_the_cache(told, before, after):
    code = INSTALLED.replace("sum(axis=0)", "sum(axis=0) + SHIFT[0] + np.zeros(3).sum()") + (
        "    def last(self):\n        return helper(self.counts)\n"
        "def helper(counts):\n    return counts\nSHIFT = np.array([0.0, 1.0])\n"
    )

    def run(source):
        exec(source, names := {"__name__": "own"})
        return told(names["Popular"]())[1]

    run(code)
    assert run("# moved down\n\n" + code) == ["temporal: most taken: kept from before"]
    assert code.count(before) == 1
    assert run(code.replace(before, after)) == ["temporal: most taken: fitted in 0 s"]


def scoring(function):
    """A model whose scores are those of a function of histories and the number of items."""

    class Wrong:
        name = "wrong"

        def fit(self, data):
            self.n_items = data.interactions.n_items
            return self

        def score(self, histories):
            return function(histories, self.n_items)

    return Wrong()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda histories, n_items: np.zeros((len(histories), n_items - 1)), "of shape"),
        (lambda histories, n_items: np.zeros(n_items), "of shape"),
        (lambda histories, n_items: np.full((len(histories), n_items), "1"), "not numbers"),
        (lambda histories, n_items: None, "not numbers"),
        (lambda histories, n_items: np.full((len(histories), n_items), np.nan), "NaN"),
        (lambda histories, n_items: np.full((len(histories), n_items), np.inf), "infinite"),
        (lambda histories, n_items: 1 / 0, r"score failed with ZeroDivisionError.*line \d+ of test_own_model.py"),
        (lambda histories, n_items: histories.item.fill(0), "read-only"),
    ],
)
def test_what_are_no_scores_is_an_error_that_names_the_model(told, function, words):
    with pytest.raises(molar.MolarError, match=f"'wrong'.*{words}") as caught:
        told(scoring(function), "popularity")
    assert caught.value.hint


def test_infinitely_bad_items_are_never_shown(told):
    result, _ = told(scoring(lambda histories, n_items: np.full((len(histories), n_items), -np.inf)))
    assert all(one["recall@10"][0] == 0 for one in figures(result, "wrong").values())


def test_a_fit_that_fails_or_returns_nothing_is_an_error_that_names_the_model(told):
    class Failing(Popular):
        def fit(self, data):
            raise KeyError("price")

    class Forgetful(Popular):
        def fit(self, data):
            super().fit(data)

    with pytest.raises(molar.MolarError, match="'mine': fit failed with KeyError: 'price'"):
        told(Failing())
    with pytest.raises(molar.MolarError, match="'mine': fit returned NoneType") as caught:
        told(Forgetful())
    assert caught.value.hint == "return self"


class Unnamed(Popular):
    name = ""


class Climbing(Popular):
    name = "../up"


class Taken(Popular):
    name = "EASE"


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([Popular], "is a class"),
        ([object()], "without fit and score"),
        ([Unnamed()], "has the name ''"),
        ([Climbing()], "has the name '../up'"),
        ([Taken()], "'EASE' is a built-in model"),
        ([Popular(), "mine"], "two models are called 'mine'"),
        ([Popular(), Popular(2.0)], "two models are called 'mine'"),
    ],
)
def test_what_is_no_model_or_has_no_name_of_its_own_is_refused(told, models, words):
    with pytest.raises(molar.MolarError, match=re.escape(words)):
        told(*models)


def test_a_forecast_knows_it(place, shop, told):
    model = Popular(power=0.125)
    assert [one.state for one in shop.evaluation_forecast(str(place / "small.toml"), models=[model]).trials] == [
        "unknown"
    ]
    told(model)
    assert [one.state for one in shop.evaluation_forecast(str(place / "small.toml"), models=[model]).trials] == ["kept"]


def test_an_installed_model_is_named_on_the_command_line(place, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "most_taken_model", **{"most taken": "Popular"})
    asked = ["evaluate", "-w", str(place / ".molar"), "--suite", str(place / "small.toml"), "--json"]
    done = CliRunner().invoke(app, [*asked, "--model", "popularity", "--model", "most taken"])
    assert done.exit_code == 0, done.output
    for split in json.loads(done.stdout)["splits"]:
        theirs, mine = sorted(split["models"], key=lambda one: one["name"] == "most taken")
        assert mine["metrics"] == theirs["metrics"]
    done = CliRunner().invoke(app, [*asked, "--model", "most token"])
    assert done.exit_code == 2
    assert "did you mean 'most taken'?" in done.output


@pytest.mark.parametrize(
    ("name", "point", "words"),
    [
        ("EASE", "Popular", "'EASE' is a built-in model"),
        ("another name", "Popular", "brings a model that is called 'most taken'"),
        ("most taken", "missing", "the import failed with AttributeError"),
        ("most taken", "nowhere_to_be_found:Popular", "the import failed with ModuleNotFoundError"),
        ("most taken", "np", "without fit and score"),
    ],
)
def test_an_installed_model_that_cannot_be_used_is_refused(told, tmp_path, monkeypatch, name, point, words):
    installed(tmp_path, monkeypatch, "unusable_model", **{name: point})
    with pytest.raises(molar.MolarError, match=re.escape(words)):
        told(name)


def test_no_model_is_imported_for_being_installed(told, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, "idle_model", "raise SystemExit('imported')", idle="Popular")
    told("popularity")
    with pytest.raises(molar.MolarError, match="there is no model 'idle_model:Popular'"):
        told("idle_model:Popular")
    assert "idle_model" not in sys.modules


def test_it_walks_through_time(place, shop):
    suite = 'description = "walk"\nmodels = ["mine", "popularity"]\nresamples = 100\nexamples = 0\n[[splits]]\n'
    (place / "walk.toml").write_text(suite + 'split = "prequential"\noptions = {steps = 3, least = 5}\n')
    result = shop.evaluate(str(place / "walk.toml"), models=[Popular(), "popularity"])
    assert figures(result, "mine") == figures(result, "popularity")
