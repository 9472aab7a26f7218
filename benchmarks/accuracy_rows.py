"""The rows of `benchmarks.accuracy`: data, config, measures, baselines, and what others published.

Published figures stand beside ours for orientation: `note` says how far the two can be compared. Sources:
BOTNet, NequIP, MACE, Allegro on acetylacetone and 3BPA: Batatia et al. 2022, arXiv 2206.07697, tables 2 and 3.
MoleculeNet by scaffold: D-MPNN, AttentiveFP as measured by Fang et al. 2022, doi 10.1038/s42256-021-00438-4; Uni-Mol:
Zhou et al. 2023, openreview 6K2RM6wVqKu. QM9: Fuchs et al. 2020, arXiv 2006.10503; PaiNN arXiv 2102.03150;
EquiformerV2 arXiv 2306.12059. ModelNet10: VoxNet, Maturana and Scherer 2015, doi 10.1109/IROS.2015.7353481.
"""

from dataclasses import dataclass

from benchmarks.measures import Measure

HARTREE = 27.211386245988  # eV
E_BOHR = 2.541746473  # D


@dataclass(frozen=True)
class Row:
    """One training run and what is printed of it.

    Args:
        title: of the data.
        file: in the folder of the data.
        config: in `configs/`.
        measures: each with the figures that others published, by the name of the method.
        targets: labels to import, as `molformer data import --target` takes them; all of the file if empty.
        overrides: `--key value` pairs on top of the config.
        baselines: names in `baselines.BASELINES`.
        note: what the published figures were measured on, and how ours differ.
        smiles_column: of a table.
    """

    title: str
    file: str
    config: str
    measures: dict[Measure, str]
    targets: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ("mean",)
    note: str = ""
    smiles_column: str = ""


def _forces(energy: str = "", energy_mae: str = "", forces: str = "", forces_mae: str = "") -> dict[Measure, str]:
    return {
        Measure("energy", "RMSE", "meV", 1000): energy,
        Measure("energy", "RMSE", "meV/atom", 1000, per_atom=True): "",
        Measure("energy", "MAE", "meV", 1000): energy_mae,
        Measure("forces", "RMSE", "meV/Å", 1000): forces,
        Measure("forces", "MAE", "meV/Å", 1000): forces_mae,
    }


_TENSOR = {
    Measure("alpha", "RMSE", "a0³"): "",
    Measure("alpha", "relative RMSE", "%", part="isotropic"): "",
    Measure("alpha", "relative RMSE", "%", part="anisotropic"): "",
}
_SCAFFOLD = (
    "scaffold split 80/10/10 as MoleculeNet defines it, one run; published: other implementations of that split, "
    "Uni-Mol pretrained on 209 million conformers"
)
_FRAMES = (
    "published: trained on all 500 frames (450 and 50 for validation), tested on the official test set of 300 K, "
    "which is not here; ours is tested on frames held out of the 500"
)


