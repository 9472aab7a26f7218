"""Built-in kinds of targets.

An array of unknown kind in a file gets the first kind of its shape, so that the order matters.
Heads, losses and metrics are imported when a model is built: readers of files need kinds, but not torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from molformer.targets.kind import HeadOptions, TargetKind

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection

    from molformer.nn.readout import Head


def _heads() -> Any:
    from molformer.nn import readout

    return readout


def _moments() -> Any:
    from molformer.targets import moments

    return moments


def _class_head(options: HeadOptions) -> "Head":
    return _heads().ClassHead(options.channels, max(1, len(options.classes)), options.pooling, options.pool_first)


def _class_loss(logits: "Tensor", label: "Tensor", *_: object) -> "tuple[Tensor, Tensor]":
    from molformer.targets.losses import class_loss_sum

    return class_loss_sum(logits, label)


def _class_metrics(classes: Sequence[str], iou: bool = False) -> "MetricCollection":
    from molformer.targets.metrics import class_metrics

    return class_metrics(classes, iou)


BUILT_IN = (
    # a scalar independent of the size of the molecule, such as an orbital energy
    TargetKind("intensive", lambda o: _heads().ScalarHead(o.channels, o.pooling, o.pool_first), baseline="mean"),
    # a scalar that is a sum over atoms, such as a total energy
    TargetKind("extensive", lambda o: _heads().ExtensiveHead(o.channels), baseline="sum"),
    # a translation-invariant vector, such as a dipole
    TargetKind("vector", lambda o: _heads().VectorHead(o.channels), (3,), "1o"),
    # a symmetric rank-2 tensor, such as a polarizability
    TargetKind("tensor", lambda o: _moments().NonlocalTensorHead(o.channels), (3, 3), "0e + 2e", baseline="sum"),
    # the length of a translation-invariant vector, where its direction is not labelled
    TargetKind("vector_length", lambda o: _moments().VectorLengthHead(o.channels), reads=1),
    # a third of the trace of a symmetric rank-2 tensor, where nothing else of it is labelled
    TargetKind("isotropic_tensor", lambda o: _moments().IsotropicTensorHead(o.channels), baseline="sum", reads=1),
    # the electronic spatial extent ⟨r²⟩
    TargetKind("spatial_extent", lambda o: _moments().SpatialExtentHead(o.channels), baseline="moment", reads=1),
    # a scalar per atom, such as a chemical shift
    TargetKind("atom", lambda o: _heads().AtomHead(o.channels), per_node=True, baseline="element"),
    # the same where their sum is the total charge
    TargetKind("charges", lambda o: _heads().ChargesHead(o.channels), per_node=True, baseline="element"),
    # a vector per atom, such as a velocity or a displacement
    TargetKind(
        "atom_vector",
        lambda o: _heads().AtomVectorHead(o.channels, inputs=o.input_vectors),
        (3,),
        "1o",
        per_node=True,
    ),
    # minus the gradient of an energy, or predicted directly
    TargetKind(
        "forces",
        lambda o: _heads().AtomVectorHead(o.channels, balanced=True),
        (3,),
        "1o",
        per_node=True,
        derivative="position",
    ),
    # derivative of an energy with respect to strain over the volume; positive under tension, as in ASE
    TargetKind("stress", None, (3, 3), "0e + 2e", derivative="strain", periodic=True, voigt=True),
    # 0 or 1
    TargetKind("binary", _class_head, activation=lambda x: x.sigmoid(), loss=_class_loss, metrics=_class_metrics),
    # the index of one of several classes
    TargetKind(
        "category",
        _class_head,
        named_classes=True,
        activation=lambda x: x.softmax(-1),
        loss=_class_loss,
        metrics=_class_metrics,
    ),
    # the same for each atom or point, such as the part of an object that it belongs to
    TargetKind(
        "atom_category",
        lambda o: _heads().AtomClassHead(o.channels, len(o.classes)),
        per_node=True,
        named_classes=True,
        activation=lambda x: x.softmax(-1),
        loss=_class_loss,
        metrics=lambda classes: _class_metrics(classes, iou=True),
    ),
)
