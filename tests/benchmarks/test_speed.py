import json
import sys

import pytest

from benchmarks import machine, report, speed
from benchmarks.peers.protocol import Measurement, Request

TINY = {"config": {"lmax": 1, "channels": 8, "num_heads": 2, "num_layers": 1}}


def row(mode="forward", peer=""):
    return speed.Row("a model", Request(mode, 2, 4, options=TINY), peer)


def test_the_table_has_every_row_and_says_why_a_peer_is_missing(in_this_process, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed, "own_rows", lambda *_: ([row("training")], [row()]))
    peers = [str(tmp_path / "none"), "--json", str(tmp_path / "figures.json")]
    monkeypatch.setattr(sys, "argv", ["speed.py", "--threads", "1", "--rounds", "2", "--peers", *peers])
    speed.main()
    lines = capsys.readouterr().out.splitlines()
    assert any("python" in line and "-m benchmarks.speed --threads 1" in line for line in lines)
    assert any("1 threads" in line and "torch" in line for line in lines)
    assert sum(line.startswith("a model") and "%" in line for line in lines) == 2
    assert sum("not measured: no environment at" in line for line in lines) >= 4
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["rows"][0]["measured"]["seconds"]) == 2 * 5  # rounds of repetitions
    assert figures["reach"]["flops"] == 1e11


def test_cells_are_what_was_measured():
    found = Measurement([0.3, 0.1, 0.2], parameters=1234567, peak=1.5, above=0.5, version="1")
    cells = dict(zip(speed.HEADER, speed.cells(row(), found, machine.Reach(1e12, 1e12)), strict=True))
    assert cells["time"] == "200 ms"
    assert cells["molecules/s"] == "10"
    assert cells["edges/s"] == "120"
    assert cells["parameters"] == "1,234,567"
    assert cells["floor/time"] == "0 %"
    assert speed.cells(row(peer="mace-torch"), found, machine.Reach(1, 1))[6] == ""


def test_measurements_of_several_rounds_come_together():
    both = speed.together(Measurement([1.0], 7, 2.0, 0.1, "1"), Measurement([2.0], 7, 1.0, 0.3, "1"))
    assert both.seconds == [1.0, 2.0]
    assert (both.peak, both.above) == (2.0, 0.3)


@pytest.mark.parametrize("quick", [True, False])
def test_every_configuration_is_valid_and_every_peer_has_a_program_and_an_environment(quick):
    common, presets = speed.own_rows(2, "wall", quick)
    for one in common + presets:
        assert speed.config_of(one.request.options).cutoff == 5.0
    assert {one.request.edges for one in common} == {9792}
    folder = machine.ROOT / "benchmarks" / "peers"
    for one in speed.peer_rows(2, "wall", quick):
        assert (folder / f"{one.peer.replace('-', '_')}.py").is_file()
        assert f"{one.peer})" in (folder / "install.sh").read_text()


def test_columns_stand_under_each_other():
    lines = report.table(["name", "value"], [["a", "1"], ["long name", "22"]]).splitlines()
    assert lines == ["name       value", "----------------", "a              1", "long name     22"]
    assert report.duration(0.01234) == "12.3 ms"
    assert report.duration(12.34) == "12.3 s"
