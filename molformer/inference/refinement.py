"""Refinement of generated geometries by the model's own displacements of the atoms, as in Uni-Mol+, arXiv 2303.16982.

A target `displacement` leads from a force-field geometry to the one that the labels were computed at. A few steps
pos ← pos + displacement(pos) end where the model predicts none. Letters: n atoms.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from molformer.data.readers import Entry
from molformer.errors import ConfigError
from molformer.inference.batches import BatchRunner, count_edges
from molformer.inference.request import DISPLACEMENT, is_displacement
from molformer.models.property import PropertyModel
from molformer.structure import Structure

STEPS = 3
"""Largest number of steps."""

LONGEST = 0.3
"""Largest displacement of an atom in a step, Å; a longer one shortens the whole step."""

CONVERGED = 0.005
"""Root mean square displacement of the atoms, Å, up to which a step is the last."""


def check_refines(models: Sequence[PropertyModel]) -> None:
    """Check that models predict displacements.

    Raises:
        ConfigError: one does not.
    """
    for model in models:
        if not any(map(is_displacement, model.targets)) or model.config.hydrogens == "implicit":
            raise ConfigError(
                f"geometry refined needs a model with a target {DISPLACEMENT}=atom_vector,Å; this one predicts "
                f"{', '.join(target.name for target in model.targets)}: choose geometry etkdg or xtb"
            )


def refined(runner: BatchRunner, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries in order, with refined geometries where these were generated from a SMILES.

    Raises:
        ConfigError: the models do not predict displacements.
    """
    check_refines(runner.models)
    for batch in runner.batches(entries):
        generated = [job for job in batch if job.structures and _is_rough(job.structures[0])]
        ends = iter(refine(runner, [structure for job in generated for structure in job.structures]))
        for job in batch:
            if job not in generated:
                yield job.entry
                continue
            first, *others = (next(ends) for _ in job.structures)
            yield replace(job.entry, structure=first, conformers=tuple(others))


def _is_rough(structure: Structure) -> bool:
    return structure.geometry.startswith("etkdg") and not structure.geometry.endswith("+refined")


def refine(runner: BatchRunner, structures: Sequence[Structure], steps: int = STEPS) -> list[Structure]:
    """Structures with refined positions.

    Args:
        runner: of models that predict displacements, of which the mean is taken.
        structures: with force-field geometries of molecules.
        steps: largest number of steps.
    """
    ends = list(structures)
    (target,) = filter(is_displacement, runner.models[0].targets)
    moving = list(range(len(ends)))
    for _ in range(steps):
        edges = [count_edges(ends[place], runner.cutoff) for place in moving]
        outputs = runner.outputs_of([ends[place] for place in moving], edges, [target])
        left = []
        for place, output in zip(moving, list(outputs), strict=True):
            step = np.mean([each.values[target.name] for each in output], axis=0)
            step = step * min(1.0, LONGEST / max(np.linalg.norm(step, axis=1).max(), 1e-9))
            ends[place] = replace(ends[place], pos=ends[place].pos + step)
            if np.sqrt(np.square(step).sum(1).mean()) > CONVERGED:
                left.append(place)
        moving = left
    return [replace(end, geometry=f"{end.geometry.partition(',')[0]}+refined") for end in ends]
