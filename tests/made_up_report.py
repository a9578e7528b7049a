"""A report with made-up numbers: as many models, slices and odd names as a real one has."""

from molar_eval.report.schema import (
    CalibrationBin,
    Comparison,
    Data,
    Estimate,
    ExampleItem,
    ExampleUser,
    IndexCost,
    Made,
    ModelResult,
    Report,
    ReportExamples,
    SliceScore,
    SplitResult,
)
from molar_eval.report.tables import paper_tables

# Name, kind, NDCG@10, seconds, coverage.
MODELS = [
    ("popularity", "baseline", 0.018, 0.004, 0.01),
    ("recent popularity", "baseline", 0.027, 0.02, 0.02),
    ("item-kNN", "baseline", 0.061, 1.9, 0.44),
    ("ordered co-occurrence", "baseline", 0.150, 2.2, 0.61),
    ("ALS", "baseline", 0.051, 11.0, 0.35),
    ("BPR", "baseline", 0.047, 38.0, 0.52),
    ("EASE", "baseline", 0.054, 9.1, 0.31),
    ("content kNN", "baseline", 0.031, 0.6, 0.88),
    ("SASRec", "baseline", 0.182, 2710.0, 0.66),
    ("molar", "ours", 0.193, 3410.0, 0.71),
    ("molar (fast)", "ablation", 0.181, 610.0, 0.69),
    ("no image", "ablation", 0.179, 590.0, 0.68),
    ("no text", "ablation", 0.170, 585.0, 0.66),
    ("no attributes", "ablation", 0.178, 600.0, 0.69),
    ("shuffled content", "ablation", 0.166, 604.0, 0.62),
    ("random content", "ablation", 0.165, 601.0, 0.61),
    ("no alignment loss", "ablation", 0.1805, 480.0, 0.69),
    ("no ID tower", "ablation", 0.118, 310.0, 0.83),
    ("no content tower", "ablation", 0.171, 330.0, 0.58),
    ("no re-ranking", "ablation", 0.177, 590.0, 0.67),
]
SLICES = {
    "popularity": [("head", 2410, 1.3), ("torso", 1822, 1.0), ("tail", 1391, 0.6), ("cold", 57, 0.2)],
    "age": [("under a week", 6, 0.4), ("under a month", 211, 0.7), ("under a year", 2790, 1.1), ("older", 2400, 1.0)],
    "history": [("3 to 5", 410, 1.2), ("6 to 20", 1804, 1.1), ("21 to 50", 2012, 1.0), ("over 50", 1814, 0.9)],
    "shows": [("photo and description", 5820, 1.0), ("photo only", 140, 0.9), ("neither", 80, 0.5)],
    "user: occupation": [("college or graduate student", 759, 1.0), ("academic", 528, 1.1), ("retired", 142, 0.7)],
    "item: genres": [("Drama", 2100, 0.9), ("Comedy", 1600, 1.0), ("Action", 1400, 1.2), ("Film-Noir", 44, 1.6)],
}
METRICS = {"ndcg": 1.0, "recall": 1.75, "hit_rate": 1.75, "mrr": 0.83, "precision": 0.175, "map": 0.83}
GROWTH = {5: 0.8, 10: 1.0, 20: 1.22}


def estimate(mean, half=0.006, sd=None):
    return Estimate(mean=mean, low=max(mean - half, 0.0), high=mean + half, sd=sd)


def comparison(baseline, difference, half=0.004, p=0.0004):
    ends = Estimate(mean=difference, low=difference - half, high=difference + half)
    return Comparison(baseline=baseline, difference=ends, p=p / 2, p_holm=p)


def model(name="molar", kind="ours", ndcg=0.193, seconds=3410.0, coverage=0.71, **changes):
    metrics = {
        f"{base}@{k}": estimate(ndcg * factor * GROWTH[k], sd=0.0011 if kind != "baseline" else None)
        for base, factor in METRICS.items()
        for k in GROWTH
    }
    slices = {
        dimension: [
            SliceScore(
                value=value,
                cases=users,
                users=users,
                metrics=None
                if users < 10
                else {"ndcg@10": estimate(_tilted(name, value, ndcg) * ease, 0.3 / users**0.5)},
            )
            for value, users, ease in parts
        ]
        for dimension, parts in SLICES.items()
    }
    calibration = [
        CalibrationBin(score=-1.6 + 0.4 * step, hit_rate=ndcg * (0.8 + 0.28 * step), cases=604) for step in range(10)
    ]
    fields = {
        "name": name,
        "kind": kind,
        "settings": {"align": {"dim": 64, "epochs": 40, "history": 200}, "variant": name},
        "facts": {"tried": [{"regularisation": 0.1, "ndcg@10": 0.17}], "chosen": {"regularisation": 0.1}},
        "seeds": [0, 1, 2] if kind != "baseline" else [0],
        "fit_seconds": seconds,
        "score_seconds": 1.4,
        "metrics": metrics,
        "lists": {
            "coverage@10": coverage,
            "gini@10": 0.9 - coverage / 2,
            "novelty@10": 8 + 4 * coverage,
            "diversity@10": 0.52 if kind != "baseline" else None,
            "popularity_lift@10": 1 / (coverage + 0.05),
        },
        "versus": {},
        "slices": slices,
        "calibration": calibration,
        "kpi": {
            "conversion@10": estimate(ndcg * 1.75, 0.011),
            "revenue_per_user@10": Estimate(mean=ndcg * 61, low=ndcg * 55, high=ndcg * 68),
        },
    }
    return ModelResult.model_validate({**fields, **changes})


