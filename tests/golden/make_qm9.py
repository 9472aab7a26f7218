"""Writes what the shipped model predicts: `python -m tests.golden.make_qm9`. Run only when another model ships."""

import json
from pathlib import Path

import molformer

ROOT = Path(__file__).parents[2]
FILES = ("data/examples/paracetamol.xyz", "tests/golden/ethanol.xyz", "tests/golden/water.xyz")


def main() -> None:
    model = molformer.load("qm9", device="cpu")
    found = {}
    for file in FILES:
        (row,) = model.predict(str(ROOT / file))
        found[file] = {name: [round(float(value.value), 5), value.unit] for name, value in row.values.items()}
    (ROOT / "tests" / "golden" / "qm9.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