ROWS: dict[str, Row] = {
    "acac": Row(
        "acetylacetone, 300 K, DFT",
        "acac_train_300K.npz",
        "md17.yaml",
        _forces("BOTNet 0.89, NequIP 0.81, MACE 0.9", "", "BOTNet 6.3, NequIP 5.9, MACE 5.1"),
        overrides=("--split", "[400, 50, 50]"),
        note=_FRAMES,
    ),
    "3bpa": Row(
        "3BPA, 300 K, DFT",
        "3bpa_train_300K.npz",
        "md17.yaml",
        _forces(
            "Allegro 3.8, NequIP 3.3, BOTNet 3.1, MACE 3.0", "", "Allegro 13.0, NequIP 10.8, BOTNet 11.0, MACE 8.8"
        ),
        overrides=("--split", "[400, 50, 50]"),
        note=_FRAMES,
    ),
    "ethanol": Row(
        "MD17 ethanol, CCSD(T)",
        "md17_ethanol_ccsdt.npz",
        "md17.yaml",
        _forces(),
        overrides=("--split", "[800, 50, 150]"),
        note="published figures are of 1,000 training and 1,000 official test frames; the latter are not here",
    ),
    "qm9_homo": Row(
        "QM9, HOMO, 10,000 training molecules",
        "qm9.npz",
        "qm9_homo.yaml",
        {
            Measure("homo", "MAE", "meV", 1000 * HARTREE): (
                "with 110,000 training molecules: SE(3)-Transformer 35, PaiNN 28, EquiformerV2 14"
            )
        },
        targets=("homo",),
        baselines=("mean", "composition"),
        note="published: eleven times as many training molecules, and molecules with fluorine too",
    ),
    "dipoles": Row(
        "QM9, dipole vectors, MP2",
        "qm9_mp2_dipoles.npz",
        "dipoles.yaml",
        {Measure("dipole", "length", "D", E_BOHR): "", Measure("dipole", "RMSE", "D", E_BOHR): ""},
        targets=("dipole=vector,e·a0", "charges=charges,e"),
        baselines=("mean", "Mulliken charges"),
        note="no published figures of this subset",
    ),
    "water_monomer": Row(
        "water molecule, polarizability tensor",
        "water_monomer_tensors.xyz",
        "tensors.yaml",
        _TENSOR,
        targets=("alpha=tensor,a0^3",),
        overrides=("--split", "[800, 100, 100]"),
        baselines=("mean", "composition"),
        note="Grisafi et al. 2018, doi 10.1103/PhysRevLett.120.036002, show learning curves, no table",
    ),
    "water_dimer": Row(
        "water dimer, polarizability tensor",
        "water_dimer_tensors.xyz",
        "tensors.yaml",
        _TENSOR,
        targets=("alpha=tensor,a0^3",),
        overrides=("--split", "[800, 100, 100]"),
        baselines=("mean", "composition"),
        note="Grisafi et al. 2018, doi 10.1103/PhysRevLett.120.036002, show learning curves, no table",
    ),
    "esol": Row(
        "ESOL, log solubility",
        "delaney.csv",
        "table.yaml",
        {
            Measure("logp", "RMSE", "log10 mol/L"): "D-MPNN 1.05, AttentiveFP 0.88, Uni-Mol 0.79",
            Measure("logp", "MAE", "log10 mol/L"): "",
        },
        targets=("logp=intensive",),
        overrides=("--targets", "[logp]"),
        baselines=("mean", "composition", "random forest"),
        note=_SCAFFOLD,
    ),
    "freesolv": Row(
        "FreeSolv, hydration free energy",
        "freesolv.csv",
        "table.yaml",
        {
            Measure("freesolv", "RMSE", "kcal/mol"): "D-MPNN 2.08, AttentiveFP 2.07, Uni-Mol 1.48 (others cite 1.62)",
            Measure("freesolv", "MAE", "kcal/mol"): "",
        },
        targets=("freesolv=intensive,kcal/mol",),
        overrides=("--targets", "[freesolv]"),
        baselines=("mean", "composition", "random forest"),
        note=_SCAFFOLD,
    ),
    "lipo": Row(
        "Lipophilicity, log D",
        "lipo.csv",
        "table.yaml",
        {
            Measure("lipo", "RMSE", ""): "D-MPNN 0.68, AttentiveFP 0.72, Uni-Mol 0.60",
            Measure("lipo", "MAE", ""): "",
        },
        targets=("lipo=intensive",),
        overrides=("--targets", "[lipo]"),
        baselines=("mean", "composition", "random forest"),
        note=_SCAFFOLD,
    ),
    "bace": Row(
        "BACE, inhibition",
        "bace.csv",
        "classification.yaml",
        {Measure("Class", "ROC-AUC", "%"): "D-MPNN 80.9, AttentiveFP 78.4, Uni-Mol 85.7"},
        targets=("Class=binary",),
        overrides=("--targets", "[Class]"),
        baselines=("random forest",),
        note=_SCAFFOLD,
        smiles_column="mol",
    ),
    "modelnet10": Row(
        "ModelNet10, occupied cells of 30³ grids",
        "modelnet10_voxels_train.npz",
        "points.yaml",
        {
            Measure("class", "accuracy", "%", turned=True): "",
            Measure("class", "accuracy", "%"): "VoxNet 92, upright objects",
        },
        note=(
            "published: the official test set, which is not here, and objects that stand upright; ours is a part of "
            "the official training set, not rotated in training, with 64 points of an object"
        ),
    ),
}
"""By name, in the order of the table."""
