"""`molformer data import`, `list`, `info` and `split`: structure stores."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from molformer.cli.app import BAR, app, check_output, console, new_table
from molformer.errors import InputError

data_app = typer.Typer(help="Create, inspect and split structure stores.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
_FRACTIONS = (0.8, 0.1, 0.1)


@data_app.command("import")
def import_(
    inputs: Annotated[list[str], typer.Argument(help="SMILES, files, folders, or the name of a known data set.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Store to write.")],
    target: Annotated[
        list[str], typer.Option("--target", "-t", help="Label to import: NAME, NAME=KIND or NAME=KIND,UNIT.")
    ] = [],  # noqa: B006 - typer copies it
    smiles_column: Annotated[str, typer.Option(help="SMILES column of a table; detected by default.")] = "",
    delimiter: Annotated[str, typer.Option(help="Field delimiter of a table; detected by default.")] = "",
    salts: Annotated[str, typer.Option(help="SMILES of several fragments: refuse, largest or keep.")] = "refuse",
    censored: Annotated[str, typer.Option(help="Values such as >5: bounds, or refuse their rows.")] = "bounds",
    source_file: Annotated[Path | None, typer.Option("--from", help="Local file of a known data set.")] = None,
    conformers: Annotated[
        str, typer.Option(help="Conformers: given, etkdg, etkdg+mmff or etkdg+mmff+gfn2.")
    ] = "etkdg+mmff",
    seed: Annotated[int, typer.Option(help="Random seed of conformers and of generated data sets.")] = 7,
    count: Annotated[int, typer.Option(help="Number of structures of a generated data set; 0 for its default.")] = 0,
    add_hydrogens: Annotated[
        bool, typer.Option("--add-hydrogens", help="Add missing hydrogens to 3-D SDF, MOL2 and PDB.")
    ] = False,
    bonds: Annotated[str, typer.Option(help="given, or perceive them for 3-D molecules without.")] = "given",
    points: Annotated[int, typer.Option(help="Points sampled from a mesh.")] = 1024,
    processes: Annotated[int, typer.Option(help="Worker processes for conformers; -1 for all cores.")] = -1,
    cache: Annotated[bool, typer.Option(help="Cache geometries between imports.")] = True,
) -> None:
    """Import molecules or point clouds into a structure store.

    Every row ends in the store, or in STORE.rejected.csv with its number and the reason.
    """
    from molformer.data import datasets
    from molformer.data.conformers import ConformerPolicy
    from molformer.data.importing import cache_folder, import_dataset, import_inputs
    from molformer.data.labels import parse_targets
    from molformer.data.readers import ReadOptions
    from molformer.data.report import report_duplicates

    policy = ConformerPolicy(method=conformers, seed=seed, salts=salts)  # type: ignore[arg-type]
    workers = (os.cpu_count() or 1) if processes < 0 else processes
    geometries = cache_folder() / "geometries" if cache else None
    by_name = len(inputs) == 1 and inputs[0] in datasets.names()
    if (source_file is not None or count) and not by_name:
        option = "--count" if count else "--from"
        raise InputError(f"{option} is for a data set by its name; `molformer data list` names them")
    with Progress(*BAR, console=console, disable=not console.is_terminal) as bar:
        rows = bar.add_task("rows", total=None)

        def row() -> None:
            bar.advance(rows)

        def bytes_there(done: int, total: int | None) -> None:
            bar.update(rows, description=f"downloaded {done / 1e6:.0f} of {(total or 0) / 1e6:.0f} MB, rows")

        if by_name:
            result = import_dataset(
                inputs[0], output, source_file, policy, workers, row, geometries, bytes_there, count, seed
            )
        else:
            options = ReadOptions((), smiles_column, delimiter, points=points, seed=seed, add_hydrogens=add_hydrogens)
            options = replace(options, targets=parse_targets(target, inputs, options), bonds=bonds)
            options = replace(options, censored=censored)  # type: ignore[arg-type]
            result = import_inputs(inputs, output, options, policy, workers, progress=row, cache=geometries)
    console.print(f"Wrote {len(result.store)} structures to {result.store.path}")
    if result.record is not None:
        console.print(f"Rejected {result.rejected} rows, each with its reason in {result.record}")
    report_duplicates(result.store, list(result.store.labels.values()))


@data_app.command("list")
def list_() -> None:
    """List the public data sets that can be imported by name."""
    from molformer.data import datasets

    table = new_table("name", "licence", "what it is")
    for name in datasets.names():
        dataset = datasets.info(name)
        table.add_row(name, dataset.licence, dataset.title)
    console.print(table)


@data_app.command()
def info(
    store: Annotated[Path, typer.Argument(help="A structure store.")],
    verify: Annotated[bool, typer.Option("--verify", help="Verify the hash of the content.")] = False,
) -> None:
    """Summarise a store: counts, elements, labels and missing values."""
    from molformer.data.store import StructureStore
    from molformer.data.summary import describe, describe_labels

    opened = StructureStore(store)
    if verify:
        opened.verify()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for heading, text in describe(opened):
        facts.add_row(heading, text)
    console.print(facts)
    if opened.labels:
        headings = ("label", "unit", "kind", "missing", "mean", "lowest", "spread", "highest")
        table = new_table(*headings, right=headings[3:6], padding=(0, 1, 0, 0))
        for row in describe_labels(opened):
            table.add_row(*row)
        console.print(table)
    if verify:
        console.print("The content agrees with its hash.")


@data_app.command()
def split(
    store: Annotated[Path, typer.Argument(help="A structure store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    by: Annotated[str, typer.Option(help="auto, random, scaffold or stratified.")] = "random",
    fractions: Annotated[tuple[float, float, float], typer.Option(help="Training, validation, test.")] = _FRACTIONS,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    label: Annotated[str, typer.Option(help="Label of a stratified split.")] = "",
    folds: Annotated[int, typer.Option(help="Number of folds of a cross-validation; 0 for none.")] = 0,
    fold: Annotated[int, typer.Option(help="Index of the test fold, from 0.")] = 0,
) -> None:
    """Split a store; train on the result with --split_by file --split_file FILE."""
    from molformer.data.splits import SplitPolicy, make_split, write_split
    from molformer.data.store import StructureStore

    check_output(output)
    policy = SplitPolicy(by, fractions, seed, label, folds=folds, fold=fold)  # type: ignore[arg-type]
    parts = make_split(StructureStore(store), policy)
    write_split(parts, output)
    console.print(f"Wrote {output}: training {len(parts.train)}, validation {len(parts.val)}, test {len(parts.test)}")
