"""Data sets of quantum chemistry: QM9, QM7, MD17 and its revision."""

from molformer.data.datasets.dataset import DataSet, RemoteFile, read_by_suffix
from molformer.data.datasets.qm7 import read_qm7
from molformer.data.datasets.qm9 import LABELS as QM9_LABELS
from molformer.data.datasets.qm9 import UNCHARACTERIZED, read_qm9
from molformer.targets import Label

_FIGSHARE = "https://ndownloader.figshare.com/files/"
_GDML = "http://www.quantum-machine.org/gdml/data/npz/"
_TRAJECTORY = (Label("energy", "kcal/mol", "extensive"), Label("forces", "kcal/mol/Å", "forces"))

_MD17 = {
    "aspirin": "md17_aspirin.npz",
    "azobenzene": "azobenzene_dft.npz",
    "benzene": "md17_benzene2017.npz",
    "ethanol": "md17_ethanol.npz",
    "malonaldehyde": "md17_malonaldehyde.npz",
    "naphthalene": "md17_naphthalene.npz",
    "paracetamol": "paracetamol_dft.npz",
    "salicylic": "md17_salicylic.npz",
    "toluene": "md17_toluene.npz",
    "uracil": "md17_uracil.npz",
}

_RMD17 = {  # figshare file, bytes, MD5: article 12672038
    "aspirin": (62265757, 153_601_803, "17fd6fb69066888613f7e16b358a7553"),
    "azobenzene": (62265754, 175_180_782, "be79df918468eb3579aa73a0becf7390"),
    "benzene": (62265739, 88_801_794, "18c9242bc90fbf28215f6dd81e650f16"),
    "ethanol": (62265733, 67_201_791, "eb837fb8deb27d4e0d52f71a03aff776"),
    "malonaldehyde": (62265736, 67_201_791, "cdc1d70c0c34062ddde6e5071eb6fe21"),
    "naphthalene": (62265751, 132_001_800, "0efba19c9907e3852318b1e6008b3b9e"),
    "paracetamol": (62265760, 146_401_802, "ba10784f7b67635427085f6d7ec2dd97"),
    "salicylic": (62265748, 117_601_798, "900fedf242da438400fa4293348d7dd1"),
    "toluene": (62265742, 110_401_797, "0f2913d51f8149c90ab28d697a076f64"),
    "uracil": (62265745, 88_801_794, "992a4479c28a07e0cce6da964805be31"),
}

_QM9 = DataSet(
    name="qm9",
    title="133,885 molecules of up to nine C, N, O and F: geometries and 15 properties, B3LYP/6-31G(2df,p)",
    files=(
        RemoteFile(
            "dsgdb9nsd.xyz.tar.bz2", (f"{_FIGSHARE}3195389",), 86_144_227, md5="ad1ebd51ee7f5b3a6e32e974e5d54012"
        ),
        RemoteFile(UNCHARACTERIZED, (f"{_FIGSHARE}3195404",), 486_752, md5="a361887bacb427b8a0ce7903d92a53b4"),
    ),
    labels=QM9_LABELS,
    licence="CC0 1.0",
    citation="Ramakrishnan et al. 2014, Scientific Data 1, 140022, doi 10.1038/sdata.2014.22",
    reader=read_qm9,
)

_QM7 = DataSet(
    name="qm7",
    title="7,165 molecules of up to seven C, N, O and S: atomization energies, PBE0",
    files=(RemoteFile("qm7.mat", ("http://quantum-machine.org/data/qm7.mat",)),),
    labels=(Label("atomization_energy", "kcal/mol", "extensive"),),
    licence="use and redistribution permitted with citation of both papers",
    citation="Blum and Reymond 2009, doi 10.1021/ja902302h; Rupp et al. 2012, doi 10.1103/PhysRevLett.108.058301",
    reader=read_qm7,
)

QUANTUM = (
    _QM9,
    _QM7,
    *(
        DataSet(
            name=f"md17/{molecule}",
            title=f"molecular dynamics of {molecule}: energies and forces, PBE+vdW-TS",
            files=(RemoteFile(filename, (f"{_GDML}{filename}",)),),
            labels=_TRAJECTORY,
            licence="not stated by the publisher",
            citation="Chmiela et al. 2017, Science Advances 3, e1603015, doi 10.1126/sciadv.1603015",
            reader=read_by_suffix,
        )
        for molecule, filename in _MD17.items()
    ),
    *(
        DataSet(
            name=f"rmd17/{molecule}",
            title=f"100,000 frames of md17/{molecule}, recomputed: energies and forces, PBE/def2-SVP",
            files=(RemoteFile(f"rmd17_{molecule}.npz", (f"{_FIGSHARE}{number}",), size, md5=md5),),
            labels=_TRAJECTORY,
            licence="CC0 1.0",
            citation="Christensen and von Lilienfeld 2020, doi 10.1088/2632-2153/abba6f, who ask not to train on more "
            "than 1,000 frames",
            reader=read_by_suffix,
        )
        for molecule, (number, size, md5) in _RMD17.items()
    ),
)
