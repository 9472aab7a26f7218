"""PropertyTask: how a PropertyModel is trained, as a LightningModule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from molformer.data.graph import GraphBatch
from molformer.data.statistics import TargetStatistics
from molformer.data.structure import Label
from molformer.errors import TrainingError
from molformer.models.config import SE3TransformerConfig
from molformer.models.property import Domain, PropertyModel
from molformer.training.config import TrainingConfig
from molformer.training.losses import class_loss, masked_loss


class PropertyTask(LightningModule):
    """Trains a model of several targets, some of whose labels may be missing.

    Args:
        encoder: fields of a `SE3TransformerConfig`.
        targets: fields of a `Label` each.
        training: fields of a `TrainingConfig`.
        domain: of a `Domain`, see `Domain.to_dict`.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        targets: Sequence[Mapping[str, Any]],
        training: Mapping[str, Any],
        domain: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.training_config = TrainingConfig(**training)
        self.model = PropertyModel(
            SE3TransformerConfig(**encoder),
            [Label(**target) for target in targets],
            self.training_config.pooling,
            Domain.from_dict(domain),
        )

    def set_statistics(self, statistics: Mapping[str, TargetStatistics]) -> None:
        """Give every head the statistics of its target on the training part."""
        for name in self.model.predicted:
            found = statistics[name]
            self.model.head(name).set_statistics(found.scale, torch.as_tensor(found.references), found.size)

    def losses(self, graph: GraphBatch) -> dict[str, Tensor]:
        """Loss of each target on a batch, in units of the target's scale."""
        predictions = self.model(graph)
        return {target.name: self._loss(target, predictions, graph) for target in self.model.targets}

    def _loss(self, target: Label, predictions: Mapping[str, Tensor], graph: GraphBatch) -> Tensor:
        prediction, label = predictions[target.name], graph.labels[target.name]
        if target.is_class:
            return class_loss(prediction, label)
        return masked_loss(prediction, label, self.model.scale(target), self.training_config.loss)

    def training_step(self, graph: GraphBatch, _index: int) -> Tensor:
        """Weighted sum of the targets' losses."""
        loss = self._logged(graph, "train")
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.global_step}: lower learning_rate or gradient_clip; "
                "the run folder keeps the last good weights"
            )
        return loss

    def validation_step(self, graph: GraphBatch, _index: int) -> Tensor:
        """The same loss, on the validation part."""
        return self._logged(graph, "val")

    def configure_optimizers(self) -> Any:
        """AdamW, with decay for matrices alone, and a cosine after a linear warm-up."""
        config = self.training_config
        norms = {id(p) for module in self.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
        decayed = [p for p in self.parameters() if p.ndim > 1 and id(p) not in norms]
        chosen = {id(p) for p in decayed}
        kept = [p for p in self.parameters() if id(p) not in chosen]
        optimizer = AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}],
            lr=config.learning_rate,
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, round(config.warmup * steps))

        def rate(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))

        schedule = {"scheduler": LambdaLR(optimizer, rate), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def transfer_batch_to_device(self, batch: GraphBatch, device: torch.device, _index: int) -> GraphBatch:
        """Move a batch of graphs."""
        return batch.to(device)

    def _logged(self, graph: GraphBatch, part: str) -> Tensor:
        losses = self.losses(graph)
        weights = self.training_config.target_weights
        total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        values = {f"{part}/loss": total} | {f"{part}/{name}": loss for name, loss in losses.items()}
        self.log_dict(
            values, on_step=False, on_epoch=True, batch_size=graph.num_graphs, prog_bar=False, sync_dist=part == "val"
        )
        return total
