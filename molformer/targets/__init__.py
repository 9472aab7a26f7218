"""Kinds of targets: what a value is, how a model forms it, and how it is trained, measured and written.

`register` adds a kind; docs/extending_targets.md shows how.
"""

from molformer.targets.kind import HeadOptions, TargetKind
from molformer.targets.label import Label
from molformer.targets.registry import kind_names, kind_of, register
