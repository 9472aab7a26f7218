"""To and from PyTorch Geometric: `Data` with `z`, `pos`, `x`, `edge_index`, `batch`, `ptr`, `charge`,
`spin`, `cell`, `pbc`, `shift` and labels; the molecular graph is left out.

Both packages send messages along edge_index[0] → edge_index[1], our src → dst. PyTorch Geometric is the extra
`molformer[pyg]`, imported when a function here is called.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molformer.errors import InputError, extra
from molformer.graph import GraphBatch
from molformer.structure import Structure


def to_pyg(graph: GraphBatch | Structure) -> Any:
    """A batch of graphs, or one structure, as PyG `Data`, which shares its tensors; a batch has `batch` and `ptr`, as
    PyG's own `Batch` has.

    Raises:
        ConfigError: PyTorch Geometric is not installed.
        InputError: a label has the name of another attribute.
    """
    with extra("pyg", "PyTorch Geometric is not installed"):
        from torch_geometric.data import Data

    single = isinstance(graph, Structure)
    batch = GraphBatch.from_structures([graph]) if isinstance(graph, Structure) else graph
    edges = None if batch.src is None or batch.dst is None else torch.stack([batch.src, batch.dst])
    values = {"z": batch.numbers, "x": batch.features, "edge_index": edges}
    values |= {name: getattr(batch, name) for name in ("pos", "charge", "spin", "cell", "pbc", "shift")}
    values |= {} if single else {"batch": batch.batch, "ptr": batch.ptr}
    if taken := sorted(set(batch.labels) & {*values, "batch", "ptr"}):
        raise InputError(f"a label of the name '{taken[0]}' conflicts with the attribute of that name: rename it")
    return Data(**{name: value for name, value in values.items() if value is not None}, **batch.labels)


def from_pyg(data: Any, labels: Iterable[str] | None = None) -> GraphBatch:
    """Graphs of a PyG `Data` or `Batch`, edges sorted by dst and then by src; without `z` they are point clouds with
    atomic numbers 0. Attributes that are labels may be named; by default it is `y`, if there is one.

    Raises:
        InputError: there are no positions, a label is missing, or the nodes of a graph are not contiguous.
    """
    pos = data.get("pos")
    if pos is None or pos.ndim != 2 or pos.shape[1] != 3:
        raise InputError("these PyG data have no positions 'pos' (N, 3)")
    batch = data.get("batch")
    batch = torch.zeros(len(pos), dtype=torch.int64, device=pos.device) if batch is None else batch
    if len(batch) != len(pos) or (batch.diff() < 0).any():
        raise InputError("the nodes of each graph of the PyG data must be contiguous: sort them by 'batch'")
    ptr = data.get("ptr")
    if ptr is None:
        ptr = torch.cat([batch.new_zeros(1), batch.bincount().cumsum(0)])
    numbers, charge = data.get("z"), data.get("charge")
    names = [name for name in ("y",) if data.get(name) is not None] if labels is None else list(labels)
    missing = [name for name in names if data.get(name) is None]
    if missing:
        raise InputError(f"these PyG data have no label '{missing[0]}'")
    src = dst = shift = None
    if (edges := data.get("edge_index")) is not None:
        order = (edges[1] * len(pos) + edges[0]).argsort(stable=True)
        src, dst, shift = edges[0, order], edges[1, order], data.get("shift")
        shift = None if shift is None else shift[order]
    return GraphBatch(
        numbers=torch.zeros_like(batch) if numbers is None else numbers.long(),
        pos=pos,
        ptr=ptr,
        batch=batch,
        charge=pos.new_zeros(len(ptr) - 1) if charge is None else charge.to(pos.dtype).view(-1),
        src=src,
        dst=dst,
        labels={name: torch.as_tensor(data.get(name)) for name in names},
        features=data.get("x"),
        cell=data.get("cell"),
        pbc=data.get("pbc"),
        shift=shift,
        spin=data.get("spin"),
    )


def structure_from_pyg(data: Any, labels: Iterable[str] | None = None, name: str = "") -> Structure:
    """One molecule or cloud of a PyG `Data`, see `from_pyg`, without edges; a label (1, …) loses its first axis.

    Raises:
        InputError: see `from_pyg`, or the data have several graphs.
    """
    batch = from_pyg(data, labels)
    if batch.num_graphs != 1:
        raise InputError(f"these PyG data have {batch.num_graphs} graphs: use from_pyg")
    values = {key: _array(value) for key, value in batch.labels.items()}
    return Structure(
        _array(batch.numbers),
        _array(batch.pos),
        charge=round(batch.charge.item()),
        spin=1 if batch.spin is None else int(batch.spin),
        cell=_array(batch.cell)[0] if batch.cell is not None and batch.cell.any() else None,
        pbc=(True, True, True) if batch.pbc is None else tuple(batch.pbc[0].tolist()),
        features=None if batch.features is None else _array(batch.features),
        name=name,
        labels={
            key: value[0] if value.shape[:1] == (1,) and len(batch.pos) > 1 else value for key, value in values.items()
        },
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
