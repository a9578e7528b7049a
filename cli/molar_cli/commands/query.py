"""`molar query`. By user id and session it imports neither torch nor transformers; qdrant_client only for a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from molar.asking import suggesting_ids
from molar_cli.options import (
    DEFAULTS,
    IndexFallbackOption,
    IndexOption,
    RulesOption,
    TrustOption,
    check_rules,
    names,
    option,
    query_options,
    said,
)
from molar_cli.session import Session, command
from molar_retrieval.errors import SettingsError, shown
from molar_retrieval.ranking.query import OPTIONS, Query, QueryOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molar_retrieval.ranking.results import Recommendation, Recommendations
    from molar_retrieval.workspace.artefacts import Workspace

_SHOWN = 2
"""Addends of a score that a line of the table has room for; `--json` has all."""

_kept: list[object] = []
"""Not torn down, as the process ends after the answer: taking an index down takes a fifth of the time of a query."""


@command()
@query_options(Query, OPTIONS)
def query(
    run: Session,
    user: Annotated[
        str | None, option("A user of the log; - reads the id from stdin.", "--user", "-u", metavar="ID|-")
    ] = None,
    anonymous: Annotated[
        str | None, option("An anonymous visitor of the event log; - as for --user.", metavar="ID|-")
    ] = None,
    session: Annotated[str | None, option("The items of a session, oldest first.", metavar="ID,ID")] = None,
    similar_to: Annotated[str | None, option("Items whose content is similar to this one's.", metavar="ID")] = None,
    text: Annotated[str | None, option("Items that these words describe.", metavar="WORDS")] = None,
    image: Annotated[Path | None, option("Items that look like this photo.", metavar="FILE")] = None,
    options: QueryOptions = DEFAULTS,
    rules_file: RulesOption = None,
    index: IndexOption = None,
    index_fallback: IndexFallbackOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Recommend items to a user or for a session; or find what is like an item, or what words or a photo ask for.

    Example: [bold]molar query --user 123[/]

    Example: [bold]molar query --session 42,1337 -k 5[/]

    Example: [bold]molar query --text "black dress with lace" --user 123[/]

    Example: [bold]molar query --user 123 --where "genres in (Drama, 'Film-Noir') and not year < 1990"[/]
    """
    someone = user is not None or anonymous is not None
    searching = text is not None or image is not None or (similar_to is not None and someone)
    subjects = sum(option is not None for option in (user, anonymous, session, similar_to))
    if (subjects != 1 and not searching) or (searching and (session is not None or (user and anonymous))):
        raise SettingsError(
            "name exactly one of --user, --anonymous, --session and --similar-to, or what to search for with --text"
            " and --image",
            "molar query --user 123, or molar query --text 'black dress'",
        )
    user, anonymous = user and said(user), anonymous and said(anonymous)
    check_rules(rules_file, options)
    recommender = run.shop().recommender(
        rules=rules_file, index=index, index_fallback=index_fallback, trust_remote_code=trust_remote_code
    )
    _kept.append(recommender)
    with suggesting_ids(recommender.workspace):
        if searching:
            with run.console.progress() as progress:
                progress.start("loading the encoder", None)  # which takes longer than all the rest
                answer = recommender.search(
                    text, image=image, similar_to=similar_to, user_id=user, anonymous_id=anonymous, **options
                )
        elif similar_to is not None:
            answer = recommender.similar(similar_to, **options)
        else:
            among = () if session is None else names(session)
            answer = recommender.query(user, anonymous_id=anonymous, session=among, **options)
    if answer.basis == "popularity":
        run.console.warn(_popular(recommender.workspace, user, anonymous))
    print_answer(run, answer)


def _popular(workspace: "Workspace", user: str | None, anonymous: str | None) -> str:
    """Why the list has popular items, with known ids like the one that was mistyped."""
    from molar_indexes.inspection import similar_ids

    id_ = anonymous if user is None else user
    if id_ is None:
        return "nothing is known of what was asked for: these are the most popular items"
    close = [] if id_ is None else similar_ids(workspace, id_, is_session=user is None)
    hint = f"; did you mean {' or '.join(map(shown, close))}?" if close else ""
    who = "anonymous visitor" if user is None else "user"
    return f"no history is known of the {who} {shown(id_)}, so these are the most popular items{hint}"


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
    for name in answer.fields:
        columns.append(name)
        rows = [[*row, i.payload.get(name, "")] for row, i in zip(rows, answer.items, strict=True)]
    if any(i.rule for i in answer.items):
        columns.append("placed by")
        rows = [[*row, _placed_by(i)] for row, i in zip(rows, answer.items, strict=True)]
    if rows:
        run.console.table(columns, rows)
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
