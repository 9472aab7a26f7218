"""Atomic contributions to predicted scalars.

A scalar of a graph is read out as a sum over its atoms, with a reference value for each element; for intensive targets
the sum has weights that sum to 1; to the length of a vector, an atom contributes the component of its own vector along
it. What descriptors of the molecule add is shared equally. The decomposition is learned by the model and is not an
observable.
Letters: n atoms.
"""

from typing import Any

import numpy as np
import torch

from molformer.graph import GraphBatch
from molformer.inference.batches import BatchRunner
from molformer.inference.sources import structure_of
from molformer.nn.readout import AtomHead, ChargesHead, ExtensiveHead, ScalarHead
from molformer.targets.moments import VectorLengthHead


def contributions(runner: BatchRunner, molecule: Any, references: bool = True) -> dict[str, np.ndarray]:
    """Contributions of the atoms in the first model of a predictor; see `Predictor.contributions`."""
    model = runner.models[0]
    structure = structure_of(runner, molecule)
    weight = model.encoder.species.weight
    found = {}
    with torch.no_grad():
        graph = GraphBatch.from_structures([structure], weight.dtype).to(weight.device)
        x = model.encoder(graph).to(weight.dtype)
        joined = {} if model.descriptors is None else model.descriptors(x, graph)
        for name in model.predicted:
            head = model.head(name)
            if isinstance(head, AtomHead | ChargesHead):
                found[name] = head(x, graph)
            elif isinstance(head, ExtensiveHead | ScalarHead | VectorLengthHead):
                share = 1 / len(structure) if isinstance(head, ScalarHead) else 1
                of_elements = share * head.references[graph.numbers] if references else 0
                of_molecule = head.scale * joined.get(name, 0.0) / len(structure)
                found[name] = head.parts(x, graph) + of_elements + of_molecule
    return {name: values.cpu().numpy() for name, values in found.items()}
