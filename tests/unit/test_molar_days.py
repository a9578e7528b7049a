"""How days of the demo shop are told: in the terminal, as a page, as a picture."""

from pathlib import Path
from types import SimpleNamespace

from molar.days import Day, DaysReport, picture
from molar_cli.commands.demo import _live
from molar_cli.console import Console
from molar_cli.session import Session

QUIET = Day(1, 3, 0, None, None, 0.0, None, 0.0, 0.01, 0.5, 0.2)
BUSY = Day(2, 1_200, 900, 0.5, 0.75, 0.01, 1.25, 0.08, 0.05, 0.5123, 61.0)
REPORT = DaysReport([QUIET, BUSY], {0: 2.0, 1: 0.5})


def test_the_terminal_tells_each_day_in_80_cells(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    asked = []
    made = SimpleNamespace(live=lambda days: asked.append(days) or REPORT)
    _live(Session(tmp_path, Console()), made, 2, tmp_path)
    shown = capsys.readouterr().out
    assert asked == [2]
    assert "2 days" in shown
    assert all(word in shown for word in ("1200", "75", "1.2", "8.0", "0.5123", "1 min"))
    table = [line for line in shown.splitlines() if "NDCG" in line or line.strip().startswith(("1 ", "2 "))]
    assert max(map(len, table)) <= 80
    assert (tmp_path / "days.html").exists()


def test_a_day_on_which_nobody_bought_has_no_figure(tmp_path):
    page = Path(REPORT.write_page(tmp_path / "days.html")).read_text("utf-8")
    assert "<td>–</td>" in page
    assert "Content-Security-Policy" in page
    assert picture(REPORT).count("<circle") == 9  # a day without a figure has none
