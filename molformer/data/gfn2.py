"""Relaxation by GFN2-xTB (Bannwarth et al. 2019, doi 10.1021/acs.jctc.8b01176), which tblite runs: extra `xtb`."""

from dataclasses import replace
from importlib.util import find_spec

from molformer.errors import ConfigError, ConformerError
from molformer.structure import Structure

FMAX = 0.03
"""Largest force on an atom of a relaxed geometry, eV/Å."""

STEPS = 500
"""Steps after which a relaxation counts as not converged."""


def check_gfn2() -> None:
    """Check that tblite is there.

    Raises:
        ConfigError: it is not; the message says what to install.
    """
    if find_spec("tblite") is None:
        raise ConfigError("relaxation by GFN2-xTB needs tblite: pip install 'molformer[xtb]', or choose geometry etkdg")


def relax(structure: Structure) -> Structure:
    """The structure at the nearest minimum of GFN2-xTB.

    Args:
        structure: a molecule with a charge and multiplicity.

    Raises:
        ConfigError: tblite is not installed.
        ConformerError: the calculation fails; the message is the rest of a sentence that begins with the molecule.
    """
    check_gfn2()
    from ase import Atoms
    from ase.calculators.calculator import CalculatorError
    from ase.optimize import BFGS
    from tblite.ase import TBLite
    from tblite.exceptions import TBLiteRuntimeError

    atoms = Atoms(structure.numbers, structure.pos)
    atoms.calc = TBLite(method="GFN2-xTB", charge=structure.charge, multiplicity=structure.spin, verbosity=0)
    converged = True
    try:
        if len(atoms) > 1:
            converged = BFGS(atoms, logfile=None).run(fmax=FMAX, steps=STEPS)
    except (CalculatorError, TBLiteRuntimeError) as error:
        raise ConformerError(f"could not be relaxed by GFN2-xTB ({error}): choose geometry etkdg") from None
    made = f"{structure.geometry.partition(',')[0]}+gfn2{'' if converged else ', not converged'}"
    return replace(structure, pos=atoms.positions, geometry=made)
