"""`molar privacy scan|export|forget|object|pseudonym|report|rotate|ledger|forecast|audit|prune|certificate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from molar_cli import options
from molar_cli.options import option
from molar_cli.session import Session, command
from molar_retrieval.errors import RequestError
from molar_retrieval.reports.wording import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molar_indexes.privacy.certificate import Certificate
    from molar_indexes.privacy.forgetting import Forgotten
    from molar_retrieval.privacy.id_scan import ScanReport

app = typer.Typer(help="What is kept of people: where it lies, what it is, and the papers on it.", no_args_is_help=True)
_Person = Annotated[
    str,
    typer.Argument(
        metavar="ID|-", help="Whose; - reads the id from standard input, so that no list of processes has it."
    ),
]
_People = Annotated[
    list[str],
    typer.Argument(
        metavar="ID…|-", help="Who; - reads ids from standard input, one a line, so that no list of processes has them."
    ),
]
_SomePeople = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ID…|-]",
        help="Who; - reads ids from standard input, one a line, so that no list of processes has them.",
        show_default=False,
    ),
]
_Reason = Annotated[str, option("Why, in a sentence without a name; it stays on the list.")]
_Later = Annotated[bool, option("Leave what takes long to the next align: one for many.", "--later")]
_LISTED = 40
_REMOVED = {
    "rebuilt": "what was learnt of them",
    "events": "lines of the event log",
    "users": "people in generations",
    "experiments": "records of experiments",
    "answers": "answers that were kept",
    "server": "points on the server",
}


@app.command()
@command()
def scan(
    run: Session,
    person: _Person,
    also: Annotated[list[Path] | None, option("Another file or folder to look into; may come again.")] = None,
    expect: Annotated[
        Literal["none"] | None, option("none: exit code 1 unless it is proven that nothing is there.")
    ] = None,
) -> None:
    """Look for a person's ids in every file of workspace and catalogue, and on the server.

    Histories and vectors without an id are not looked for, and nothing is written.
    Files are decoded. What cannot be decoded is told as not proven, never as clean.

    Example: [bold]molar privacy scan u0500[/]

    Example: [bold]molar privacy scan - --expect none < id.txt[/]
    """
    report = run.shop().privacy.scan(options.said(person), also=also or ())
    if not run.document(report.to_dict()):
        _print(run, report)
    if expect == "none" and (report.found or report.not_proven):
        raise typer.Exit(1)


@app.command()
@command()
def export(
    run: Session,
    person: _Person,
    out: Annotated[Path | None, option("Write it as JSON; default: standard output.", metavar="FILE.json")] = None,
    page: Annotated[Path | None, option("Write it as a page too.", metavar="FILE.html")] = None,
) -> None:
    """Give everything that is stored on a person, in words that they can read, and what this cannot know of.

    Files that are written can be read by their owner alone.

    Example: [bold]molar privacy export u0500 --out u0500.json --page u0500.html[/]

    Example: [bold]molar privacy export - < id.txt[/]
    """
    found = run.shop().privacy.export(options.said(person), out=out, page=page)
    if out is None or run.console.as_json:
        run.console.document(found.to_dict())
        return
    run.console.table(("part", ">stored"), [(part.name, f"{len(part.rows):,}") for part in found.parts])
    run.console.line("", f"written to {out}; not included:", *(f"- {one}" for one in found.not_included))


@app.command()
@command()
def forget(
    run: Session,
    people: _SomePeople = None,
    session: Annotated[
        list[str] | None,
        option("An anonymous visitor, by the id of the session; may come again; - as for ID.", metavar="SESSION|-"),
    ] = None,
    reason: _Reason = "",
    later: _Later = False,
) -> None:
    """Forget people: all of theirs up to now, wherever it comes from; what comes later counts again.

    Nobody is served by their past from now on, also by servers that run. Then everything is made anew without them,
    which takes what `molar align` takes; copies and former generations go, and a certificate says what was found before
    and after. Exit code 1 where something failed (run it again) or was found after, or nobody here has an id, which is
    on the list all the same.

    Example: [bold]molar privacy forget u0500[/]

    Example: [bold]molar privacy forget --session cookie-7777[/]

    Example: [bold]molar privacy forget --later - < ids.txt[/]
    """
    if people == ["-"] == session:
        raise RequestError("ids of users and of sessions cannot both come from standard input", "run it twice")
    users, sessions = (options.said_of_many(ids) if ids else [] for ids in (people, session))
    _heeded(run, run.shop().privacy.forget(users, session_ids=sessions, reason=reason, later=later), sessions)


@app.command("object")
@command()
def object_(
    run: Session,
    people: _People,
    withdraw: Annotated[bool, option("The objection ends.", "--withdraw")] = False,
    reason: _Reason = "",
    later: _Later = False,
) -> None:
    """Heed objections: nothing of these people is read, kept or learnt, whenever it comes, until they withdraw.

    Asked for, they get what most people took. Exit codes are those of `molar privacy forget`.

    Example: [bold]molar privacy object u0500[/]

    Example: [bold]molar privacy object u0500 --withdraw[/]
    """
    ids, privacy = options.said_of_many(people), run.shop().privacy
    if not withdraw:
        _heeded(run, privacy.object(ids, reason=reason, later=later))
        return
    ended = privacy.withdraw(ids)
    if not run.document({"withdrawn": ended}):
        run.console.line(f"{ended:,} withdrawn; `molar update` reads their rows again")


@app.command()
@command()
def pseudonym(
    run: Session,
    people: _People,
    sessions: Annotated[bool, option("The ids are of sessions, not of users.", "--sessions")] = False,
) -> None:
    """Tell what the workspace calls people, each with the id in a line with a tab between, to join your own tables.

    Example: [bold]molar privacy pseudonym - < ids.txt > names.tsv[/]
    """
    found = run.shop().privacy.pseudonyms(options.said_of_many(people), sessions=sessions)
    if not run.document({"pseudonyms": found}):
        run.console.separated(found.items())


@app.command()
@command()
def report(
    run: Session,
    out: Annotated[Path, option("Folder for page, facts and blanks; it is made.")] = Path("privacy"),
    language: Annotated[Literal["en", "de", "ja"], option("Of the page.")] = "en",
) -> None:
    """Write what is done with people's data: a page for print, its facts with their sources, blanks to fill in.

    Record of processing, facts for an impact assessment, model card, main parameters of the ranking, costs. It is no
    legal advice.

    Example: [bold]molar privacy report --out privacy/ --language de[/]
    """
    written = run.shop().privacy.report(out, language=language)
    if run.document(written.to_dict()):
        return
    run.console.line(f"{written.page}: the page", f"{written.facts}: its facts, each with its source")
    blanks = f"{len(written.blanks)} blanks are to be filled in" if written.blanks else "all blanks are filled in"
    run.console.line(f"{written.filled}: {blanks}")


@app.command()
@command()
def ledger(
    run: Session,
    reset_budget: Annotated[
        bool,
        option(
            "Begin a new budget although releases are missing from the ledger: they count no more.", "--reset-budget"
        ),
    ] = False,
) -> None:
    """List every release of statistics with noise, and what is left of the budget of 365 days.

    Where the file was removed or cut short, the next release is refused: bring it back from a backup, or reset.

    Example: [bold]molar privacy ledger[/]
    """
    standing = run.shop().privacy.ledger(reset_budget=reset_budget)
    if run.document(standing.to_dict()):
        return
    rows = [
        (one.at[:16].replace("T", " "), f"{one.epsilon:g}", f"{one.delta:g}", one.log[:12], one.purpose, one.name)
        for one in standing.entries
    ]
    run.console.table(["at (UTC)", ">ε", ">δ", "log", "for", "entry"], rows)
    run.console.line(
        f"365 days took ε = {standing.spent:.2f} of {standing.yearly:g} at δ = {standing.delta:g}; all releases"
        f" together ε = {standing.ever:.2f}",
        f"one more release may take ε = {standing.left:.2f} now",
    )
    run.console.note(*(f"missing from the ledger: {one}" for one in standing.missing))
    if standing.free_from is not None:
        run.console.line(f"without another one, nothing counts any more from {standing.free_from[:10]}")


@app.command()
@command()
def prune(
    run: Session,
    dry_run: Annotated[bool, option("Only say what would go.", "--dry-run")] = False,
) -> None:
    """Remove copies of what people did that are older than [privacy] copy_retention_days.

    What evaluations keep, unfinished work, older generations; align, update and evaluate do so as they end.

    Example: [bold]molar privacy prune --dry-run[/]
    """
    gone = run.shop().privacy.prune(dry_run=dry_run)
    if run.document({"dry_run": dry_run, "copies": [one.to_dict() for one in gone]}):
        return
    rows = [(one.what, str(one.path), f"{one.days():,.0f}", size(one.bytes)) for one in gone]
    run.console.table(("kind", "folder", ">days", ">size"), rows)
    run.console.line(f"{len(gone):,} {'would go' if dry_run else 'removed'}, {size(sum(one.bytes for one in gone))}")


@app.command()
@command()
def rotate(run: Session) -> None:
    """Hash what all people are called with one key more, or the first one, wherever the workspace has it.

    Nothing is trained, and lists stay what they are. Nobody may answer from the workspace or write there meanwhile.
    Killed at any moment, the same command ends it. Keep the file of keys: all of them are needed.

    Example: [bold]molar privacy rotate[/]
    """
    done = run.shop().privacy.rotate()
    if not run.document(done.to_dict()):
        run.console.line(*done.in_words)


@app.command()
@command()
def certificate(
    run: Session,
    number: Annotated[
        int | None, typer.Argument(help="Which one; default: all, in a list.", show_default=False)
    ] = None,
    page: Annotated[Path | None, option("Write it as a page.", metavar="FILE.html")] = None,
    language: Annotated[Literal["en", "de", "ja"], option("Of the page.")] = "en",
) -> None:
    """Show what was done for people who were forgotten or objected, and whether any certificate was changed since.

    Example: [bold]molar privacy certificate[/]

    Example: [bold]molar privacy certificate 3 --page three.html --language de[/]
    """
    privacy = run.shop().privacy
    every = privacy.certificates()
    if number is None:
        if not run.document({"certificates": [one.to_dict() for one in every]}):
            rows = [
                (str(one.number), one.made[:16].replace("T", " "), str(len(one.people)), one.digest) for one in every
            ]
            run.console.table((">number", "made (UTC)", ">people", "digest"), rows)
        return
    found = privacy.certificate(number, page=page, language=language)
    if not run.document(found.to_dict()):
        _certified(run, found)


def _certified(run: Session, one: "Certificate") -> None:
    for person in one.people:
        if person.before is not None and person.after is not None:
            told = f"{person.before.hits:,} traces in {person.before.found:,} files before"
            proven = f", {person.after.not_proven:,} files are not proven" if person.after.not_proven else ""
            run.console.line(f"{told}, {person.after.hits:,} in {person.after.found:,} after{proven}")
    run.console.line(
        f"certificate {one.number}, digest {one.digest}; `molar privacy certificate {one.number}` shows it"
    )
    left = [two for two in one.beyond if two.what in ("weights", "shown", "held", "collection", "other")]
    run.console.note(*(f"still there: {two.name} ({two.what})" for two in left))


def _heeded(run: Session, done: "Forgotten", sessions: "Sequence[str]" = ()) -> None:
    from molar_indexes.inspection import similar_ids

    if not run.document(done.to_dict()):
        verb = "forgotten" if done.kind == "forgotten" else "heeded"
        removed = ", ".join(f"{_REMOVED[step]} {count:,}" for step, count in done.removed.items() if count)
        run.console.line(f"{done.people:,} {verb}; removed: {removed or 'nothing was there'}")
        for step, why in done.failed.items():
            run.console.line(f"not removed yet: {_REMOVED[step]}: {why}")
        for file, count in done.source_rows.items():
            left = f"{count:,} rows of theirs, which are not read"
            run.console.line(f"{file} still has {left}: whoever writes it is to remove them")
        if {"rebuilt", "purged"} & set(done.pending):
            run.console.line("models and older generations still know of them: `molar align` makes them anew")
        if done.certificate is not None:
            _certified(run, done.certificate)
        for one in done.unknown:
            run.console.note(f"nobody here has the id {one}; it is on the list, in case it comes")
            if found := similar_ids(run.shop().opened(), one, is_session=one in sessions):
                run.console.note(f"did you mean {' or '.join(found)}?")
        for one in done.identified:
            run.console.note(
                f"the session {one} is a user's: what it did without a login is removed; events of that user have its"
                " id until the user is forgotten"
            )
    still = done.certificate is not None and any(one.after and one.after.found for one in done.certificate.people)
    if done.failed or done.unknown or done.identified or still:
        raise typer.Exit(1)


def _print(run: Session, report: "ScanReport") -> None:
    for one in report.found[:_LISTED]:
        held = (f"  {finding.what}, {finding.times:,}×: {'; '.join(finding.where)}" for finding in one.findings)
        run.console.line(one.file, *held)
    if len(report.found) > _LISTED:
        run.console.line(f"… and {len(report.found) - _LISTED:,} more; --json has them all")
    for one in report.not_proven[:_LISTED]:
        run.console.line(f"not proven: {one.file}: {'; '.join(one.doubts)}")
    every = len(report.files) + len(report.server)
    found, doubtful = len(report.found), len(report.not_proven)
    run.console.line(
        "",
        f"{every:,} files: {found:,} hold something of the person, {doubtful:,} are not proven,"
        f" {every - found - doubtful:,} are clean.",
        "Read as " + ", ".join(f"{name} {count:,}" for name, count in report.decoders.items()) + ".",
        "Looked for " + ", ".join(f"{name}: {count:,}" for name, count in report.looked_for.items()) + ".",
    )
    run.console.note(*(f"note: {one}" for one in report.notes))
