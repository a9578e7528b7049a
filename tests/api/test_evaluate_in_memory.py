"""`molar.Dataset`, `molar.splits`, `molar.metrics` and `molar.evaluate`: comparing models on tables, without a shop."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import pytrec_eval

import molar

DAY = 86_400
ROOT = Path(__file__).resolve().parents[2]


class Popular:
    name = "mine"
    stochastic = False

    def fit(self, data):
        self.counts = np.asarray(data.interactions.matrix().sum(axis=0), np.float32)
        return self

    def score(self, histories):
        return np.tile(self.counts, (len(histories), 1))


def by_model(board: molar.Frame, metric: str = "ndcg@10") -> pd.DataFrame:
    """The rows of one metric, by model."""
    found = board.to_pandas()
    return found[found["metric"] == metric].set_index("model")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    """200 users who take 20 of 60 items over 30 days, the later ones more often."""
    random, chances = np.random.default_rng(0), np.arange(1, 61) / np.arange(1, 61).sum()
    return [
        {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": 1_600_000_000 + place * 36 * 3600 + user * 60}
        for user in range(200)
        for place, item in enumerate(random.choice(60, 20, replace=False, p=chances))
    ]


@pytest.fixture(scope="module")
def data(rows: list[dict[str, object]]) -> molar.Dataset:
    return molar.Dataset.from_frames(rows)


@pytest.fixture(scope="module")
def evaluation(data: molar.Dataset) -> molar.Evaluation:
    return molar.evaluate([Popular(), "popularity", "EASE"], data, [molar.splits.LeaveOneOut(), "temporal"])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.Table.from_pylist, list])
def test_a_data_set_is_made_of_any_frame(rows, frame):
    made = molar.Dataset.from_frames(frame(rows))
    assert (len(made.interactions), len(made.item_ids), len(made.user_ids)) == (200, 60, 200)
    assert made.interactions.matrix().sum() == len(rows)


def test_a_csv_file_keeps_ids_as_written(tmp_path: Path):
    file = tmp_path / "orders.csv"
    file.write_text("customer,sku,at\n01,007,2024-01-01\n01,008,2024-01-02\n02,007,2024-01-03\n")
    made = molar.Dataset.from_frames(file, columns={"user_id": "customer", "item_id": "sku", "timestamp": "at"})
    assert sorted(made.item_ids) == ["007", "008"]
    assert sorted(made.user_ids) == ["01", "02"]


def test_items_bring_what_models_of_content_read_and_items_without_interactions(rows):
    items = [{"item_id": f"i{n}", "title": f"lamp of colour {n % 7}"} for n in range(61)]
    made = molar.Dataset.from_frames(rows, items)
    assert len(made.item_ids) == 61
    assert made.words is not None
    assert len(made.words) == 61
    found = molar.evaluate(["content kNN", "popularity"], made, ["leave-one-out"]).leaderboard()
    assert set(found.to_pandas()["model"]) == {"content kNN", "popularity"}


def test_rows_that_cannot_be_used_are_told_of(rows):
    with pytest.warns(UserWarning, match=r"interactions: rows left out: 1 × missing item id"):
        made = molar.Dataset.from_frames([*rows, {"user_id": "u1", "item_id": None, "timestamp": 1}])
    assert len(made.log) == len(rows)


def test_nothing_is_written_where_the_program_runs(rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molar.evaluate([Popular()], molar.Dataset.from_frames(rows), ["leave-one-out"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "split",
    [
        molar.splits.LeaveOneOut(),
        molar.splits.Temporal(test="3d", validation="2d"),
        molar.splits.Temporal(test=0.2),
        molar.splits.LastDay(),
        molar.splits.ColdItems(share=0.2),
        molar.splits.ColdUsers(share=0.2),
        molar.splits.Rolling(steps=3),
    ],
    ids=lambda split: split.name,
)
def test_no_target_is_fitted_on(data, split):
    log = data.log
    there = set(zip(log.user.tolist(), log.item.tolist(), strict=True))
    for fold in split.split(data):
        fitted = set(zip(fold.train.user.tolist(), fold.train.item.tolist(), strict=True))
        for cases in (fold.validation, fold.test):
            asked = set(zip(cases.user[cases.case_of_target].tolist(), cases.targets.tolist(), strict=True))
            assert asked <= there
            assert not asked & fitted
        assert len(fold.test)
        assert fold.train.n_items == log.n_items


def test_a_temporal_split_cuts_where_it_is_told_to(data):
    last = int(data.log.timestamp.max())
    first, whole = molar.splits.Temporal(test="3d", validation="2d").split(data)
    assert first.train is whole.train
    assert int(first.train.timestamp.max()) < last - 5 * DAY + 60 * 200
    assert int(whole.test.times().min()) >= last - 3 * DAY


@pytest.mark.parametrize("length", ["3 weeks", "d", "-1d", 0, 1.5])
def test_a_length_without_meaning_is_refused(data, length):
    with pytest.raises(molar.MolarError):
        list(molar.splits.Temporal(test=length).split(data))


def test_metrics_are_those_of_trec_eval():
    random = np.random.default_rng(1)
    lists = {f"u{u}": {f"i{i}": float(50 - r) for r, i in enumerate(random.choice(40, 10, False))} for u in range(50)}
    taken = {f"u{u}": {f"i{i}": 1 for i in random.choice(40, 3, False)} for u in range(60)}
    shown = [{"user_id": u, "item_id": i, "score": s} for u, one in lists.items() for i, s in one.items()]
    truth = [{"user_id": u, "item_id": i} for u, one in taken.items() for i in one]
    names = {"ndcg@5": "ndcg_cut_5", "recall@10": "recall_10", "precision@5": "P_5", "map@10": "map_cut_10"}
    theirs = pytrec_eval.RelevanceEvaluator(taken, set(names.values())).evaluate(lists)
    ours = molar.metrics.compute(shown, truth, list(names)).to_pandas().set_index("metric")["mean"]
    for name, other in names.items():
        assert ours[name] == pytest.approx(sum(one[other] for one in theirs.values()) / len(taken), abs=1e-6)
    each = molar.metrics.compute(shown, truth, list(names), per_user=True).to_pandas().set_index("user_id")
    assert len(each) == 60
    assert each.loc["u55", "recall@10"] == 0
    assert each.loc["u3", "ndcg@5"] == pytest.approx(theirs["u3"]["ndcg_cut_5"], abs=1e-6)


def test_lists_are_ordered_by_rank_then_score_then_as_they_come():
    truth = pd.DataFrame({"user_id": ["u"], "item_id": ["b"]})
    by_rank = pd.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "rank": [2, 1], "score": [9.0, 1.0]})
    for columns, value in ((["rank", "score"], 1.0), (["score"], 0.5), ([], 0.5)):
        found = molar.metrics.compute(by_rank[["user_id", "item_id", *columns]], truth, ["mrr@2"]).to_pandas()
        assert found["mean"].tolist() == [value]


def test_metrics_of_lists_need_what_they_are_judged_by():
    shown = [{"user_id": "u", "item_id": i} for i in ("a", "b")]
    truth = [{"user_id": "u", "item_id": "a"}]
    found = molar.metrics.compute(shown, truth, ["coverage@2", "gini@1"], items=[{"item_id": i} for i in "abcd"])
    assert found.to_pandas()["mean"].tolist() == [0.5, 0.75]
    with pytest.raises(molar.MolarError, match="training"):
        molar.metrics.compute(shown, truth, ["novelty@2"])


@pytest.mark.parametrize(
    ("shown", "truth", "metric", "words"),
    [
        ([{"user_id": "u", "item_id": "a"}] * 2, [{"user_id": "u", "item_id": "a"}], "ndcg@2", "twice"),
        ([{"user": "u", "item_id": "a"}], [{"user_id": "u", "item_id": "a"}], "ndcg@2", "user_id"),
        ([{"user_id": "u", "item_id": "a"}], [], "ndcg@2", "truth"),
        ([{"user_id": "u", "item_id": "a"}], [{"user_id": "u", "item_id": "a"}], "ndgc@2", "ndgc@2"),
        ([{"user_id": "u", "item_id": "a"}], [{"user_id": "u", "item_id": "a"}], "ndcg", "ndcg@10"),
    ],
)
def test_tables_that_cannot_be_judged_are_refused(shown, truth, metric, words):
    with pytest.raises(molar.MolarError) as error:
        molar.metrics.compute(shown, truth, [metric])
    assert words in str(error.value) + "".join(getattr(error.value, "__notes__", [])) + (error.value.hint or "")


def test_a_model_of_ones_own_stands_beside_built_in_ones(evaluation):
    board = by_model(evaluation.leaderboard("leave-one-out, last"))
    assert board.loc["mine", "mean"] == pytest.approx(board.loc["popularity", "mean"], abs=1e-6)
    against = board["against"].iloc[0]
    assert against in ("EASE", "popularity")
    assert np.isnan(board.loc[against, "p_holm"])
    others = board.drop(index=against)
    assert others["p_holm"].between(0, 1).all()
    assert (board["low"] <= board["high"]).all()


def test_figures_of_users_have_the_mean_of_the_leaderboard(evaluation):
    each = evaluation.per_user("leave-one-out, last").to_pandas()
    board = by_model(evaluation.leaderboard("leave-one-out, last"))
    assert len(each) == 600
    for model, mean in each.groupby("model")["ndcg@10"].mean().items():
        assert mean == pytest.approx(board.loc[model, "mean"], abs=1e-6)


def test_recommendations_of_a_model_get_the_same_figures_from_metrics(data, evaluation):
    (fold,) = molar.splits.LeaveOneOut().split(data)
    counts = np.asarray(molar.Dataset(fold.train).interactions.matrix().sum(axis=0))
    shown, truth = [], []
    for case, user in enumerate(fold.test.user_ids()):
        scores = counts.astype(float)
        scores[fold.test.seen(slice(case, case + 1)).item] = -np.inf
        best = np.argsort(-scores, kind="stable")[:10]
        shown += [{"user_id": user, "item_id": data.item_ids[item], "rank": n} for n, item in enumerate(best, 1)]
        truth.append({"user_id": user, "item_id": data.item_ids[fold.test.targets[case]]})
    found = molar.metrics.compute(shown, truth, ["hit_rate@10"]).to_pandas()["mean"][0]
    each = evaluation.per_user("leave-one-out, last").to_pandas()
    ours = each[each["model"] == "mine"]["hit_rate@10"].mean()
    assert found == pytest.approx(ours, abs=0.02)  # ties count against a model in `evaluate`, lists break them by item


def test_a_page_and_files_are_written_where_they_are_asked_for(evaluation, data, tmp_path):
    evaluation.page(tmp_path / "page.html")
    assert "mine" in (tmp_path / "page.html").read_text("utf-8")
    kept = molar.evaluate([Popular()], data, ["leave-one-out"], out=tmp_path / "run")
    assert {"report.html", "report.json", "scores"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert len(kept.per_user()) == 200
    again = molar.evaluate(["popularity"], data, ["leave-one-out"], out=tmp_path / "run")
    assert set(again.per_user().to_pandas()["model"]) == {"popularity"}


def test_runs_on_other_data_are_not_taken_for_the_same_cases(data, rows, tmp_path):
    for name, made in (("before", data), ("same", data), ("other", molar.Dataset.from_frames(rows[:-20]))):
        molar.evaluate([Popular()], made, ["leave-one-out"], out=tmp_path / name)
    kept = molar.evaluate([Popular()], data, ["leave-one-out"], out=tmp_path / "now")
    assert kept.falls_since(tmp_path / "same") == []
    with pytest.raises(molar.MolarError, match="different data"):
        kept.falls_since(tmp_path / "other")
    with pytest.raises(molar.MolarError, match="in memory"):
        molar.evaluate([Popular()], data, ["leave-one-out"]).falls_since(tmp_path / "before")


def test_the_leaderboard_has_every_metric_that_was_asked_for(data):
    board = molar.evaluate(["popularity", Popular()], data, ["leave-one-out"], metrics=["mrr@5", "recall@20"])
    found = board.leaderboard().to_pandas()
    assert found["metric"].tolist() == ["mrr@5", "mrr@5", "recall@20", "recall@20"]
    assert found["p_holm"].notna().sum() == 2


def test_a_split_whose_answers_are_fitted_on_is_refused(data):
    class Leaking:
        name = "leaking"

        def split(self, data):
            (fold,) = molar.splits.LeaveOneOut().split(data)
            yield molar.splits.Fold(data.log, fold.validation, fold.test)

    with pytest.raises(molar.MolarError, match="leaks"):
        molar.evaluate(["popularity"], data, [Leaking()])


@pytest.mark.parametrize("masks", [{"test": np.ones(3, bool)}, {"test": None, "validation": None}])
def test_masks_that_fit_no_data_set_are_refused(data, masks):
    whole = np.ones(len(data.log), bool)
    with pytest.raises(molar.MolarError):
        molar.splits.Fold.of_masks(data, **{name: whole if mask is None else mask for name, mask in masks.items()})


def test_a_model_of_content_without_content_is_refused(data):
    with pytest.raises(molar.MolarError, match="content"):
        molar.evaluate(["content kNN"], data, ["leave-one-out"])


def test_a_split_of_ones_own_is_a_mask(data):
    class EveryTenth:
        name = "every tenth"

        def split(self, data):
            mask = np.zeros(len(data.log), bool)
            mask[9::10] = True
            yield molar.splits.Fold.of_masks(data, test=mask)

    found = molar.evaluate([Popular(), "popularity"], data, [EveryTenth()], baseline="mine")
    assert found.leaderboard().to_pandas()["against"].unique().tolist() == ["mine"]


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (["poplarity"], {}, "popularity"),
        ([], {}, "model"),
        (["popularity"], {"splits": ["temporl"]}, "temporal"),
        (["popularity"], {"metrics": ["coverage@10"]}, "ndcg"),
        (["popularity"], {"metrics": []}, "metric"),
        (["popularity"], {"baseline": "EASE"}, "baseline"),
        ([Popular(), Popular()], {}, "mine"),
    ],
)
def test_what_has_no_meaning_is_refused_with_a_remedy(data, models, options, words):
    with pytest.raises(molar.MolarError) as error, warnings.catch_warnings():
        molar.evaluate(models, data, **options)
    assert words in str(error.value) + "".join(getattr(error.value, "__notes__", []))


def test_the_example_of_the_documents_runs_word_for_word(trained, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "evaluation.md").read_text("utf-8").partition("### Without a shop")[2]
    code = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    (tmp_path / "shop").symlink_to(trained.shop)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example.py", "exec"), names := {"__name__": "example"})
    board = names["evaluation"].leaderboard().to_pandas()
    assert set(board["model"]) == {"popularity", "item-kNN", "EASE"}
    assert (tmp_path / "comparison.html").exists()


def test_a_shop_is_a_data_set_with_content(trained):
    shop = molar.Shop(None, trained.workspace)
    made = shop.dataset()
    assert len(made.content) == len(made.words) == len(made.item_ids)
    board = molar.evaluate(["content kNN", "popularity"], made, ["leave-one-out"]).leaderboard()
    assert by_model(board).loc["content kNN", "mean"] > 0
