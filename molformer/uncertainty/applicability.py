"""Applicability domain: elements, inputs, sizes, charges and multiplicities of the training set."""

from collections.abc import Sequence

import numpy as np

from molformer.elements import SYMBOLS
from molformer.errors import InputError, UnsupportedElementError
from molformer.models.config import SE3TransformerConfig
from molformer.models.domain import Domain
from molformer.models.property import PropertyModel
from molformer.structure import Structure
from molformer.uncertainty.calibration import Calibration
from molformer.uncertainty.difficulty import geometry_family

TOO_MANY = 1.5
"""Ratio to the largest number of atoms in the training set, above which a structure is out of domain."""


def unsupported(domain: Domain, structure: Structure, name: str) -> UnsupportedElementError | None:
    """The error of a structure with an element that is not in the training set; None if there is none."""
    unseen = sorted(set(structure.numbers.tolist()) - set(domain.elements)) if domain.elements else []
    if not unseen:
        return None
    return UnsupportedElementError(
        f"{name}: the model has not seen {', '.join(SYMBOLS[number] for number in unseen)} in training; "
        f"it knows {', '.join(SYMBOLS[number] for number in domain.elements)}"
    )


def known(model: PropertyModel, calibration: Calibration | None) -> str:
    """Elements, charges and sizes of the training set, in short; empty if unknown."""
    domain, implicit = model.domain, model.config.hydrogens == "implicit"
    if not domain.elements:
        return ""
    elements = ", ".join(SYMBOLS[number] for number in (*[1] * implicit, *domain.elements))
    sizes = f"; up to {domain.max_atoms} {'heavy ' * implicit}atoms" if domain.max_atoms else ""
    charges = calibration.charges if calibration is not None else ()
    charged = "; neutral" if set(charges) == {0} else f"; charges {_listed(charges)}" * bool(charges)
    return f"{elements}{charged}{sizes}"


def lacks_inputs(config: SE3TransformerConfig, structure: Structure, name: str) -> InputError | None:
    """The error of a structure without the input features that the model needs; None if it has them."""
    if config.input_edge_scalars:
        return InputError(
            f"{name}: the model takes {config.input_edge_scalars} scalars of each edge, which only a `GraphBatch` can "
            "give: call the model itself"
        )
    needed = 3 * config.input_vectors + config.input_scalars
    there = 0 if structure.features is None else structure.features.shape[1]
    if there >= needed:
        return None
    return InputError(
        f"{name}: the model takes {needed} features of each atom or point ({config.input_vectors} vectors, "
        f"{config.input_scalars} scalars), and this structure has {there}"
    )


def outside(domain: Domain, calibration: Calibration | None, structure: Structure) -> list[str]:
    """Reasons why a structure is out of domain, apart from elements and distance, each the end of a sentence."""
    found = []
    if structure.descriptors is not None and np.isnan(structure.descriptors).all():
        found.append("it has no SMILES, of which the model takes descriptors")
    if domain.max_atoms and len(structure) > TOO_MANY * domain.max_atoms:
        found.append(f"it has {len(structure)} atoms, the largest of the training set has {domain.max_atoms}")
    if calibration is None:
        return found
    if calibration.charges and structure.charge not in calibration.charges:
        found.append(
            f"its charge is {structure.charge:+d}, those of the training set are {_listed(calibration.charges)}"
        )
    if calibration.spins and structure.spin not in calibration.spins:
        found.append(
            f"its multiplicity is {structure.spin}, those of the training set are {_listed(calibration.spins, '')}"
        )
    return found


def untrained_geometry(domain: Domain, structure: Structure) -> list[str]:
    """As `outside`, the reason why a geometry of GFN2-xTB is unlike those of the training set, if it is."""
    known = [geometry.partition(",")[0] for geometry in domain.geometries]
    if "gfn2" not in structure.geometry or not known or any(geometry.endswith("gfn2") for geometry in known):
        return []
    return [f"it is relaxed by GFN2-xTB, and the model was trained with geometries of {', '.join(known)}"]


def same_geometry_family(calibration: Calibration, structure: Structure) -> bool:
    """Whether the intervals were calibrated on geometries of the same family as that of the structure."""
    families = {geometry_family(geometry) for geometry in calibration.geometries}
    return not families or geometry_family(structure.geometry) in families


def _listed(values: Sequence[int], sign: str = "+") -> str:
    return ", ".join(f"{value:{sign}d}" if value else "0" for value in values)
