"""Distances along bonds against those of all pairs by Floyd and Warshall."""

import numpy as np
import torch

from molformer.data.conformers import ConformerPolicy, embed_smiles
from molformer.graph import GraphBatch, radius_edges
from molformer.graph.topology import BONDED, FARTHER, FARTHEST, NUM_CODES, UNKNOWN, bond_codes, edge_codes
from tests.helpers import random_structure

SMILES = ("C1CC1c1ccc2[nH]ccc2c1", "CC(=O)OC1CCC2(CC1)OCCO2", "O", "[He]")


def batch():
    structures = [embed_smiles(smiles, ConformerPolicy("etkdg")) for smiles in SMILES]
    return [*structures[:2], random_structure(5), *structures[2:]]


def bonds_between(graph):
    far = np.full((len(graph), len(graph)), 99)
    np.fill_diagonal(far, 0)
    far[tuple(graph.bonds.T)] = far[tuple(graph.bonds[:, ::-1].T)] = 1
    for middle in range(len(graph)):
        far = np.minimum(far, far[:, middle, None] + far[middle])
    return far


def test_codes_are_distances_along_bonds_and_kinds_of_bonds():
    structures = batch()
    graph = GraphBatch.from_structures(structures)
    src, dst = radius_edges(graph.pos, graph.ptr, 20.0)
    codes = edge_codes(graph.atom_features[:, 0] > -128, graph.bonds, graph.bond_features, src, dst)
    for place, structure in enumerate(structures):
        start = int(graph.ptr[place])
        mine = graph.batch[src] == place
        found, ends = codes[mine].numpy(), (src[mine].numpy() - start, dst[mine].numpy() - start)
        if structure.molecular_graph is None:
            assert (found == UNKNOWN).all()
            continue
        apart = bonds_between(structure.molecular_graph)[ends]
        assert ((found == FARTHER) == (apart > FARTHEST)).all()
        for distance in range(2, FARTHEST + 1):
            assert ((found == distance) == (apart == distance)).all()
        kinds = dict.fromkeys(map(tuple, structure.molecular_graph.bonds.tolist()))
        values = bond_codes(torch.from_numpy(structure.molecular_graph.bond_features)).tolist()
        kinds = dict(zip(kinds, values, strict=True))
        kinds |= {(j, i): code for (i, j), code in kinds.items()}
        assert [code for code in found if code >= BONDED] == [
            kinds[pair] for pair in zip(*map(np.ndarray.tolist, ends), strict=True) if pair in kinds
        ]


def test_kinds_of_bonds_are_told_apart():
    features = torch.cartesian_prod(torch.arange(5), torch.arange(2), torch.arange(2))
    codes = bond_codes(features)
    assert sorted(codes.tolist()) == list(range(BONDED, NUM_CODES))


def test_an_atom_has_no_code_with_its_own_image():
    """In a periodic structure an edge may come from the image of the receiver itself."""
    graph = GraphBatch.from_structures([embed_smiles("CC")])
    same = torch.arange(len(graph.pos))
    known = torch.ones_like(same, dtype=torch.bool)
    assert (edge_codes(known, graph.bonds, graph.bond_features, same, same) == FARTHER).all()
