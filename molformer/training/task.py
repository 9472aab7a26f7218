"""PropertyTask: training of a PropertyModel as a LightningModule.

The loss is Σ_t w_t L_t over the targets t, each in units of its scale. In training, a target's loss is the mean over
the labels of the global batch, over all processes. The losses of `objectives`, which need no labels, are added; the
encoder then sees the graph as they have corrupted it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from molformer.data.several_conformers import averaged
from molformer.errors import ConfigError, TrainingError
from molformer.graph import GraphBatch
from molformer.kernels.step_graphs import StepGraphs
from molformer.models.config import SE3TransformerConfig
from molformer.models.descriptors import DescriptorSet
from molformer.models.property import Domain, PropertyModel
from molformer.models.renamed import current_names
from molformer.targets import Label, bounds_of
from molformer.targets.losses import mean, with_bounds
from molformer.training.config import TrainingConfig
from molformer.training.distributed import summed, world
from molformer.training.objectives import Denoising, Descriptors, Masking, Objective
from molformer.training.optimizer import freeze, layer_rates, parameter_groups, rate_of_step

STEPS_BETWEEN_CHECKS = 16  #: number of steps between tests that the loss is finite


class PropertyTask(LightningModule):
    """Trains a multi-target model; labels may be missing.

    Args:
        encoder: fields of a `SE3TransformerConfig`.
        targets: fields of a `Label` each.
        training: fields of a `TrainingConfig`.
        domain: of a `Domain`, see `Domain.to_dict`.
        descriptors: names of the labels that the objective `descriptors` reads.
        inputs: fields of the `DescriptorSet` of the model.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        targets: Sequence[Mapping[str, Any]],
        training: Mapping[str, Any],
        domain: Mapping[str, Any],
        descriptors: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.training_config = TrainingConfig(**training)
        self.model = PropertyModel(
            SE3TransformerConfig(**current_names(encoder, warn=False)),
            [Label(**target) for target in targets],
            self.training_config.pooling,
            Domain.from_dict(domain),
            self.training_config.forces,
            DescriptorSet(**(inputs or {})),
        )
        if self.training_config.noise and self.model.encoder.out_lmax < 1:
            raise ConfigError(
                "the noise is predicted from features of degree 1, which this network does not have: set noise to 0"
            )
        self.objectives = nn.ModuleDict(
            {name: self._new_objective(name, descriptors) for name in self.training_config.objective_weights}
        )
        self.metrics = nn.ModuleList(target.target_kind.metrics(target.classes) for target in self.model.targets)
        self._sums: dict[str, Tensor] = {}
        self._trained: tuple[Tensor, int] | None = None  # sum of the losses over the epoch's graphs, and their number
        self._step_graphs: StepGraphs | None = None

    def _new_objective(self, name: str, descriptors: Sequence[str]) -> Objective:
        channels, config = self.model.encoder.out_channels, self.training_config
        if name == "denoising":
            return Denoising(channels, config.noise)
        return Masking(channels, config.mask) if name == "masking" else Descriptors(channels, descriptors)

    def training_step(self, graph: GraphBatch, index: int) -> Tensor:
        """Weighted sum of the targets' losses."""
        losses = self._replayed_losses(graph) if self.training_config.cuda_graphs else None
        if losses is None:
            losses = self._all_losses(graph)
        so_far, count = self._trained or (torch.zeros_like(losses, dtype=torch.float64), 0)
        self._trained = so_far + graph.num_graphs * losses.detach(), count + graph.num_graphs
        if index % STEPS_BETWEEN_CHECKS == 0 or self.trainer.is_last_batch:
            self._refuse_unless_finite(self._trained[0])
        return losses[0]

    def _all_losses(self, graph: GraphBatch) -> Tensor:
        """The weighted sum, and the individual losses (L,)."""
        losses = self._training_losses(graph)
        return torch.stack([self._weighted(losses), *losses.values()])

    def _replayed_losses(self, graph: GraphBatch) -> Tensor | None:
        """The same by a CUDA graph; None if the batch cannot be captured."""
        if not graph.pos.is_cuda or graph.cell is not None or len(graph.pos) <= graph.num_graphs + 1:
            return None
        if self._step_graphs is None:
            self._step_graphs = StepGraphs(self, self._all_losses)
        src, dst, _ = self.model.encoder.find_edges(graph)
        return self._step_graphs(replace(graph, src=src, dst=dst))

    def on_train_epoch_start(self) -> None:
        """Reset the sums of the losses."""
        self._trained = None

    def _refuse_unless_finite(self, sums: Tensor) -> None:
        """Raise an error if a sum is not finite; tested rarely, as it synchronises with the GPU."""
        if not torch.isfinite(sums).all():
            raise TrainingError(
                f"the loss is {sums[0].item()} in epoch {self.current_epoch + 1}: lower learning_rate or "
                "gradient_clip; the run folder has the best model and the last checkpoint"
            )

    def on_validation_epoch_start(self) -> None:
        """Reset the sums of losses and of rows for each target."""
        zero = torch.zeros(2, dtype=torch.float64, device=self.device)
        self._sums = dict.fromkeys((*(t.name for t in self.model.targets), *self._measured()), zero)

    def validation_step(self, graph: GraphBatch, _index: int) -> None:
        """Add a batch to the losses and metrics of the validation part."""
        graph = self.model.differentiable(graph)
        x = self.model.features(graph)
        values = averaged(self.model.readout(x, graph), graph, self.model, self.model.targets)
        pairs = {target.name: self._loss_sum(target, values, graph) for target in self.model.targets}
        pairs |= {name: objective(x, graph, graph) for name, objective in self._measured().items()}
        for name, pair in pairs.items():
            self._sums[name] = self._sums[name] + torch.stack([number.double() for number in pair]).detach()
        for target, metrics in zip(self.model.targets, self.metrics, strict=True):
            _update(metrics, target, values[target.name].detach(), graph.labels[target.name])

    def _measured(self) -> dict[str, Objective]:
        """The objectives that leave the graph as it is."""
        return {name: objective for name, objective in self._objectives() if not objective.corrupts}

    def _objectives(self) -> list[tuple[str, Objective]]:
        return [(name, objective) for name, objective in self.objectives.items() if isinstance(objective, Objective)]

    def validation_losses(self) -> dict[str, Tensor]:
        """Losses over the whole validation part and all processes: `loss` and that of each target."""
        losses = {name: mean(*summed(pair).unbind()) for name, pair in self._sums.items()}
        return {"loss": self._weighted(losses)} | losses

    def on_validation_epoch_end(self) -> None:
        """Log losses, and errors in the targets' units."""
        values = {f"val/{name}": value.float() for name, value in self.validation_losses().items()}
        if self._trained is not None:  # logged here, in time for the callbacks at the end of the epoch
            sums, count = self._trained
            means = summed(sums) / summed(sums.new_tensor(count))
            names = ["loss", *[target.name for target in self.model.targets], *self.objectives]
            values |= {f"train/{name}": mean.float() for name, mean in zip(names, means.unbind(), strict=True)}
        for target, metrics in zip(self.model.targets, self.metrics, strict=True):
            assert isinstance(metrics, MetricCollection)
            exact = any(metric.update_called for metric in metrics.values())  # not only bounds
            if summed(torch.tensor(float(exact), device=self.device)) > 0:
                values |= {f"val/{target.name}/{name}": value for name, value in metrics.compute().items()}
            metrics.reset()
        self.log_dict(values, sync_dist=True)  # identical in every process

    def configure_optimizers(self) -> Any:
        """AdamW with weight decay of matrices only, and the schedule of `rate_of_step`."""
        config = self.training_config
        rates = None
        if config.initial:
            rates = layer_rates(self, config.encoder_rate, config.freeze, config.layer_decay)
            freeze(self, rates)
        optimizer = AdamW(
            parameter_groups(self, config.weight_decay, config.learning_rate, rates),
            lr=config.learning_rate,
            fused=config.precision != "bf16-mixed",  # of a fused one Lightning does not clip the gradient there
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        rate = partial(rate_of_step, steps=steps, warmup=config.warmup, cooldown=config.cooldown)
        schedule = {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def transfer_batch_to_device(self, batch: GraphBatch, device: torch.device, _index: int) -> GraphBatch:
        """Move a batch of graphs."""
        return batch.to(device)

    def losses(self, graph: GraphBatch) -> dict[str, Tensor]:
        """Loss of each target on a batch, in units of the target's scale."""
        values = self.model(graph)
        return {target.name: mean(*self._loss_sum(target, values, graph)) for target in self.model.targets}

    def _training_losses(self, graph: GraphBatch) -> dict[str, Tensor]:
        corrupted = graph
        for _, objective in self._objectives():
            corrupted = objective.corrupt(corrupted)
        corrupted = self.model.differentiable(corrupted)
        x = self.model.features(corrupted)
        whole = replace(corrupted, numbers=graph.numbers)  # heads have references of the elements
        values = self.model.readout(x, whole)
        sums = {target.name: self._loss_sum(target, values, graph) for target in self.model.targets}
        sums |= {name: objective(x, corrupted, graph) for name, objective in self._objectives()}
        return {name: self._shared_mean(*pair) for name, pair in sums.items()}

    @staticmethod
    def _shared_mean(total: Tensor, count: Tensor) -> Tensor:
        """Loss of this process, scaled such that the average over processes is the mean over all rows."""
        _, size = world()
        return total * size / summed(count).clamp(min=1)

    def _loss_sum(self, target: Label, values: Mapping[str, Tensor], graph: GraphBatch) -> tuple[Tensor, Tensor]:
        prediction = values[target.name]
        bounds = [graph.labels.get(name) for name in bounds_of(target.name)]
        label = with_bounds(graph.labels[target.name], prediction, *bounds)
        return target.target_kind.loss(prediction, label, self.model.scale(target), self.training_config.loss)

    def _weighted(self, losses: Mapping[str, Tensor]) -> Tensor:
        weights = self.training_config.target_weights | self.training_config.objective_weights
        return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()


def _update(metrics: nn.Module, target: Label, value: Tensor, label: Tensor) -> None:
    assert isinstance(metrics, MetricCollection)
    there = label.flatten(1).isfinite().all(-1) if label.ndim > 1 else label.isfinite()
    if there.any():
        known = label[there]
        metrics.update(value[there].contiguous(), known.long() if target.is_class else known.to(value.dtype))
