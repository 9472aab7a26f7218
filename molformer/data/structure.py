"""`Structure` and `Label`, where code written for earlier versions looks for them."""

from molformer.structure import Structure as Structure
from molformer.targets import Label as Label
