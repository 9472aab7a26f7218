"""The table of a GPU, rehearsed on a processor."""

import pytest
import torch

from benchmarks import gpu
from benchmarks.machine import Reach
from molformer.models import SE3TransformerConfig

FEW = ["--device", "cpu", "--molecules", "2", "--repeats", "1", "--matrix", "64"]


def test_every_row_is_measured_or_says_why_not(monkeypatch, capsys):
    tiny = SE3TransformerConfig(lmax=1, channels=8, num_heads=2, num_layers=1)
    monkeypatch.setattr(gpu, "CONFIGS", {"separable SE(3)": tiny})
    wanted = [
        gpu.Row("separable SE(3)", "forward", "float32", "plain"),
        gpu.Row("separable SE(3)", "training", "bfloat16", "plain"),
        gpu.Row("separable SE(3)", "forces", "TF32", "plain"),
    ]
    monkeypatch.setattr(gpu, "rows", lambda *_: wanted)
    monkeypatch.setattr(gpu, "difference", lambda *_: (1e-7, 2e-7))
    gpu.main(FEW)
    printed = capsys.readouterr().out
    assert "bfloat16: product" in printed
    assert "features 1.0e-07, gradients 2.0e-07" in printed
    table = printed.splitlines()[-3:]
    assert [line.split()[2:5] for line in table] == [
        ["forward", "float32", "plain"],
        ["training", "bfloat16", "plain"],
        ["forces", "TF32", "plain"],
    ]
    assert all("%" in line for line in table)
    torch.set_float32_matmul_precision("highest")


def test_a_row_that_fails_does_not_end_the_table():
    row = gpu.Row("separable SE(3)", "forward", "float32", "plain")
    cells = gpu.measure(row, None, gpu.Request(molecules=2, repeats=1), Reach(1.0, 1.0), "cpu")
    assert cells[4].startswith("not measured: ")


def test_forces_are_measured_by_plain_operations_alone():
    assert {(row.by, row.precision) for row in gpu.rows(False) if row.mode == "forces"} == {
        ("plain", "float32"),
        ("plain", "TF32"),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert capsys.readouterr().err == "torch finds no GPU here\n"


def test_fused_kernels_are_compared_with_plain_operations():
    pytest.importorskip("triton")
    config = SE3TransformerConfig(lmax=1, channels=8, num_heads=2, num_layers=1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    graph = gpu.molecules(gpu.Request(molecules=1, atoms=4)).to(device)
    assert max(gpu.difference(config, graph, device)) < 1e-5
