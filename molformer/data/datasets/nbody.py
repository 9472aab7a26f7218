"""Trajectories of charged particles, generated: the first experiment of the SE(3)-Transformer.

Particles of unit mass and charge q = ±1 repel or attract each other, F_i = Σ_j q_i q_j (r_i - r_j) / |r_i - r_j|³, each
component bounded. Constants are those of Kipf et al. 2018 (arXiv 1802.04687) in three dimensions; the predicted part of
a trajectory is that of Fuchs et al. 2020 (arXiv 2006.10503) and of Satorras et al. 2021 (arXiv 2102.09844).
Letters: n systems, p particles of each, P = p (p-1) / 2 pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from molformer.data.datasets.dataset import DataSet
from molformer.data.readers import Entry
from molformer.structure import Structure
from molformer.targets import Label

PARTICLES = 5
SPREAD = 1.0  # standard deviation of each coordinate at the start
SPEED = 0.5  # of every particle at the start
TIME_STEP = 0.001
LARGEST_FORCE = 100.0  # bound of each component of a force, reached at distances below about 0.1

DISPLACEMENT = Label("displacement", "", "atom_vector")
VELOCITY_CHANGE = Label("velocity_change", "", "atom_vector")

_CHUNK = 1000  # systems that are simulated together: their arrays stay in the cache


@dataclass(frozen=True, eq=False)
class Particles:
    """State of n systems of p particles."""

    charges: np.ndarray  # ±1 (n, p)
    pos: np.ndarray  # positions (n, p, 3)
    velocity: np.ndarray  # of each particle (n, p, 3)


def random_particles(count: int, generator: np.random.Generator) -> Particles:
    """Initial states: normally distributed positions, random directions of motion and charges."""
    pos = SPREAD * generator.standard_normal((count, PARTICLES, 3))
    velocity = generator.standard_normal((count, PARTICLES, 3))
    velocity *= SPEED / np.linalg.norm(velocity, axis=-1, keepdims=True)
    return Particles(generator.choice([-1.0, 1.0], size=(count, PARTICLES)), pos, velocity)


def simulate(start: Particles, steps: int) -> Particles:
    """The systems `steps` time steps later.

    One step is v ← v + F(r) Δt, r ← r + v Δt, as in the published simulators. It is a leapfrog whose velocities belong
    to half a step before the positions, and conserves energy but for close encounters.

    Example:
        >>> start = random_particles(2, np.random.default_rng(0))
        >>> bool(np.allclose(simulate(start, 1).pos, start.pos + TIME_STEP * simulate(start, 1).velocity))
        True
    """
    # Systems stand last, so that every operation runs over long rows.
    pos, velocity = (np.ascontiguousarray(x.transpose(2, 1, 0)) for x in (start.pos, start.velocity))  # (3, p, n)
    first, second = np.triu_indices(pos.shape[1], 1)
    products = start.charges.T[first] * start.charges.T[second]  # (P, n)
    signs = np.zeros((pos.shape[1], len(first)))  # of the force of a pair on each particle
    signs[first, np.arange(len(first))], signs[second, np.arange(len(first))] = 1.0, -1.0
    for _ in range(steps):
        between = pos[:, first] - pos[:, second]  # (3, P, n)
        square = np.square(between).sum(0)
        forces = signs @ (between * (products / (square * np.sqrt(square))))  # (3, p, n)
        velocity += TIME_STEP * np.clip(forces, -LARGEST_FORCE, LARGEST_FORCE, out=forces)
        pos += TIME_STEP * velocity
    return Particles(start.charges, pos.transpose(2, 1, 0).copy(), velocity.transpose(2, 1, 0).copy())


def trajectories(count: int, seed: int, before: int, steps: int) -> Iterator[tuple[Particles, Particles]]:
    """States of systems `before` time steps after their start, and those `steps` later, some systems at a time."""
    for first in range(0, count, _CHUNK):
        generator = np.random.default_rng([seed, first])
        now = simulate(random_particles(min(_CHUNK, count - first), generator), before)
        yield now, simulate(now, steps)


def _generate(before: int, steps: int, count: int, seed: int) -> Iterator[Entry]:
    number = 0
    for now, later in trajectories(count, seed, before, steps):
        displacement, change = later.pos - now.pos, later.velocity - now.velocity
        inputs = np.concatenate([now.velocity, now.charges[..., None]], axis=-1)
        for row in range(len(now.pos)):
            number += 1
            structure = Structure(
                np.zeros(PARTICLES, dtype=np.int64),
                now.pos[row],
                features=inputs[row],
                labels={DISPLACEMENT.name: displacement[row], VELOCITY_CHANGE.name: change[row]},
            )
            yield Entry(f"system {number}", structure=structure)


def _data_set(name: str, before: int, count: int, citation: str) -> DataSet:
    return DataSet(
        name=name,
        title=f"{count:,} systems of {PARTICLES} charged particles, 1,000 steps from step {before:,}: made here. "
        "Features: velocity (a vector), charge (a number)",
        labels=(DISPLACEMENT, VELOCITY_CHANGE),
        licence="none needed",
        citation=citation,
        generate=lambda count, seed: _generate(before, 1000, count, seed),
        count=count,
    )


NBODY = (
    # 3,000 systems for training, 2,000 each for validation and test. The published frames 30 and 40 are steps 3,100
    # and 4,100: frame 0 holds step 100. Least squares of the displacement on the velocity has a published error of
    # 0.0819 there, and 0.086 on 4,000 systems here.
    _data_set("nbody", 3100, 7000, "setting of Satorras et al. 2021, arXiv 2102.09844"),
    # Uniform motion has published errors of 0.0691 (positions) and 0.261 (velocities); 0.073 and 0.259 here.
    _data_set("nbody-paper", 0, 11000, "setting of Fuchs et al. 2020, arXiv 2006.10503"),
)
