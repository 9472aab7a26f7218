import numpy as np
import pytest
from scipy.integrate import solve_ivp

from molformer.data import datasets
from molformer.data.datasets.nbody import (
    LARGEST_FORCE,
    SPEED,
    TIME_STEP,
    Particles,
    random_particles,
    simulate,
    trajectories,
)
from molformer.data.importing import import_dataset
from molformer.errors import InputError


def energy(state):
    """Kinetic and Coulomb energy of each system (n,)."""
    first, second = np.triu_indices(state.pos.shape[1], 1)
    distance = np.linalg.norm(state.pos[:, first] - state.pos[:, second], axis=-1)
    potential = (state.charges[:, first] * state.charges[:, second] / distance).sum(-1)
    return 0.5 * np.square(state.velocity).sum((1, 2)) + potential


def synchronised(particles):
    """The state with velocities at the time of the positions, half a step on: the energy is conserved for them."""
    ahead = simulate(particles, 1)
    return Particles(particles.charges, particles.pos, 0.5 * (particles.velocity + ahead.velocity))


def of_one_sign(particles):
    """All repel each other: there are no close encounters."""
    return Particles(np.ones_like(particles.charges), particles.pos, particles.velocity)


def test_energy_is_conserved():
    start = simulate(random_particles(300, np.random.default_rng(0)), 1)
    # Where charges of both signs meet more closely than a time step resolves, the published integrator fails.
    for particles, share in ((of_one_sign(start), 0.99), (start, 0.5)):
        before, after = (energy(synchronised(state)) for state in (particles, simulate(particles, 1000)))
        drift = np.abs(after - before) / np.abs(before).mean()
        assert np.quantile(drift, share) < 1e-5


def test_momentum_is_conserved_where_no_force_reaches_its_bound():
    start = of_one_sign(random_particles(20, np.random.default_rng(1)))
    end = simulate(start, 500)
    assert np.allclose(end.velocity.sum(1), start.velocity.sum(1), atol=1e-12)


def test_the_trajectory_is_that_of_an_accurate_integrator():
    start = of_one_sign(random_particles(1, np.random.default_rng(2)))

    def slope(_time, state):
        pos, velocity = state.reshape(2, 5, 3)
        between = pos[:, None] - pos
        distance = np.linalg.norm(between, axis=-1) + np.eye(5)
        return np.concatenate([velocity, (between / distance[..., None] ** 3).sum(1)]).ravel()

    state = np.concatenate([start.pos[0], start.velocity[0]]).ravel()
    exact = solve_ivp(slope, (0, 1.0), state, rtol=1e-10, atol=1e-10).y[:, -1].reshape(2, 5, 3)
    assert np.allclose(simulate(start, 1000).pos[0], exact[0], atol=5e-3)  # of first order in the time step


def test_a_force_is_bounded():
    close = Particles(np.array([[1.0, 1.0]]), np.array([[[0.0, 0, 0], [1e-3, 0, 0]]]), np.zeros((1, 2, 3)))
    assert np.allclose(simulate(close, 1).velocity[0, :, 0], [-TIME_STEP * LARGEST_FORCE, TIME_STEP * LARGEST_FORCE])


def test_the_start():
    start = random_particles(2000, np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(start.velocity, axis=-1), SPEED)
    assert abs(start.pos.std() - 1) < 0.02
    assert set(np.unique(start.charges)) == {-1, 1}
    assert abs(start.charges.mean()) < 0.05


def test_uniform_motion_errs_as_published():
    """0.0691 and 0.261 in Fuchs et al. 2020, table 1, on other systems of the same kind."""
    (now, later), *_ = trajectories(1000, seed=0, before=0, steps=1000)
    assert np.square(later.pos - now.pos - now.velocity).mean() == pytest.approx(0.0691, rel=0.15)
    assert np.square(later.velocity - now.velocity).mean() == pytest.approx(0.261, rel=0.15)


def test_import(tmp_path):
    store = import_dataset("nbody-paper", tmp_path / "set", count=12, seed=3).store
    assert len(store) == 12
    assert [label.kind for label in store.labels.values()] == ["atom_vector", "atom_vector"]
    assert store.column("features").shape == (60, 4)
    assert "seed 3" in store.manifest["source"]
    first = store[0]
    state = Particles(first.features[None, :, 3], first.pos[None], first.features[None, :, :3])
    later = simulate(state, 1000)
    assert np.allclose(first.pos + first.labels["displacement"], later.pos[0], atol=1e-3)
    assert np.allclose(first.features[:, :3] + first.labels["velocity_change"], later.velocity[0], atol=1e-3)
    again = import_dataset("nbody-paper", tmp_path / "again", count=12, seed=3).store
    other = import_dataset("nbody-paper", tmp_path / "other", count=12, seed=4).store
    assert again.manifest["sha256"] == store.manifest["sha256"] != other.manifest["sha256"]


def test_what_is_made_has_no_file_and_what_is_published_is_not_made(tmp_path):
    with pytest.raises(InputError, match="'nbody' is made, not read: it has no file"):
        import_dataset("nbody", tmp_path / "set", file=tmp_path / "nbody.zip")
    with pytest.raises(InputError, match="'nbody' is made, not read"):
        datasets.read("nbody", tmp_path)
    with pytest.raises(InputError, match="--count is for a data set that is made here, and 'qm9' is published"):
        import_dataset("qm9", tmp_path / "set", count=5)
    with pytest.raises(InputError, match="'qm9' is published, not made"):
        datasets.generate("qm9")
