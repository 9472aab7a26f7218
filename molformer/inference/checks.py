"""Numerical checks of a trained model: symmetry, batching, precision, smoothness and forces.

Every error is the largest change of a component, relative to the target's standard deviation. In exact arithmetic all
are zero; the limits allow for rounding and for finite differences.
Letters: n atoms.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from molformer.data.conformers import embed_smiles
from molformer.data.descriptors import with_inputs
from molformer.data.hydrogens import heavy_atoms
from molformer.graph import GraphBatch
from molformer.models.domain import Domain
from molformer.models.equivariance import equivariance_error
from molformer.models.property import PropertyModel
from molformer.models.targets import derivative_factor
from molformer.structure import Structure

SMILES = ("O", "CCO", "CC(N)=O", "Oc1ccccc1", "CS(=O)C", "FC(F)Cl")
"""Default molecules; those with elements outside the training set are skipped."""

LIMITS = {
    "equivariance, float32": 1e-3,
    "equivariance, float64": 1e-9,
    "permutation, float64": 1e-9,
    "alone or in a batch, float64": 1e-9,
    "float32 against float64": 1e-3,
    "smooth at the cutoff": 1e-4,
    "forces against finite differences": 1e-5,
}
"""Largest error of each check that passes."""

_STEP = 1e-5  # Å


@dataclass(frozen=True)
class Check:
    """Result of a check.

    Args:
        name: a key of `LIMITS`.
        target: name of the target.
        measured: largest change, relative to the target's scale.
    """

    name: str
    target: str
    measured: float

    @property
    def limit(self) -> float:
        """Largest error that passes."""
        return LIMITS[self.name]

    @property
    def passed(self) -> bool:
        """Whether the error is within the limit; False for NaN."""
        return self.measured <= self.limit


def check_model(model: PropertyModel, structures: Sequence[Structure] = ()) -> list[Check]:
    """Measure equivariance, permutation, batches, precision, smoothness and forces of a model.

    Args:
        model: is not changed; copies are evaluated on the CPU.
        structures: to evaluate; a few small molecules of the model's elements if empty.
    """
    model = deepcopy(model).cpu().eval()
    inputs, domain = 3 * model.config.input_vectors + model.config.input_scalars, model.domain
    if model.config.hydrogens == "implicit" and domain.elements:
        domain = replace(domain, elements=(1, *domain.elements))  # which the structures have before they lose them
    structures = [replace(each, labels={}) for each in structures or sample_structures(domain, inputs)]
    if model.config.hydrogens == "implicit":
        structures = [heavy_atoms(each) for each in structures if each.molecular_graph is not None]
    if wanted := model.descriptor_set:
        structures = [*with_inputs(wanted, structures)]
    if any(target.target_kind.periodic for target in model.targets) and not any(each.periodic for each in structures):
        width = 2.5 + np.ptp(structures[-1].pos)
        structures.insert(0, replace(structures[-1], cell=width * np.eye(3)))
    single, double = _with_dtype(model, torch.float32), _with_dtype(model, torch.float64)
    graph = GraphBatch.from_structures(structures, torch.float64)
    measured = {
        "equivariance, float32": equivariance_error(model, graph, torch.float32),
        "equivariance, float64": equivariance_error(model, graph, torch.float64),
        "permutation, float64": _permutation(double, structures),
        "alone or in a batch, float64": _alone(double, structures),
        "float32 against float64": _largest(double, _values(double, structures), _values(single, structures)),
        "smooth at the cutoff": _cutoff(double, structures[-1]),
    }
    if any(target.target_kind.derivative == "position" for target in model.derived):
        measured["forces against finite differences"] = _forces(double, structures[-1])
    return [Check(name, target, value) for name, by_target in measured.items() for target, value in by_target.items()]


def sample_structures(domain: Domain, inputs: int = 0) -> list[Structure]:
    """Small molecules of the elements of a domain, or random clusters of its atoms if none has only these.

    Args:
        domain: of a model.
        inputs: number of input features of each atom, which are random.
    """
    known = set(domain.elements)
    molecules = [embed_smiles(smiles) for smiles in SMILES]
    fitting = [molecule for molecule in molecules if not known or known.issuperset(molecule.numbers.tolist())]
    found = fitting or [_cluster(sorted(known), atoms, seed) for seed, atoms in enumerate((3, 6, 9))]
    if not inputs:
        return found
    generator = np.random.default_rng(0)
    return [replace(each, features=generator.standard_normal((len(each), inputs))) for each in found]


def _cluster(elements: Sequence[int], atoms: int, seed: int) -> Structure:
    """Atoms at random places at least 1 Å apart."""
    generator = np.random.default_rng(seed)
    places = np.zeros((1, 3))
    while len(places) < atoms:
        place = generator.uniform(-2.5, 2.5, 3)
        if np.linalg.norm(places - place, axis=1).min() > 1.0:
            places = np.vstack([places, place])
    return Structure(generator.choice(elements, atoms), places)


def _with_dtype(model: PropertyModel, dtype: torch.dtype) -> PropertyModel:
    copy = deepcopy(model)
    for parameter in copy.parameters():  # not the buffers: statistics are float64 in every model
        parameter.data = parameter.data.to(dtype)
    return copy


def _values(model: PropertyModel, structures: Sequence[Structure]) -> dict[str, Tensor]:
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        values = model(GraphBatch.from_structures(structures, dtype))
    return {name: value.detach().double() for name, value in values.items()}


def _largest(model: PropertyModel, one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of each target relative to its scale; values absent from both are ignored."""
    found = {}
    for target in model.targets:
        difference = (one[target.name] - other[target.name]).abs()
        absent = one[target.name].isnan() & other[target.name].isnan() & target.target_kind.periodic
        found[target.name] = float(difference.masked_fill(absent, 0.0).max()) / float(model.scale(target))
    return found


