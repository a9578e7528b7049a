"""What each step of a command takes, and to how much memory the process has come by then."""

import resource
from pathlib import Path

from rich.table import Table

from molar_retrieval.workspace.resources import Timer, Took


class Stages:
    """A listener to progress that notes it."""

    def __init__(self) -> None:
        self.took: dict[str, Took] = {}
        self.peaks: dict[str, float] = {}  # MB
        self.own: dict[str, float] = {}  # MB at the end of a step that are no pages of mapped files
        self._name, self._timer = "", Timer()

    @classmethod
    def of(cls, noted: dict[str, list[float]]) -> "Stages":
        """Those of an earlier run."""
        stages = cls()
        stages.took = {name: Took(*numbers[:2]) for name, numbers in noted.items()}
        stages.peaks = {name: numbers[2] for name, numbers in noted.items()}
        stages.own = {name: numbers[3] for name, numbers in noted.items()}
        return stages

    def noted(self) -> dict[str, list[float]]:
        """What :meth:`of` reads."""
        memory = {name: [self.peaks[name], self.own[name]] for name in self.took}
        return {name: [took.seconds, took.processor, *memory[name]] for name, took in self.took.items()}

    def start(self, task: str, total: int | None) -> None:
        self.finish()
        self._name = task

    def finish(self) -> None:
        name = self._name or "the rest"
        self.took[name] = self.took.get(name, Took()) + self._timer.took
        self.peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        status = Path("/proc/self/status").read_text("ascii")
        self.own[name] = int(status.split("RssAnon:")[1].split()[0]) / 1024
        self._name, self._timer = "", Timer()

    def advance(self, n: int = 1) -> None: ...

    def note(self, message: str) -> None:
        print(message)

    def table(self, title: str, items: int) -> Table:
        """A line for each step, and the sum."""
        found = Table(title=title, title_justify="left", box=None)
        for column in ("step", "s", "processor s", "µs an item", "peak so far, MB", "not mapped, MB"):
            found.add_column(column, justify="left" if column == "step" else "right")
        every = self.took | {"all": sum(self.took.values(), Took())}
        for name, took in every.items():
            peak = self.peaks.get(name, max(self.peaks.values()))
            own = self.own.get(name, max(self.own.values()))
            numbers = took.seconds, took.processor, 1e6 * took.processor / items, peak, own
            found.add_row(name, *(f"{number:,.0f}" for number in numbers))
        return found
