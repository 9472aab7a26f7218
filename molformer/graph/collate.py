"""From structures to the tensors of a `GraphBatch`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from molformer.errors import InputError

if TYPE_CHECKING:
    from molformer.structure import Structure


def collate(structures: Sequence["Structure"], dtype: torch.dtype) -> dict[str, Any]:
    """The fields of a batch, by name; labels that the first structure has are taken from all of them.

    Raises:
        InputError: the structures' features differ in width.
    """
    sizes = np.array([len(structure) for structure in structures])
    labels = {}
    for name, first in structures[0].labels.items():
        values = [structure.labels[name] for structure in structures]
        per_node = first.shape[:1] == (sizes[0],) and all(
            value.shape[:1] == (size,) for value, size in zip(values, sizes, strict=True)
        )
        labels[name] = torch.from_numpy(np.concatenate(values) if per_node else np.stack(values))
    known = next((each.descriptors for each in structures if each.descriptors is not None), np.zeros(0))
    rows = [np.full_like(known, np.nan) if each.descriptors is None else each.descriptors for each in structures]
    return dict(
        numbers=torch.from_numpy(np.concatenate([structure.numbers for structure in structures])),
        pos=torch.from_numpy(np.concatenate([structure.near_origin() for structure in structures])).to(dtype),
        ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(sizes)])),
        batch=torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        charge=torch.tensor([structure.charge for structure in structures], dtype=dtype),
        labels=labels,
        features=_features(structures, dtype),
        spin=torch.tensor([structure.spin for structure in structures]),
        descriptors=torch.from_numpy(np.stack(rows)) if len(known) else None,
        **_cells(structures, dtype),
        **_molecular_graphs(structures),
    )


def _cells(structures: Sequence["Structure"], dtype: torch.dtype) -> dict[str, Tensor]:
    if all(structure.cell is None for structure in structures):
        return {}
    cells = [np.zeros((3, 3)) if structure.cell is None else structure.cell for structure in structures]
    pbc = [(False,) * 3 if structure.cell is None else structure.pbc for structure in structures]
    return {"cell": torch.from_numpy(np.stack(cells)).to(dtype), "pbc": torch.tensor(pbc)}


def _molecular_graphs(structures: Sequence["Structure"]) -> dict[str, Tensor]:
    graphs = [structure.molecular_graph for structure in structures]
    first = next((graph for graph in graphs if graph is not None), None)
    if first is None:
        return {}
    whole = first.joined([graph or first.unknown(len(each)) for graph, each in zip(graphs, structures, strict=True)])
    return {name: torch.from_numpy(value) for name, value in vars(whole).items()}


def _features(structures: Sequence["Structure"], dtype: torch.dtype) -> Tensor | None:
    widths = {structure.features.shape[1] for structure in structures if structure.features is not None}
    if not widths:
        return None
    if len(widths) > 1:
        raise InputError(f"structures with {' and '.join(map(str, sorted(widths)))} features do not fit into one batch")
    missing = (np.full((len(structure), *widths), np.nan) for structure in structures)
    values = [
        none if structure.features is None else structure.features
        for structure, none in zip(structures, missing, strict=True)
    ]
    return torch.from_numpy(np.concatenate(values)).to(dtype)
