"""Makes the golden model folder and store: `python tests/golden/make.py`. Run only when a format changes on purpose.

What is in this folder was written by version 0.1.0; later versions must still read it and predict the same.
"""

import json
from pathlib import Path

import torch

from molformer.data.store import write_store
from molformer.data.structure import Label, Structure
from molformer.inference import Predictor
from molformer.models import Domain, PropertyModel, SE3TransformerConfig

FOLDER = Path(__file__).parent
WATER = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], name="water", labels={"gap": 9.0})
TARGETS = [
    Label("energy", "eV", "extensive"),
    Label("gap", "eV", "intensive"),
    Label("dipole", "D", "vector"),
    Label("charges", "e", "charges"),
    Label("forces", "eV/Å", "forces"),
]


def main() -> None:
    torch.manual_seed(0)
    config = SE3TransformerConfig(lmax=2, channels=4, num_layers=2, num_heads=2, basis_size=4, edge_features=4)
    model = PropertyModel(config, TARGETS, domain=Domain((1, 8), 3, ("given",)))
    for name in model.predicted:
        model.head(name).set_statistics(2.0, torch.linspace(-1, 1, 119), 3.0)
    model.save(FOLDER / "model")
    prediction = Predictor(model).predict(WATER)[0]
    values = {name: value.value.tolist() for name, value in prediction.values.items()}
    (FOLDER / "predictions.json").write_text(json.dumps(values, indent=1) + "\n")
    write_store(FOLDER / "store", [WATER], TARGETS, source="golden")


if __name__ == "__main__":
    main()