def _permutation(model: PropertyModel, structures: Sequence[Structure]) -> dict[str, float]:
    """Atoms of each structure in reverse order."""
    permuted = [each.select(np.arange(len(each))[::-1]) for each in structures]
    reference, reverse = _values(model, structures), _values(model, permuted)
    sizes = [len(each) for each in structures]
    for target in model.targets:
        if target.per_node:
            parts = reverse[target.name].split(sizes)
            reverse[target.name] = torch.cat([part.flip(0) for part in parts])
    return _largest(model, reference, reverse)


def _alone(model: PropertyModel, structures: Sequence[Structure]) -> dict[str, float]:
    """Each structure in a batch of its own."""
    alone = [_values(model, [each]) for each in structures]
    joined = {target.name: torch.cat([values[target.name] for values in alone]) for target in model.targets}
    return _largest(model, _values(model, structures), joined)


def _cutoff(model: PropertyModel, structure: Structure) -> dict[str, float]:
    """An additional atom whose distance to the nearest other one crosses the cutoff."""
    last = int(structure.pos[:, 0].argmax())

    def with_probe(distance: float) -> dict[str, Tensor]:
        place = structure.pos[last] + np.array([distance, 0.0, 0.0])
        numbers = np.append(structure.numbers, structure.numbers[last])
        features = None if structure.features is None else np.vstack([structure.features, structure.features[last]])
        probed = Structure(numbers, np.vstack([structure.pos, place]), charge=structure.charge, features=features)
        return _values(model, [probed])

    cutoff = model.config.cutoff
    return _largest(model, with_probe(cutoff - _STEP), with_probe(cutoff + _STEP))


def _forces(model: PropertyModel, structure: Structure) -> dict[str, float]:
    """Central differences of the energy along every coordinate."""
    target = next(target for target in model.derived if target.target_kind.derivative == "position")
    forces = _values(model, [structure])[target.name]
    shifts = _STEP * np.eye(structure.pos.size).reshape(-1, *structure.pos.shape)
    moved = [replace(structure, pos=structure.pos + sign * shift) for shift in shifts for sign in (1, -1)]
    energies = torch.cat([_values(model, [each])[model.potential.name] for each in moved]).view(-1, 2)
    factor = derivative_factor(model.potential, target)
    expected = -(energies[:, 0] - energies[:, 1]).view(forces.shape) / (2 * _STEP) * factor
    return {target.name: float((forces - expected).abs().max()) / float(model.scale(target))}
