"""`molar query`. By user id and session it imports neither torch nor transformers; qdrant_client only for a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from molar.asking import suggesting_ids
from molar_cli import options
from molar_cli.options import names, option
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molar_retrieval.ranking.results import Recommendation, Recommendations

_SHOWN = 2
"""Addends of a score that a line of the table has room for; `--json` has all."""

_kept: list[object] = []
"""Not torn down, as the process ends after the answer: taking an index down takes a fifth of the time of a query."""


@command()
def query(
    run: Session,
    user: Annotated[
        str | None, option("A user of the log; - reads the id from stdin.", "--user", "-u", metavar="ID|-")
    ] = None,
    session: Annotated[str | None, option("A session of the event log; - as for --user.", metavar="ID|-")] = None,
    items: Annotated[str | None, option("An anonymous session, oldest item first.", metavar="ID,ID")] = None,
    similar: Annotated[str | None, option("Items whose content is like this one's.", metavar="ID")] = None,
    text: Annotated[str | None, option("Items that these words describe.", metavar="WORDS")] = None,
    image: Annotated[Path | None, option("Items that look like this photo.", metavar="FILE")] = None,
    k: options.KOption = 10,
    where: options.WhereOption = None,
    exclude: options.ExcludeOption = None,
    only: options.OnlyOption = None,
    seen: options.SeenOption = "hide",
    objective: options.ObjectiveOption = None,
    diversity: options.DiversityOption = 0.0,
    calibrate: options.CalibrateOption = None,
    rerank: options.RerankOption = True,
    explore: options.ExploreOption = True,
    rules: options.RulesOption = None,
    no_rules: options.NoRulesOption = False,
    explain: Annotated[bool, option("Say why each item is there.", "--explain")] = False,
    language: Annotated[
        str, typer.Option("--lang", metavar="CODE", help="Language of the reasons: de, en, ja, or one of reasons.toml.")
    ] = "en",
    fallback: Annotated[Literal["none", "popular"], typer.Option(help="What people without history get.")] = "none",
    index: options.IndexOption = None,
    index_fallback: options.IndexFallbackOption = None,
    trust_remote_code: options.TrustOption = False,
) -> None:
    """What a user, or a session, should see next; what is like an item, or what words or a photo ask for.

    Example: [bold]molar query --user 123[/]

    Example: [bold]molar query --items 42,1337 -k 5[/]

    Example: [bold]molar query --text "black dress with lace" --user 123[/]

    Example: [bold]molar query --user 123 --where "genres in (Drama, 'Film-Noir') and not year < 1990"[/]
    """
    searching = text is not None or image is not None or (similar is not None and user is not None)
    subjects = sum(option is not None for option in (user, session, items, similar))
    if subjects != 1 and not (searching and items is None and session is None):
        raise SettingsError(
            "name exactly one of --user, --session, --items and --similar, or what to search for with --text and"
            " --image",
            "molar query --user 123, or molar query --text 'black dress'",
        )
    user, session = user and options.said(user), session and options.said(session)
    shaping = explain or objective or diversity or calibrate is not None or not (rerank and explore) or language != "en"
    if (searching or similar is not None) and shaping:
        raise SettingsError(
            "--objective, --explain, --lang, --diversity, --calibrate, --no-rerank and --no-explore shape what --user,"
            " --session or --items alone are answered with",
            "leave them out of a search",
        )
    if fallback != "none" and (searching or (user is None and session is None)):
        raise SettingsError("--fallback answers a --user or --session without history", "leave it out")
    if rules is not None and no_rules:
        raise SettingsError("--rules names rules, and --no-rules leaves them aside", "leave one out")
    recommender = run.shop().recommender(
        rules=rules, index=index, index_fallback=index_fallback, trust_remote_code=trust_remote_code
    )
    _kept.append(recommender)
    among: dict[str, Any] = {"where": where, "exclude": names(exclude) or (), "only": names(only)}
    among["rules"] = not no_rules
    shape: dict[str, Any] = {"seen": seen, "diversity": diversity, "calibrate": calibrate, "rerank": rerank}
    shape |= {"objective": objective, "explore": explore, "explain": explain, "language": language}
    if searching:
        shown = "show" if user is None else seen  # nobody has seen anything
        with run.console.progress() as progress:
            progress.start("loading the encoder", None)  # which takes longer than all the rest
            with suggesting_ids(recommender.workspace):
                answer = recommender.search(text, image, k, similar=similar, user_id=user, seen=shown, **among)
    elif similar is not None:
        answer = recommender.similar(similar, k, **among)
    elif user is not None or session is not None:
        with suggesting_ids(recommender.workspace):
            answer = recommender.query(user, k, session_id=session, **among, **shape, fallback=fallback)
    else:
        answer = recommender.session(names(items) or [], k, **among, **shape)
    print_answer(run, answer)


def print_answer(run: Session, answer: "Recommendations") -> None:
    """Print a list, with reasons where there are some."""
    if run.document(answer.to_dict()):
        return
    alike = any(i.similarity is not None for i in answer.items)  # of such a score only the order says something
    columns = [">#", "item", "title", ">similarity" if alike else ">score"]
    rows = [[i.rank, i.item_id, i.title or "", f"{i.similarity if alike else i.score:.3f}"] for i in answer.items]
    if any(i.reasons for i in answer.items):
        columns.append("why")
        rows = [[*row, " ".join(i.reasons)] for row, i in zip(rows, answer.items, strict=True)]
    elif any(len(i.parts) > 1 for i in answer.items):  # otherwise it is the score once more
        columns.append("mostly")
        rows = [[*row, _made_of(i.parts)] for row, i in zip(rows, answer.items, strict=True)]
    if any(i.rule for i in answer.items):
        columns.append("placed by")
        rows = [[*row, _placed_by(i)] for row, i in zip(rows, answer.items, strict=True)]
    if rows:
        run.console.table(columns, rows)
    if answer.basis == "popularity":
        run.console.note("no history for this user: these are the most popular items")
    run.console.note(*answer.notes, *([answer.shortfall] if answer.shortfall else []))


def _made_of(parts: "Mapping[str, float]") -> str:
    """The addends that weigh most in a score, the heaviest first."""
    heavy = sorted(parts.items(), key=lambda one: -abs(one[1]))[:_SHOWN]
    return ", ".join(f"{name} {value:.2f}" for name, value in heavy if round(value, 2))


def _placed_by(item: "Recommendation") -> str:
    """The rule that moved an item, and from which place by score."""
    if item.rule is None:
        return ""
    return item.rule if item.rank == item.rank_by_score else f"{item.rule} (was {item.rank_by_score})"
