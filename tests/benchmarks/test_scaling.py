import sys

import pytest

from benchmarks import machine, scaling
from benchmarks.peers.protocol import Request

TINY = {"config": {"lmax": 1, "channels": 8, "num_heads": 2, "num_layers": 1, "edge_features": 8}}


def points(*_):
    return [
        scaling.Point(10 * count, f"{count} points", scaling._both(1, "wall", count, TINY)) for count in (12, 24, 48)
    ]


def test_the_tables_have_every_size_and_the_slopes(in_this_process, monkeypatch, capsys):
    for name in ("edges", "degrees", "channels"):
        monkeypatch.setattr(scaling, name, points)
    clouds = [("a cloud", Request("training", 1, options={"cloud": {"points": 20, "neighbours": 4}, **TINY}))]
    monkeypatch.setattr(scaling, "clouds", lambda *_: clouds)
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--threads", "1"])
    scaling.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("24 points") for line in lines) == 3
    assert sum(line.startswith("slope") and len(line.split()) == 5 for line in lines) == 3
    assert any(line.startswith("a cloud") for line in lines)


@pytest.mark.parametrize("power", [1.0, 2.5])
def test_the_slope_is_the_exponent_of_the_larger_half(power):
    sizes = [1.0, 2.0, 4.0, 8.0]
    assert scaling.slope(sizes, [5.0, 5.0, 3 * 4**power, 3 * 8**power]) == pytest.approx(power)


def test_what_fails_says_why(monkeypatch):
    def run(*_):
        raise machine.ProgramFailed("ended by signal -9: out of memory?")

    monkeypatch.setattr(machine, "run", run)
    rows = scaling.sweep(points())
    assert rows[0][1] == "not measured: ended by signal -9: out of memory?"
    assert rows[-1] == ["slope", "", "", "", ""]


@pytest.mark.parametrize("quick", [True, False])
def test_the_sizes_are_those_of_the_table(quick):
    edges = scaling.edges(quick, 1, "wall")
    assert [edges[0].size, edges[-1].size] == [1000, 100_000 if quick else 1_000_000]
    for point in edges:
        cloud = point.requests["forward"].options["cloud"]
        assert cloud["points"] * cloud["neighbours"] == point.size
    assert scaling.degrees(False, 1, "wall")[-1].label == "lmax 6"
    assert scaling.channels(False, 1, "wall")[-1].size == 256
    assert len(scaling.clouds(quick, 1, "wall")) == 2
