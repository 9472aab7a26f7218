"""The shipped model `base`: an encoder pretrained on unlabelled molecules, with heads of GFN2-xTB properties.

    OMP_NUM_THREADS=1 python -m recipes.gfn2_labels MOSES DIVERSE -o build/gfn2 --count 60000
    molformer pretrain pretrain --data build/gfn2/gfn2.safetensors MOSES DIVERSE --sample 11700 --epochs 7
        --targets '[gfn2_homo,gfn2_lumo,gfn2_gap,gfn2_dipole,gfn2_atomization_energy,rdkit.MolLogP]' --run runs/base
    python -m recipes.base runs/base

MOSES and DIVERSE are lists of SMILES: that of MOSES, and the molecules of HIV, MUV and ToxCast. The labelling of the
weights that ship was ended after 10,000 molecules, and the bonds of hidden atoms were not yet hidden. The last command
writes the model folder of the package: its domain has the elements of the labelled molecules, fewer than those of the
lists, and its card the errors on the validation part.
"""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from molformer.inference import Predictor
from molformer.inference.models import FALLBACK, SHIPPED
from recipes.gfn2_labels import ELEMENTS


def main(
    run: Annotated[Path, typer.Argument(help="run folder of molformer pretrain")],
    output: Annotated[Path, typer.Option("--output", "-o", help="model folder to write")] = SHIPPED / FALLBACK,
) -> None:
    """Write the model folder of a run, with the domain of its labels and errors in its card."""
    predictor = Predictor.load(run, "cpu")
    model = predictor.model
    model.domain = replace(model.domain, elements=tuple(each for each in model.domain.elements if each in ELEMENTS))
    predictor.save_pretrained(output)
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    lines = ["| target | mean absolute error | root mean square error | unit |", "|---|---|---|---|"]
    for target in model.targets:
        errors = [f"{float(last[f'val/{target.name}/{measure}']):.3f}" for measure in ("mae", "rmse")]
        lines.append("| " + " | ".join([target.name, *errors, target.unit]) + " |")
    table = "\n".join(lines)
    lead = "# base: a pretrained encoder, with GFN2-xTB properties\n"
    title = "## Errors on the validation part\n\nIts molecules chose the best epoch, no weight was fitted to them.\n\n"
    card = (output / "README.md").read_text(encoding="utf-8")
    start, end = card.index("# SE(3)-Transformer"), card.index("## Errors on the test part")
    after = card.index("## Equivariance")
    body = card[start:end].split("\n", 1)[1].replace(str(run / "model"), FALLBACK).replace(str(run), FALLBACK)
    rest = card[after:].split("```sh")[0] + "Made as `recipes/base.py` says.\n"
    (output / "README.md").write_text(card[:start] + lead + body + title + table + "\n\n" + rest, encoding="utf-8")
    print(f"Wrote '{output}'\n{table}")


if __name__ == "__main__":
    typer.run(main)
