"""Metrics of a target during training, in its unit."""

from collections.abc import Sequence

from torchmetrics import Accuracy, JaccardIndex, MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection


def number_metrics(_classes: Sequence[str] = ()) -> MetricCollection:
    """Mean absolute and root mean square error of the components."""
    return MetricCollection({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}, compute_groups=False)


def class_metrics(classes: Sequence[str], iou: bool = False) -> MetricCollection:
    """Accuracy, binary without classes, and optionally the mean intersection over union."""
    if not classes:
        return MetricCollection({"accuracy": Accuracy("binary")})
    count = len(classes)
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": Accuracy("multiclass", num_classes=count, average="micro")
    }
    if iou:
        metrics["iou"] = JaccardIndex("multiclass", num_classes=count)
    return MetricCollection(metrics, compute_groups=False)
