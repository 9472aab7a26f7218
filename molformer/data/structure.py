"""Earlier import path of `Structure` and `Label`."""

from molformer.structure import Structure as Structure
from molformer.targets import Label as Label
