"""Tables laid out as the papers': main table, modality, component, aligner."""

from collections.abc import Mapping, Sequence

from molar_eval.report.schema import ModelResult, SplitResult, Table
from molar_eval.report.standing import reference

_COLUMNS = {
    "N@10": "ndcg@10",
    "N@20": "ndcg@20",
    "N@50": "ndcg@50",
    "R@10": "recall@10",
    "R@20": "recall@20",
    "R@50": "recall@50",
}
_FULL = "full"
_MODALITY = {
    "no text": "image only",
    "no image": "text only",
    "no attributes": "image + text, no attributes",
    "shuffled content": "content of another item",
    "random content": "random content",
    _FULL: "image + text",
}
_COMPONENT = {
    "no collaborative tower": "w/o collaborative tower",
    "no content tower": "w/o content tower",
    "no sequence expert": "w/o sequence expert",
    "no linear expert": "w/o linear expert",
    "no content neighbours": "w/o content neighbours",
    "no trend": "w/o trend",
    "no experts": "w/o any expert",
    "no ALS start": "w/o ALS start",
    "no re-ranking": "w/o re-ranking",
    _FULL: "full",
}
_KNN = "content kNN"
_TUNED = f"{_KNN} (fine-tuned)"
_TASKS = {
    _KNN: "w/o all: the encoder as it is",
    f"{_KNN} (fine-tuned, no image-text)": "w/o image-text",
    f"{_KNN} (fine-tuned, no attributes)": "w/o attributes",
    f"{_KNN} (fine-tuned, no behaviour)": "w/o behaviour",
    _TUNED: "full",
}
_PARTS = {
    f"{_KNN} (photos alone)": "image only, as it is",
    f"{_KNN} (words alone)": "text only, as it is",
    _KNN: "image + text, as it is",
    f"{_KNN} (fine-tuned, photos alone)": "image only, fine-tuned",
    f"{_KNN} (fine-tuned, words alone)": "text only, fine-tuned",
    _TUNED: "image + text, fine-tuned",
}
_HELD_OUT = "cold items, cold"
_FOUND = {"before": "the encoder as it is", "after": "fine-tuned"}
_ALIGNER = {"no alignment loss": "w/o alignment loss", _FULL: "with alignment loss"}


def paper_tables(split: SplitResult) -> list[Table]:
    """The tables that the split's models fill; a table of ablations needs its full model and at least one of them.

    The full model of the ablations is "molar (fast)", which is trained as they are, or "molar" where there is none.
    """
    full = reference(split)
    by_name = {model.name: model for model in split.models}
    main = [m for kind in ("baseline", "ours") for m in split.models if m.kind == kind]
    tables = [_table(f"Main results, {split.title}", "", {model.name: model for model in main})] if main else []
    for title, labels in (("Modality", _MODALITY), ("Component", _COMPONENT), ("Aligner", _ALIGNER)):
        rows = {label: by_name[name] for name, label in labels.items() if name in by_name}
        if full is not None and rows:
            rows[labels[_FULL]] = full
            tables.append(_table(f"{title}, {split.title}", f"Full model: {full.name}.", rows))
    for title, labels in (("Tasks of fine-tuning", _TASKS), ("Modality of fine-tuning", _PARTS)):
        rows = {label: by_name[name] for name, label in labels.items() if name in by_name}
        if _TUNED in by_name and len(rows) > 1 + (_KNN in by_name):
            tables.append(_table(f"{title}, {split.title}", f"Full model: {_TUNED}.", rows))
    if tuned := by_name.get(_TUNED):
        tables += _inside(split, tuned)
    return tables


def _inside(split: SplitResult, tuned: ModelResult) -> list[Table]:
    """How well photos and texts of items that took no part find each other; told once, with the cases of such items."""
    found = tuned.facts.get("catalogue", {})
    if not found or not split.name.endswith(_HELD_OUT):
        return []
    return [
        Table(
            title=f"Retrieval inside the catalogue, {split.title}",
            note="Recall@10 of items that took no part in fine-tuning, among all; of the first seed.",
            columns=["model", "photo → text", "text → photo"],
            rows=[[label, *found[name]] for name, label in _FOUND.items()],
        )
    ]


def _table(title: str, note: str, models: Mapping[str, ModelResult]) -> Table:
    columns = {short: name for short, name in _COLUMNS.items() if any(name in m.metrics for m in models.values())}
    return Table(
        title=title,
        note=note,
        columns=["model", *columns],
        rows=[[label, *_means(model, list(columns.values()))] for label, model in models.items()],
    )


def _means(model: ModelResult, names: Sequence[str]) -> list[float | None]:
    return [model.metrics[name].mean if name in model.metrics else None for name in names]
