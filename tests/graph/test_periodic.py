from dataclasses import replace

import numpy as np
import pytest
import torch

from molformer.data.structure import Structure
from molformer.errors import TooLargeError
from molformer.graph import GraphBatch
from molformer.graph.periodic import count_periodic, periodic_edges
from molformer.models import SE3Transformer
from tests.helpers import moved, random_structure, small_config

CELL = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.5, 6.0]])


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_edges_are_those_of_ase(pbc):
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    structure = random_structure(7, cell=CELL, pbc=pbc)
    atoms = Atoms(structure.numbers, structure.pos, cell=CELL, pbc=pbc)
    dst, src, expected = neighbor_list("jiD", atoms, 4.5)
    graph = GraphBatch.from_structures([structure], torch.float64)
    ours_src, ours_dst, shift = periodic_edges(graph.pos, graph.ptr, graph.cell, graph.pbc, 4.5)
    vectors = graph.pos[ours_dst] - graph.pos[ours_src] + shift @ graph.cell[0]
    ours = {
        (s, d, *np.round(v, 6)) for s, d, v in zip(ours_src.tolist(), ours_dst.tolist(), vectors.numpy(), strict=True)
    }
    theirs = {(s, d, *np.round(v, 6)) for s, d, v in zip(src.tolist(), dst.tolist(), expected, strict=True)}
    assert ours == theirs
    assert len(ours_src) == len(src)
    assert (ours_dst.diff() >= 0).all()


@pytest.mark.parametrize("cell", [(5, 1000, 1000), (0.55, 300, 300), (0.6, 0.6, 9e3), (1e4, 1e4, 1e4)])
def test_thin_and_long_cells_have_the_edges_of_ase(cell):
    from ase import Atoms
    from ase.neighborlist import neighbor_list

    structure = random_structure(5, cell=np.diag(cell))
    theirs = neighbor_list("i", Atoms(structure.numbers, structure.pos, cell=cell, pbc=True), 4.5)
    assert count_periodic(structure.pos, structure.cell, np.ones(3, bool), 4.5) == len(theirs)
    graph = GraphBatch.from_structures([structure], torch.float64)
    assert len(periodic_edges(graph.pos, graph.ptr, graph.cell, graph.pbc, 4.5)[0]) == len(theirs)


def test_too_many_images_and_edges_are_refused_before_they_are_made(monkeypatch):
    pos, cell, pbc = torch.zeros(1, 3), torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(TooLargeError, match="images of a periodic structure"):
        periodic_edges(pos, torch.tensor([0, 1]), cell, pbc, 1e6)
    monkeypatch.setattr("molformer.graph.periodic.MOST_EDGES", 100)
    with pytest.raises(TooLargeError, match="edges of a periodic structure"):
        periodic_edges(pos, torch.tensor([0, 1]), cell, pbc, 5.0)


def test_a_molecule_far_flung_in_the_batch_of_a_crystal_is_as_alone():
    model = moved(SE3Transformer(small_config(cutoff=4.0))).double()
    crystal, molecule = random_structure(4, cell=CELL), Structure([6, 8, 1], [[0, 0, 0], [1.1, 0, 0], [9e3, 0, 0]])
    with torch.no_grad():
        both = model(GraphBatch.from_structures([crystal, molecule], torch.float64))
        alone = [model(GraphBatch.from_structures([each], torch.float64)) for each in (crystal, molecule)]
    assert torch.allclose(both, torch.cat(alone), atol=1e-10)


def test_a_supercell_gives_the_same_features():
    model = moved(SE3Transformer(small_config(cutoff=4.0))).double()
    unit = random_structure(4, cell=CELL)
    double = Structure(
        np.tile(unit.numbers, 2), np.concatenate([unit.pos, unit.pos + CELL[0]]), cell=CELL * [[2], [1], [1]]
    )
    with torch.no_grad():
        one, two = (model(GraphBatch.from_structures([each], torch.float64)) for each in (unit, double))
    assert torch.allclose(two, one.repeat(2, 1, 1), atol=1e-10)


def test_a_molecule_in_a_large_cell_is_the_molecule_alone_also_in_a_batch():
    model = moved(SE3Transformer(small_config(cutoff=4.0))).double()
    alone = random_structure(5)
    boxed = replace(alone, cell=100 * np.eye(3))
    with torch.no_grad():
        expected = model(GraphBatch.from_structures([alone], torch.float64))
        together = model(GraphBatch.from_structures([alone, boxed], torch.float64))
    assert torch.allclose(together, expected.repeat(2, 1, 1), atol=1e-10)


def test_where_the_cell_begins_does_not_matter():
    model = moved(SE3Transformer(small_config(cutoff=4.0))).double()
    unit = random_structure(4, cell=CELL)
    wrapped = replace(unit, pos=unit.pos + np.array([[2], [0], [-1], [3]]) * CELL[1])
    with torch.no_grad():
        one, two = (model(GraphBatch.from_structures([each], torch.float64)) for each in (unit, wrapped))
    assert torch.allclose(one, two, atol=1e-9)


def test_gradients_pass_through_the_images():
    model = moved(SE3Transformer(small_config(num_layers=1, cutoff=4.0))).double()
    graph = GraphBatch.from_structures([random_structure(3, cell=CELL)], torch.float64)

    def energy(pos):
        return model(replace(graph, pos=pos)).square().sum()

    assert torch.autograd.gradcheck(energy, graph.pos.requires_grad_(), eps=1e-5, atol=1e-5)
