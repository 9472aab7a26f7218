"""Padded batches on any machine; CUDA graphs themselves where there is a GPU."""

from dataclasses import replace

import pytest
import torch

from molformer.data.datamodule import MoleculeDataModule
from molformer.errors import ConfigError
from molformer.kernels import use_kernels
from molformer.kernels.step_graphs import StepGraphs, padded, padded_size, write
from molformer.training.config import TrainingConfig
from molformer.training.run import new_task
from tests.helpers import small_config

TARGETS = ["gap", "energy", "charges", "dipole"]


def training(store, **settings):
    return TrainingConfig(data=str(store), wandb="off", **settings)


def with_edges(task, graph):
    src, dst, _ = task.model.encoder.find_edges(graph)
    return replace(graph, src=src, dst=dst)


@pytest.fixture
def given(store):
    """A task in float64 and two batches with edges, some of whose labels are missing."""
    settings = training(store, targets=TARGETS, precision="64")
    data = MoleculeDataModule(store, TARGETS, batch_size=6)
    task = new_task(small_config(num_layers=2, qk_norm=True), settings, data)
    batches = []
    for graph in list(data.train_dataloader())[:2]:
        graph.labels["gap"][1] = torch.nan
        batches.append(with_edges(task, replace(graph, pos=graph.pos.double())))
    return task, batches


def losses_and_gradients(task, losses):
    task.zero_grad()
    losses[0].backward()
    return losses.detach(), {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def assert_the_same(task, plain, other, tolerance):
    (losses, gradients), (more_losses, more_gradients) = (losses_and_gradients(task, each) for each in (plain, other))
    assert torch.allclose(losses, more_losses, rtol=tolerance, atol=tolerance)
    assert gradients.keys() == more_gradients.keys()
    for name, gradient in gradients.items():
        assert (gradient - more_gradients[name]).abs().max() <= tolerance * max(1, gradient.abs().max()), name


def test_what_is_padded_changes_no_loss_and_no_gradient(given):
    task, (graph, _) = given
    larger = padded(graph, len(graph.pos) + 5, len(graph.dst) + 7)
    assert (larger.num_graphs, len(larger.pos)) == (graph.num_graphs + 1, len(graph.pos) + 5)
    assert larger.sizes[-1] == 5
    assert_the_same(task, task._all_losses(graph), task._all_losses(larger), 1e-10)


def test_a_padded_batch_is_filled_with_the_next(given):
    task, (first, second) = given
    nodes, edges = (max(len(first.pos), len(second.pos)) + 3, max(len(first.dst), len(second.dst)))
    larger = padded(first, nodes, edges)
    places = larger.pos.data_ptr(), larger.labels["charges"].data_ptr()
    write(second, larger)
    assert places == (larger.pos.data_ptr(), larger.labels["charges"].data_ptr())
    assert_the_same(task, task._all_losses(second), task._all_losses(larger), 1e-10)


@pytest.mark.parametrize("count", [1, 31, 32, 1000, 9215, 9216, 87_654])
def test_a_padded_size_is_larger_by_a_few_percent_at_most(count):
    size = padded_size(count)
    assert count < size <= count + max(1, count / 32 + 1)
    assert padded_size(size - 1) == size


def test_what_a_cuda_graph_cannot_replay_is_refused(store):
    with pytest.raises(ConfigError, match="cuda_graphs is not for noise"):
        training(store, targets=["gap"], noise=0.1, cuda_graphs=True)
    with pytest.raises(ConfigError, match="equally many molecules"):
        training(store, targets=["gap"], batch_atoms=100, cuda_graphs=True)
    settings = training(store, targets=["energy", "forces"], cuda_graphs=True)
    data = MoleculeDataModule(store, ["energy", "forces"], batch_size=6)
    with pytest.raises(ConfigError, match="not for conservative forces"):
        new_task(small_config(num_layers=1), settings, data)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kernels", ["plain", "triton"])
def test_a_replay_gives_losses_and_gradients(given, kernels):
    task, batches = given
    task.cuda()
    use_kernels(task.model.encoder, kernels)
    replayed = StepGraphs(task, task._all_losses)
    for graph in [*batches, batches[0]]:
        graph = graph.to("cuda")
        assert_the_same(task, task._all_losses(graph), replayed(graph), 1e-10)
    with torch.no_grad():  # weights that are written to are those of the next replay
        for parameter in task.parameters():
            parameter.mul_(1.1)
    graph = batches[1].to("cuda")
    assert_the_same(task, task._all_losses(graph), replayed(graph), 1e-10)
