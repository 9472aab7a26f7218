"""MoleculeNet: tables with a SMILES column (Wu et al. 2018, doi 10.1039/C7SC02664A), as DeepChem serves them.

Labels are the columns, by their own names.
"""

from functools import partial

from molformer.data.datasets.dataset import DataSet, RemoteFile, read_by_suffix
from molformer.targets import Label

_URL = "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/"
# fmt: off
_TOX21 = (
    "NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma", "SR-ARE", "SR-ATAD5",
    "SR-HSE", "SR-MMP", "SR-p53",
)
# fmt: on


def _set(name: str, title: str, filename: str, labels: tuple[Label, ...], citation: str) -> DataSet:
    return DataSet(
        name=f"moleculenet/{name}",
        title=title,
        files=(RemoteFile(filename, (_URL + filename,)),),
        labels=labels,
        licence="not stated by the publisher",
        citation=f"{citation}; Wu et al. 2018, doi 10.1039/C7SC02664A",
        reader=partial(read_by_suffix, smiles_column="mol" if name == "bace" else "smiles"),
    )


MOLECULENET = (
    _set(
        "esol",
        "1,128 molecules: measured solubility in water, log10 of mol/L",
        "delaney-processed.csv",
        (Label("measured log solubility in mols per litre", "", "intensive"),),
        "Delaney 2004, doi 10.1021/ci034243x",
    ),
    _set(
        "freesolv",
        "642 molecules: measured free energy of hydration",
        "SAMPL.csv",
        (Label("expt", "kcal/mol", "intensive"),),
        "Mobley and Guthrie 2014, doi 10.1007/s10822-014-9747-x",
    ),
    _set(
        "lipo",
        "4,200 molecules: measured distribution between octanol and water, log D at pH 7.4",
        "Lipophilicity.csv",
        (Label("exp", "", "intensive"),),
        "AstraZeneca, ChEMBL3301361",
    ),
    _set(
        "bace",
        "1,513 molecules: whether they inhibit human beta-secretase 1",
        "bace.csv",
        (Label("Class", "", "binary"),),
        "Subramanian et al. 2016, doi 10.1021/acs.jcim.6b00290",
    ),
    _set(
        "bbbp",
        "2,050 molecules: whether they pass the blood-brain barrier",
        "BBBP.csv",
        (Label("p_np", "", "binary"),),
        "Martins et al. 2012, doi 10.1021/ci300124c",
    ),
    _set(
        "tox21",
        "7,831 molecules: twelve measurements of toxicity",
        "tox21.csv.gz",
        tuple(Label(task, "", "binary") for task in _TOX21),
        "Tox21 Challenge 2014",
    ),
    _set(
        "clintox",
        "1,484 drugs: approved, and failed for their toxicity",
        "clintox.csv.gz",
        (Label("FDA_APPROVED", "", "binary"), Label("CT_TOX", "", "binary")),
        "Gayvert et al. 2016, doi 10.1016/j.chembiol.2016.07.023",
    ),
    _set(
        "hiv",
        "41,127 molecules: whether they inhibit the replication of HIV",
        "HIV.csv",
        (Label("HIV_active", "", "binary"),),
        "AIDS Antiviral Screen, NCI",
    ),
)
