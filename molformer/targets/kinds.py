"""The kinds of targets that the package has.

Where a file does not say what an array is, it is of the first kind of its shape, so that their order matters.
Head factories import `nn.readout` when a model is built, not before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molformer.targets.kind import HeadOptions, TargetKind

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection

    from molformer.nn import readout
    from molformer.targets.losses import LossName


def _scalar_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import ScalarHead

    return ScalarHead(options.channels, options.pooling, options.pool_first)


def _extensive_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import ExtensiveHead

    return ExtensiveHead(options.channels)


def _vector_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import VectorHead

    return VectorHead(options.channels)


def _tensor_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import TensorHead

    return TensorHead(options.channels)


def _charges_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import ChargesHead

    return ChargesHead(options.channels)


def _atom_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import AtomHead

    return AtomHead(options.channels)


def _atom_vector_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import AtomVectorHead

    return AtomVectorHead(options.channels, inputs=options.input_vectors)


def _direct_forces_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import AtomVectorHead

    return AtomVectorHead(options.channels, balanced=True)


def _class_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import ClassHead

    return ClassHead(options.channels, max(1, len(options.classes)), options.pooling, options.pool_first)


def _atom_class_head(options: HeadOptions) -> "readout.Head":
    from molformer.nn.readout import AtomClassHead

    return AtomClassHead(options.channels, len(options.classes))


def _class_loss(prediction: "Tensor", label: "Tensor", _scale: "Tensor", _loss: "LossName") -> "tuple[Tensor, Tensor]":
    from molformer.targets.losses import class_loss_sum

    return class_loss_sum(prediction, label)


def _binary_metrics(_classes: Sequence[str]) -> "MetricCollection":
    from torchmetrics import Accuracy, MetricCollection

    return MetricCollection({"accuracy": Accuracy("binary")})


def _class_metrics(classes: Sequence[str]) -> "MetricCollection":
    from torchmetrics import Accuracy, MetricCollection

    accuracy = Accuracy("multiclass", num_classes=len(classes), average="micro")
    return MetricCollection({"accuracy": accuracy}, compute_groups=False)


def _segmentation_metrics(classes: Sequence[str]) -> "MetricCollection":
    from torchmetrics import JaccardIndex

    metrics = _class_metrics(classes)
    metrics.add_metrics({"iou": JaccardIndex("multiclass", num_classes=len(classes))})
    return metrics


def _sigmoid(logits: "Tensor") -> "Tensor":
    return logits.sigmoid()


def _softmax(logits: "Tensor") -> "Tensor":
    return logits.softmax(-1)


BUILT_IN = (
    # one number that does not grow with the molecule, such as an orbital energy
    TargetKind("intensive", _scalar_head, baseline="mean"),
    # one number that is a sum over atoms, such as a total energy
    TargetKind("extensive", _extensive_head, baseline="sum"),
    # three numbers that rotate with the molecule and do not depend on its place, such as a dipole
    TargetKind("vector", _vector_head, shape=(3,), irreps="1o"),
    # a symmetric matrix that rotates with the molecule, such as a polarizability
    TargetKind("tensor", _tensor_head, shape=(3, 3), irreps="0e + 2e", baseline="sum"),
    # one number per atom, such as a chemical shift
    TargetKind("atom", _atom_head, per_node=True, baseline="element"),
    # the same where their sum is the total charge
    TargetKind("charges", _charges_head, per_node=True, baseline="element"),
    # three numbers per atom that rotate with the molecule, such as a velocity or a displacement
    TargetKind("atom_vector", _atom_vector_head, shape=(3,), irreps="1o", per_node=True),
    # minus the gradient of an energy; a model may also predict them as such
    TargetKind("forces", _direct_forces_head, shape=(3,), irreps="1o", per_node=True, derivative="position"),
    # derivative of an energy with respect to strain over the volume; positive where the structure pulls, as in ASE
    TargetKind("stress", None, shape=(3, 3), irreps="0e + 2e", derivative="strain", periodic=True, voigt=True),
    # 0 or 1
    TargetKind("binary", _class_head, activation=_sigmoid, loss=_class_loss, metrics=_binary_metrics),
    # the index of one of several classes
    TargetKind(
        "category",
        _class_head,
        named_classes=True,
        activation=_softmax,
        loss=_class_loss,
        metrics=_class_metrics,
    ),
    # the same for each atom or point, such as the part of an object that it belongs to
    TargetKind(
        "atom_category",
        _atom_class_head,
        per_node=True,
        named_classes=True,
        activation=_softmax,
        loss=_class_loss,
        metrics=_segmentation_metrics,
    ),
)
