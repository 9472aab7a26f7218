"""A PointNet beside a molformer run on the same clouds: what invariance is worth.

    python -m benchmarks.pointnet STORE --run RUN --epochs 60

trains a small PointNet (Qi et al. 2017, arXiv 1612.00593, without its transformation networks) on the training part of
a store of clouds, once as they stand and once randomly rotated, and tests both, and the model of the run, on a test
part as it stands and randomly rotated. Splits are by the class, with the seed of the run. Letters: B clouds, p points,
K classes.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from molformer.data.augmentation import CloudOptions
from molformer.data.cloud_datamodule import PointCloudDataModule
from molformer.graph import GraphBatch
from molformer.models.property import load_model
from molformer.so3 import random_rotation
from molformer.training.arguments import read_run


class PointNet(nn.Module):
    """Layers that all points share, the largest of each channel over the points, and a classifier.

    Args:
        classes: K.
        widths: channels of the shared layers.
    """

    def __init__(self, classes: int, widths: tuple[int, ...] = (64, 128, 256)) -> None:
        super().__init__()
        sizes = (3, *widths)
        self.shared = nn.Sequential(
            *(
                layer
                for size, width in zip(sizes[:-1], widths, strict=True)
                for layer in (nn.Linear(size, width), nn.BatchNorm1d(width), nn.ReLU())
            )
        )
        self.classifier = nn.Sequential(
            nn.Linear(widths[-1], 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, classes)
        )

    def forward(self, graph: GraphBatch) -> Tensor:
        """Clouds to logits (B, K)."""
        return self.classifier(graph.max_over_graphs(self.shared(graph.pos)))


def turned(graph: GraphBatch, generator: torch.Generator) -> GraphBatch:
    """Every cloud randomly rotated, in all directions."""
    rotations = torch.stack([random_rotation(generator) for _ in range(graph.num_graphs)]).to(graph.pos.dtype)
    return replace(graph, pos=torch.einsum("nij,nj->ni", rotations.index_select(0, graph.batch), graph.pos))


def train(data: PointCloudDataModule, epochs: int, augment: bool, seed: int) -> PointNet:
    """A PointNet after some epochs (AdamW, one cosine).

    Args:
        data: the clouds.
        epochs: passes over the training part.
        augment: turn every training cloud at random.
        seed: of the weights and rotations.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    label = data.targets[0]
    model = PointNet(len(label.classes))
    loader = data.train_dataloader()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            graph = turned(batch, generator) if augment else batch
            loss = functional.cross_entropy(model(graph), graph.labels[label.name].long(), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracies(model: nn.Module, data: PointCloudDataModule, name: str, seed: int = 0) -> tuple[float, float]:
    """Share of right answers on the test part, %: as it stands, and randomly rotated."""
    generator, right, total = torch.Generator().manual_seed(seed), np.zeros(2), 0
    with torch.no_grad():
        for batch in data.test_dataloader():
            for pose, graph in enumerate((batch, turned(batch, generator))):
                output = model(graph)
                logits = output[name] if isinstance(output, dict) else output
                right[pose] += int((logits.argmax(-1) == batch.labels[name]).sum())
            total += batch.num_graphs
    return float(100 * right[0] / total), float(100 * right[1] / total)


def rows(arguments: argparse.Namespace) -> Iterator[tuple[str, int, float, tuple[float, float]]]:
    """Name, parameters, minutes of training and accuracies of each network."""
    if not arguments.run:
        points, split, seed, options = arguments.points, [0.8, 0.1, 0.1], 0, CloudOptions(arguments.points)
        name = "class"
    else:
        _, training = read_run(arguments.run)
        points, split, seed, options = training.points, training.split, training.seed, training.cloud_options()
        name = training.target_names[0]
    data = PointCloudDataModule(arguments.store, name, options, split, batch_size=32, seed=seed)
    for augment in (False, True):
        start = time.perf_counter()
        model = train(data, arguments.epochs, augment, seed)
        minutes = (time.perf_counter() - start) / 60
        how = "randomly rotated in training" if augment else "as they stand in training"
        yield f"PointNet, {points} points, {how}", _size(model), minutes, accuracies(model, data, name)
    if arguments.run:
        network = load_model(Path(arguments.run), "cpu")
        yield (
            f"molformer, {points} points, as they stand",
            _size(network),
            float("nan"),
            accuracies(network, data, name),
        )


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", help="structure store of clouds with a class")
    parser.add_argument("--run", default="", help="run folder of molformer on the same store")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--points", type=int, default=256, help="of a cloud, where there is no run")
    print("| network | parameters | minutes | accuracy, upright, % | accuracy, randomly rotated, % |")
    print("|---|---|---|---|---|")
    for name, size, minutes, (upright, turned_) in rows(parser.parse_args()):
        took = "" if np.isnan(minutes) else f"{minutes:.1f}"
        print(f"| {name} | {size:,} | {took} | {upright:.1f} | {turned_:.1f} |", flush=True)


if __name__ == "__main__":
    main()
