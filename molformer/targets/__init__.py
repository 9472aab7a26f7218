"""Kinds of targets: shape, symmetry, readout, loss, metrics and tables.

`register` adds a kind; docs/extending/targets.md shows how.
"""

from molformer.targets.kind import HeadOptions, TargetKind
from molformer.targets.label import Label, bounds_of
from molformer.targets.registry import kind_names, kind_of, register
