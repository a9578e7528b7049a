"""`molar cf`."""

from typing import Annotated

from molar_cli.options import option
from molar_cli.session import Session, command


@command()
def cf(
    run: Session,
    factors: Annotated[int | None, option("Length of a factor.")] = None,
    regularization: Annotated[float | None, option("L2 penalty.")] = None,
    iterations: Annotated[int | None, option("ALS sweeps.")] = None,
) -> None:
    """Learn collaborative factors from the interaction log by implicit ALS.

    `molar align` does this by itself where they are missing or stale.

    Example: [bold]molar cf --factors 128[/]
    """
    report = run.shop().factorise(factors=factors, regularization=regularization, iterations=iterations)
    if run.document(report.to_dict()):
        return
    done = "up to date" if report.up_to_date else "done"
    facts = report.facts
    run.console.line(
        f"cf: {done}; {facts['factors']} factors of {facts['users']:,} users and {facts['items']:,} items"
        f" from {facts['interactions']:,} training interactions"
    )
