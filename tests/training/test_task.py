from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from molformer.data.datamodule import MoleculeDataModule
from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.training.callbacks import MovingAverage
from molformer.training.preflight import Preflight, out_of_memory_advice, preflight
from molformer.training.task import PropertyTask
from molformer.training.trainer import make_trainer
from tests.helpers import small_config
from tests.training.test_run import TARGETS, training


@pytest.fixture
def data(store):
    return MoleculeDataModule(store, TARGETS, batch_size=8)


def task(data, store, **kwargs):
    torch.manual_seed(0)
    settings = training(store, "unused", **kwargs)
    config = small_config(num_layers=1)
    task = PropertyTask(
        config.to_dict(),
        [target.to_dict() for target in data.targets],
        asdict(settings),
        {"elements": [], "max_atoms": 0, "geometries": []},
    )
    task.model.set_statistics(data.statistics())
    return task


def gradients(task, graph):
    task.zero_grad()
    torch.stack(list(task._training_losses(graph).values())).sum().backward()
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("target", TARGETS)
def test_a_label_that_is_missing_changes_no_gradient(data, store, target):
    """The value that stands where a label is missing, and the prediction there, change nothing."""
    graph = next(iter(data.train_dataloader()))
    network = task(data, store).double()
    graph = replace(graph, pos=graph.pos.double())
    missing = graph.labels[target].clone()
    missing[0] = torch.nan
    if target == "charges" or target == "forces":
        missing[: graph.sizes[0]] = torch.nan
    masked = gradients(network, replace(graph, labels=graph.labels | {target: missing}))
    assert all(gradient.isfinite().all() for gradient in masked.values())
    # As if the target were one that only the other structures have.
    losses = network._training_losses(replace(graph, labels=graph.labels | {target: missing}))
    there = missing.flatten(1).isfinite().all(-1) if missing.ndim > 1 else missing.isfinite()
    values = network.model(graph)[target][there]
    label, scale = graph.labels[target][there], network.model.scale(next(t for t in data.targets if t.name == target))
    error = ((values - label) / scale).flatten(1).norm(dim=-1) if label.ndim > 1 else ((values - label) / scale).abs()
    assert losses[target].item() == pytest.approx(error.mean().item(), rel=1e-5)


def test_noisy_nodes_learn_to_tell_the_noise(store, tmp_path):
    """Of molecules that are all alike, how far an atom is from its place can be told."""
    square = 1.5 * np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    members = [Structure([6] * 4, square, labels={"gap": 1.0}) for _ in range(20)]
    path = write_store(tmp_path / "alike", members, [Label("gap", "eV", "intensive")]).path
    data = MoleculeDataModule(str(path), ["gap"], batch_size=16)
    network = task(data, store, targets=["gap"], noise=0.1)
    graph = next(iter(data.train_dataloader()))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    values = []
    for _ in range(100):
        optimizer.zero_grad()
        losses = network._training_losses(graph)
        losses["denoising"].backward()
        optimizer.step()
        values.append(losses["denoising"].item())
    assert 1.5 < values[0] < 4.5  # three components of variance one, less the mean of each molecule
    assert sum(values[-10:]) < 0.6 * sum(values[:10])
    assert "denoising" not in network.losses(graph)


def test_target_weights_multiply_the_losses(data, store):
    graph = next(iter(data.train_dataloader()))
    plain, heavy = task(data, store), task(data, store, target_weights={"energy": 5.0, "gap": 0.0})
    losses = {name: loss.detach() for name, loss in plain._training_losses(graph).items()}
    expected = losses["dipole"] + losses["charges"] + losses["forces"] + 5 * losses["energy"]
    assert heavy._weighted(heavy._training_losses(graph)).item() == pytest.approx(expected.item(), rel=1e-5)


def averages_of(decay, steps, count=0):
    """The average of a weight that starts at 0 and takes these values, `count` steps having been averaged before."""
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.zero_()
    average, trainer = MovingAverage(decay), SimpleNamespace(global_step=count)
    average._average_model = AveragedModel(module)
    average._average_model.n_averaged += count
    for value in steps:
        module.weight.data.fill_(value)
        trainer.global_step += 1
        average.on_train_batch_end(trainer, module, None, None, 0)
        average.on_train_batch_end(trainer, module, None, None, 0)  # as with accumulated gradients: no step between
    assert average._average_model.n_averaged == count + len(steps)
    return average._average_model.module.weight.item()


def test_the_average_follows_a_short_run_and_has_its_decay_in_a_long_one():
    assert averages_of(0.99, [1.0]) == 1.0
    assert averages_of(0.99, [0.0, *[1.0] * 29]) > 0.99  # a plain 0.99 would be at 0.25
    assert averages_of(0.99, [1.0], count=10_000) == pytest.approx(0.01, rel=1e-2)


def test_a_processor_has_full_precision_where_tf32_is_asked_for(store, tmp_path):
    torch.set_float32_matmul_precision("high")
    make_trainer(tmp_path, training(store, tmp_path, precision="tf32", device="cpu"), [], None, {})
    assert torch.get_float32_matmul_precision() == "highest"


def test_preflight_measures_and_changes_nothing(data, store):
    from contextlib import nullcontext

    network = task(data, store)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    state = torch.random.get_rng_state()
    found = preflight(network, data, nullcontext(), torch.device("cpu"))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in network.named_parameters())
    assert found.parameters == sum(p.numel() for p in network.model.parameters())
    assert found.molecules == 8
    assert 0 < found.edges <= 8 * 6 * 5
    assert found.epoch_seconds > 0
    assert 0.05 < found.memory_gb < 50
    text = str(Preflight(1234, 8, 40, 160, 0.52, 7200.0))
    assert text == "1,234 parameters; 8 molecules, 40 atoms and 160 edges a step; about 0.5 GB and 2.0 h an epoch"


def test_other_errors_are_not_taken_for_a_lack_of_memory(store):
    with pytest.raises(RuntimeError, match="something else"), out_of_memory_advice(training(store, "unused")):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("bound", "value", "moves"), [("gap>", 1e3, True), ("gap>", -1e3, False), ("gap<", -1e3, True)]
)
def test_a_bound_has_a_gradient_where_the_prediction_is_on_its_wrong_side(data, store, bound, value, moves):
    graph = next(iter(data.train_dataloader()))
    network = task(data, store, targets=["gap"], target_weights={"gap": 1.0})
    nothing = torch.full_like(graph.labels["gap"], torch.nan)
    censored = replace(graph, labels=graph.labels | {"gap": nothing, bound: torch.full_like(nothing, value)})
    alone = replace(graph, labels=graph.labels | {"gap": nothing})
    losses = [network.losses(each)["gap"].item() for each in (censored, alone)]
    assert (losses[0] > 1) == moves
    assert losses[1] == 0
    if moves:  # as if the bound were the value
        exact = replace(graph, labels=graph.labels | {"gap": torch.full_like(nothing, value)})
        assert losses[0] == pytest.approx(network.losses(exact)["gap"].item())
