"""A treatment stays in the shadow, where nobody sees it, if the log of what was shown says that it does harm."""

from molar_retrieval.experiments.definition import Experiment
from molar_retrieval.workspace.artefacts import Workspace


def refused(workspace: Workspace, experiment: Experiment) -> str | None:
    """Why a treatment is refused; None: it is not, or the log cannot tell.

    Clicks that may be lost without harm are those of the guardrail. A treatment that shows no lists of people's own is
    meant to be worse, to see what they are good for, and is not refused.
    """
    from molar_eval.kpi.prelaunch import verdict_beforehand

    if experiment.treatment.shows != "lists":
        return None
    harm = experiment.harms["clicks"]
    verdict = verdict_beforehand(workspace, experiment.control, experiment.treatment, harm=harm)
    if verdict.outcome != "refuse":
        return None
    return f"the log of what was shown refuses the treatment: {'; '.join(verdict.why)}"
