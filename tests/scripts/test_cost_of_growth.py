"""The figure of growing costs: its numbers, what it marks, and that panels can be measured one after the other."""

import json

import numpy as np
import pytest
from PIL import Image

import cost_of_growth as growth
from fastnn.threads import CROSSOVER_FLOPS, STEP


def test_quick_run_measures_and_draws_panel_by_panel(tmp_path, capsys):
    numbers, picture = tmp_path / "numbers.json", tmp_path / "deep" / "picture.png"
    growth.main(["--quick", "--panels", "rows", "width", "--json", str(numbers)])
    first = json.loads(numbers.read_text())["panels"]
    growth.main(["--quick", "--panels", "depth", "batch", "--json", str(numbers), "--out", str(picture)])
    report = json.loads(numbers.read_text())
    assert list(report["panels"]) == list(growth.PANELS)
    assert {name: report["panels"][name] for name in first} == first
    for name, panel in report["panels"].items():
        assert panel["values"] == list(growth.PANELS[name].quick)
        lines = panel["seconds_per_row"]
        assert len(lines) == (4 if name == "rows" else 3)
        assert all(t > 0 for line, times in lines.items() if line.startswith("fastnn") for t in times)
    measured = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("warning")]
    assert "\n".join(measured).count(" us") == 3 * 4 + 9 * 3
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape[1] > 900
    assert pixels.std() > 10  # something is drawn
    assert picture.stat().st_size < 60_000
    picture.unlink()
    growth.main(["--draw", "--json", str(numbers), "--out", str(picture)])
    assert picture.exists()


def test_marks_stand_where_an_amount_reaches_its_limit(monkeypatch):
    assert growth.THREADED_FLOPS == STEP * CROSSOVER_FLOPS
    assert growth.crossing((1, 2, 4), (10, 20, 40), 20) == pytest.approx(2)
    assert growth.crossing((1, 4), (10, 40), 20) == pytest.approx(2)
    assert growth.crossing((1, 2), (10, 20), 5) is None
    assert growth.crossing((1, 2), (10, 20), 21) is None
    monkeypatch.setattr(growth, "cache_sizes", lambda: {"L2": 2**20, "L3": 2**40})
    panel = growth.PANELS["rows"]
    marks = growth.marks(panel.values, [panel.job(value) for value in panel.values], panel.grows)
    assert marks == {"X > L2": pytest.approx(2**20 / (4 * growth.FEATURES))}  # each batch is worth a second thread


def test_arithmetic_of_a_job():
    job = growth.Job(rows=10, hidden=(3, 5), batch=2)
    assert job.flops() == 2 * (2 * 100 * 3 + 3 * 3 * 5 + 3 * 5 * 10)
    assert job.bytes_of("X") == 4 * 1000
    assert job.bytes_of("weights") == 16 * (300 + 3 + 15 + 5 + 50 + 10)
    assert job.bytes_of("batch") == 4 * 2 * (100 + 3 + 5 + 3 + 5 + 10)
    assert growth.powers(4, 33) == (4, 8, 16, 32)


@pytest.mark.parametrize(
    "arguments", [["--panels", "time"], ["--draw"], ["--repeats", "0"], ["--seconds", "-1"]], ids=str
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        growth.main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err
