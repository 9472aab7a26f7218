import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import CalculatorSetupError, PropertyNotImplementedError
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from molformer.data.structure import Label
from molformer.errors import ConfigError
from molformer.inference import Predictor
from molformer.models import PropertyModel
from tests.helpers import moved, small_config, small_model
from tests.inference.conftest import WATER, springs


def water(calculator, pos=WATER):
    atoms = Atoms("OH2", pos)
    atoms.calc = calculator
    return atoms


def test_the_calculator_gives_the_numbers_of_the_predictor(force_model):
    predictor = Predictor(force_model)
    atoms = water(predictor.calculator())
    row = predictor.predict(atoms)[0]
    assert atoms.get_potential_energy() == pytest.approx(float(row["energy"]), abs=1e-6)
    assert np.allclose(atoms.get_forces(), row["forces"].value, atol=1e-6)
    assert np.allclose(atoms.get_dipole_moment() / units.Debye, row["dipole"].value, atol=1e-6)
    assert atoms.get_forces().dtype == np.float64


def test_units_are_those_of_ase(tmp_path):
    targets = [Label("E", "kcal/mol", "extensive"), Label("F", "kcal/mol/Å", "forces"), Label("q", "e", "charges")]
    predictor = Predictor(small_model(targets))
    atoms = water(predictor.calculator("float64"))
    row = predictor.predict(atoms, unit={"E": "eV", "F": "eV/Å"})[0]
    assert atoms.get_potential_energy() == pytest.approx(float(row["E"]), rel=1e-9)
    assert np.allclose(atoms.get_forces(), row["F"].value, atol=1e-9)
    assert np.allclose(atoms.get_charges(), row["q"].value, atol=1e-9)
    step = 1e-4 * np.eye(9)[4].reshape(3, 3)
    energies = [water(atoms.calc, WATER + sign * step).get_potential_energy() for sign in (1, -1)]
    assert atoms.get_forces()[1, 1] == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-5)


def test_stress_is_in_the_order_of_voigt():
    predictor = Predictor(small_model([Label("energy", "eV", "extensive"), Label("stress", "GPa", "stress")]))
    atoms = Atoms("OH2", WATER, cell=[[3.0, 0.2, 0.1], [0.4, 4.0, 0.3], [0.1, -0.3, 3.5]], pbc=True)
    atoms.calc = predictor.calculator("float64")
    full = predictor.predict(atoms, unit={"stress": "eV/Å^3"})["stress"].value
    expected = [full[0, 0], full[1, 1], full[2, 2], full[1, 2], full[0, 2], full[0, 1]]
    assert np.allclose(atoms.get_stress(), expected, atol=1e-12)
    assert np.abs(expected).min() > 0


def test_a_molecule_relaxes(force_model):
    atoms = water(Predictor(force_model).calculator("float64"), WATER + 0.05 * np.eye(3))
    assert BFGS(atoms, logfile=None).run(fmax=0.01, steps=100)
    distances = atoms.get_distance(0, 1), atoms.get_distance(0, 2), atoms.get_distance(1, 2)
    assert distances == pytest.approx([0.96, np.hypot(0.24, 0.93), np.hypot(1.2, 0.93)], abs=0.02)
    assert springs(atoms.positions)[0] < 0.02


def test_a_thousand_steps_of_dynamics_keep_the_energy(force_model):
    atoms = water(Predictor(force_model).calculator("float64"), 1.06 * WATER)  # stretched, so that it vibrates
    speeds = np.random.default_rng(0).standard_normal((3, 3))
    atoms.set_momenta(speeds * np.sqrt(units.kB * 300 * atoms.get_masses())[:, None])
    energies, kinetics = [], []
    dynamics = VelocityVerlet(atoms, timestep=0.25 * units.fs)
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()), interval=1)
    dynamics.attach(lambda: kinetics.append(atoms.get_kinetic_energy()), interval=1)
    dynamics.run(1000)
    times = 0.25e-3 * np.arange(len(energies))  # ps
    drift = 1e3 * np.polyfit(times, energies, 1)[0] / len(atoms)
    spread = 1e3 * np.ptp(energies) / len(atoms)
    print(f"1,000 steps of NVE: drift {drift:.3f} meV/atom/ps, largest change {spread:.3f} meV/atom")
    assert abs(drift) < 0.2
    exchanged = 1e3 * np.ptp(kinetics) / len(atoms)
    assert exchanged > 5.0
    assert spread < 0.02 * exchanged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_precision_is_that_which_was_asked_for(force_model, dtype):
    calculator = Predictor(force_model).calculator(dtype)
    assert {parameter.dtype for parameter in calculator.model.parameters()} == {getattr(torch, dtype)}
    assert {parameter.dtype for parameter in force_model.parameters()} == {torch.float32}


def test_what_cannot_be_computed_is_an_error_of_ase(force_model):
    calculator = Predictor(force_model).calculator()
    stranger = Atoms("OHF", WATER, calculator=calculator)
    with pytest.raises(CalculatorSetupError, match="has not seen F in training; it knows H, O"):
        stranger.get_potential_energy()
    lost = water(calculator)
    lost.positions[1, 0] = np.nan
    with pytest.raises(CalculatorSetupError, match="position of atom 2 is not a finite number"):
        lost.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        water(calculator).get_stress()
    with pytest.raises(PropertyNotImplementedError):
        water(calculator).get_charges()


def test_a_model_without_an_energy_is_no_calculator():
    model = moved(PropertyModel(small_config(), [Label("gap", "eV", "intensive")]))
    with pytest.raises(ConfigError, match=r"predicts gap \(intensive\): nothing that ASE asks"):
        Predictor(model).calculator()
    with pytest.raises(ConfigError, match="dtype is 'half'"):
        Predictor(small_model([Label("energy", "eV", "extensive")])).calculator("half")
