import sys

import torch

from benchmarks import predict


def test_the_table_has_all_figures(monkeypatch, capsys):
    threads = torch.get_num_threads()
    monkeypatch.setattr(predict, "sample", lambda count: ["CCO", "C=O"])
    monkeypatch.setattr(predict, "_process", lambda command: 1.5)  # a new process is tested with the command line
    monkeypatch.setattr(sys, "argv", ["predict.py", "--quick", "--threads", "1"])
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


def test_the_bare_part_makes_a_geometry():
    assert predict.bare("CCO")
