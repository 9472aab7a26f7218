import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import machine, own
from benchmarks.peers.protocol import Measurement, Request, clock, measure, molecules, resident

TINY = {"config": {"lmax": 1, "channels": 8, "num_heads": 2, "num_layers": 1}}


@pytest.mark.parametrize("mode", ["forward", "training", "forces"])
def test_a_step_of_every_mode_is_timed(mode, in_this_process):
    found = measure(Request(mode, 2, 5, repeats=3, options=TINY), own.build)
    assert len(found.seconds) == 3
    assert min(found.seconds) > 0
    assert found.parameters > 1000
    assert 0 <= found.above < found.peak < 50


@pytest.mark.parametrize("mode", ["training", "forces"])
def test_the_gradients_of_a_step_reach_the_weights(mode, monkeypatch):
    kept, model = [], own.PropertyModel
    monkeypatch.setattr(own, "PropertyModel", lambda *arguments: kept.append(model(*arguments)) or kept[0])
    own.build(Request(mode, 2, 5, options=TINY)).step()
    assert float(kept[0].encoder.blocks[0].attention.convolution.scale.weight.grad.abs().sum()) > 0


def test_no_repetition_starts_when_the_budget_is_used_up(in_this_process):
    assert len(measure(Request("forward", 1, 4, repeats=1000, budget=0.0, options=TINY), own.build).seconds) == 1


def test_a_program_answers_in_json():
    request = {"mode": "forward", "molecules": 1, "atoms": 4, "repeats": 1, "options": TINY}
    command = [sys.executable, "-m", "benchmarks.own", json.dumps(request)]
    assert Measurement(**machine.run(command)).parameters > 1000


def test_a_program_that_fails_is_named_by_its_last_line():
    with pytest.raises(machine.ProgramFailed, match="no such thing"):
        machine.run([sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(machine.ProgramFailed, match="more than"):
        machine.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)
    with pytest.raises(machine.ProgramFailed, match="no JSON"):
        machine.run([sys.executable, "-c", "print('hello')"])
    with pytest.raises(machine.ProgramFailed, match="No such file"):
        machine.run(["/nonexistent/python"])


def test_all_pairs_of_a_molecule_are_within_the_cutoff_and_none_is_too_close():
    numbers, pos = molecules(Request(molecules=32))
    assert numbers.shape == (32, 18)
    assert set(numbers.flat) <= {1, 6, 7, 8, 9}
    distance = np.linalg.norm(pos[:, :, None] - pos[:, None], axis=-1)[:, ~np.eye(18, dtype=bool)]
    assert distance.min() > 0.5
    assert distance.max() < 5


def test_the_molecules_have_as_many_edges_as_is_said():
    request = Request(molecules=2)
    graph = own.molecules(request)
    work = own.SE3TransformerConfig(lmax=1, channels=8, num_heads=2, cutoff=5.0)
    src, _, _ = own.PropertyModel(work, [own.ENERGY]).encoder.find_edges(graph)
    assert len(src) == request.edges == 2 * 18 * 17


def test_a_cloud_has_its_neighbours():
    graph = own.cloud(50, 6)
    assert len(graph.src) == 300
    assert float((graph.pos[graph.dst] - graph.pos[graph.src]).norm(dim=1).max()) < 5


def test_largest_memory_is_at_least_what_is_used_now():
    assert 0.05 < resident() <= resident(largest=True) + 1e-3


def test_processor_time_does_not_count_sleep():
    code = "import time; from benchmarks.peers.protocol import clock\nfor name in 'cpu', 'wall':\n"
    code += "    now = clock(name); start = now(); time.sleep(0.2); print(now() - start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=machine.ROOT)
    cpu, wall = map(float, done.stdout.split())
    assert cpu < 0.1 < wall
    assert clock("wall")() > 0
