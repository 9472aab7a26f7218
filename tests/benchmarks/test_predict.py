import subprocess
import sys

import pytest
import torch

from benchmarks import machine, predict


@pytest.mark.parametrize("clock", ["--threads=1", "--cpu-time"])
def test_the_table_has_all_figures(clock, monkeypatch, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setattr(predict, "sample", lambda count, elements=(): ["CCO", "C=O"])
    monkeypatch.setattr(
        predict, "_process", lambda command, clock: 1.5
    )  # a new process is tested with the command line
    monkeypatch.setattr(sys, "argv", ["predict.py", "--quick", clock])
    predict.main()
    torch.set_num_threads(threads)
    text = capsys.readouterr().out
    assert "molformer predict CCO, a new process" in text
    assert "1.5 s" in text
    assert text.count("target") == 2
    assert text.count("reached") + text.count("missed") == 2
    assert "molecules/s" in text


def test_the_sample_is_spread_over_the_embedded_set():
    few, many = predict.sample(3), predict.sample(1000)
    assert len(set(many)) == 1000
    assert few[0] == many[0]
    assert len(many[-1]) > len(many[0])


def test_the_sample_has_elements_that_the_model_knows():
    chosen = predict.sample(500, [1, 6, 7])
    assert len(set(chosen)) == 500
    assert not any(set(smiles) & set("OoSsFPlB") for smiles in chosen)  # l as in Cl, B as in Br


def test_a_model_that_refuses_molecules_is_not_called_fast():
    from molformer import load

    with pytest.raises(machine.ProgramFailed, match="1 of 2 molecules have no values"):
        predict.check(load("qm9").predict(["CCO", "CCBr"]))


def test_the_bare_part_makes_a_geometry():
    assert predict.bare("CCO")


def test_the_processor_time_of_a_process_that_was_started_counts():
    before = predict._with_children()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert predict._with_children() - before > 0.05