def _tilted(name, value, ndcg):
    """Content finds what nobody has taken yet; everything else does not."""
    return (0.09 if name == "content kNN" else ndcg / 4) if value in ("cold", "neither") else ndcg


def split(name="temporal", models=None, scale=1.0, **changes):
    if models is None:
        models = [model(n, k, m * scale, s, c) for n, k, m, s, c in MODELS]
        models = [_tested(each, models) for each in models]
    fields = {
        "name": name,
        "title": {"temporal": "Global temporal split: first new item", "leave-one-out": "Leave-one-out"}.get(
            name, name
        ),
        "fingerprint": "3f2a9c5d81e04b67",
        "settings": {"train": 0.8, "validation": 0.1, "ties": "file order"},
        "warning": None,
        "facts": {"t1": 975768738, "users without anything before the test case": 12},
        "seen": "hide",
        "cases": 6040,
        "users": 6040,
        "candidates": 3706,
        "primary": "ndcg@10",
        "against": "SASRec",
        "models": models,
        "index": [
            IndexCost(
                backend="edge",
                settings={"ef": 128, "quantisation": "int8"},
                queries=6040,
                recall=0.987,
                metrics={"ndcg@10": 0.1912, "recall@10": 0.336},
                exact_metrics={"ndcg@10": 0.193, "recall@10": 0.3378},
                milliseconds=1.84,
            )
        ],
    }
    return SplitResult.model_validate({**fields, **changes})


def _tested(each, models):
    """With tests against SASRec, and against the full model where it is an ablation."""
    means = {other.name: other.metrics["ndcg@10"].mean for other in models}
    rivals = ["SASRec", "molar (fast)"] if each.kind == "ablation" else ["SASRec"]
    tests = [
        comparison(
            rival, means[each.name] - means[rival], p=0.0004 if abs(means[each.name] - means[rival]) > 0.004 else 0.31
        )
        for rival in rivals
        if rival != each.name
    ]
    return each.model_copy(update={"versus": {"ndcg@10": tests} if tests else {}})


def report(splits=None, **changes):
    if splits is None:
        warning = (
            "leave-one-out lets training see what other users did after a test case happened, so scores are higher "
            "than they would be in use; the temporal split is the one to decide by"
        )
        splits = [split(scale=0.45), split("leave-one-out", warning=warning)]
    fields = {
        "title": "MovieLens 1M",
        "suite": "paper",
        "description": "Which of twenty models guesses best what a user will choose next, among all films of the log.",
        "data": Data(name="ml-1m", users=6040, items=3706, interactions=1_000_209, fingerprint="91ac27be"),
        "made": Made(
            command="molar evaluate --data ml-1m --suite paper",
            date="2026-11-25",
            molar="0.3.0",
            versions={"torch": "2.13.0", "numpy": "2.3.1"},
            cores=2,
            device="cpu",
            seconds=15_120.0,
        ),
        "splits": splits,
        "tables": [table for each in splits for table in paper_tables(each)],
        "settings": {"suite": {"seeds": [0, 1, 2], "metrics": ["ndcg", "recall"]}, "molar": {"align": {"dim": 64}}},
        "notes": ["BPR was tuned on 20 settings at most", "no price column: no business figures"],
    }
    return Report.model_validate({**fields, **changes})


def item(name, photo=None, hit=False):
    return ExampleItem(item_id=name, title=name, photo=photo, hit=hit)


def examples(photos=(None,)):
    """Two users; photos go round."""
    titles = ["Toy Story (1995)", "Jumanji (1995)", "Heat (1995)", "Sabrina (1995)", "One Flew Over the Cuckoo's Nest"]
    items = [item(titles[n % 5], photos[n % len(photos)]) for n in range(10)]
    hit = [*items[:3], item("Fargo (1996)", photos[0], hit=True), *items[4:]]
    users = [
        ExampleUser(
            split=name,
            person=person,
            history=items,
            targets=[item("Fargo (1996)", photos[0])],
            lists={"molar": hit, "SASRec": items, "popularity": items[::-1]},
        )
        for person, name in enumerate(("temporal", "leave-one-out"), 1)
    ]
    return ReportExamples(catalogue="ml-1m", users=users)
