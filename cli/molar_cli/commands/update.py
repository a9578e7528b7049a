"""`molar update`."""

from typing import TYPE_CHECKING, Annotated

import typer

from molar_cli.commands.align import print_staged
from molar_cli.options import ClusterOption, IndexOption, StageOption, TrustOption
from molar_cli.session import Session, command

if TYPE_CHECKING:
    from molar.updating import UpdateReport


@command()
def update(
    run: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what has changed, and what it takes.")] = False,
    stage: StageOption = False,
    index: IndexOption = None,
    trust_remote_code: TrustOption = False,
    cluster: ClusterOption = None,
) -> None:
    """Bring the live generation to the present catalogue and log: the least that is right, without training.

    It may run every five minutes or every night, and be killed anywhere. It says what changed, what was done, how long
    that took, and what is left for later.

    Example: [bold]molar update[/]
    """
    report = run.shop().update(
        dry_run=dry_run, stage=stage, index=index, trust_remote_code=trust_remote_code, cluster=cluster
    )
    if run.document(report.to_dict()):
        return
    run.console.line(report.summary)
    for step in report.steps:
        if step.outcome:
            run.console.line(f"  {step.name}: {step.outcome} ({step.seconds:.1f} s)")
    if report.dry_run and not report.up_to_date:
        run.console.line(_expected(report))
    if report.staged is not None:
        print_staged(run, report.staged)
    for due in report.later:
        run.console.line(f"for later: {due.why}; run `{due.command}`")


def _expected(report: "UpdateReport") -> str:
    if report.expected is None:
        return "what that takes is not known: no update here has found changes of these kinds; the first one tells"
    return f"about {report.expected.words}, as the last update took that found changes of these kinds"
