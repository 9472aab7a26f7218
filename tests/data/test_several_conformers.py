import numpy as np
import pytest
import torch

from molformer.data import conformer_generation
from molformer.data.conformers import ConformerPolicy, embed_smiles_all
from molformer.data.datamodule import MoleculeDataModule
from molformer.data.hydrogens import heavy_atom_store, heavy_atoms
from molformer.data.importing import open_data
from molformer.data.several_conformers import averaged, conformer_labels, with_labels
from molformer.data.splits import SplitPolicy
from molformer.data.store import StructureStore, write_store
from molformer.data.structure import Label, Structure
from molformer.errors import ConfigError
from molformer.graph import GraphBatch
from molformer.models.forward import run
from molformer.training.target_errors import predict_batches
from molformer.uncertainty.fit import calibrate
from tests.helpers import small_model

SMILES = ["CCCO", "c1ccccc1", "CC(C)CN", "O", "CCOCC", "CCCCCC", "OCC(O)CO", "CCSC", "CCCN", "CCC=O"]
GAP = Label("gap", "eV", "intensive")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("smiles,gap\n" + "".join(f"{text},{row}.5\n" for row, text in enumerate(SMILES)))
    return path


def batch_of(store, rows, count=3):
    data = MoleculeDataModule(store, ["gap"], SplitPolicy(fractions=(0.6, 0.2, 0.2)), conformers=count)
    return data.dataset(np.array(rows), training=False)[range(len(rows))]


def test_a_row_holds_all_conformers_of_a_molecule_and_they_come_from_the_cache(table, monkeypatch):
    store = open_data(str(table), ["gap"], conformers=3)
    assert len(store) == len(SMILES)
    assert store.column("gap").tolist() == [row + 0.5 for row in range(len(SMILES))]
    wanted = embed_smiles_all(SMILES[0], ConformerPolicy(num_conformers=3))
    found = store[0]
    stored = [found.pos, *(found.labels[label.name] for label in conformer_labels(3))]
    assert len(wanted) == len(stored) == 3
    for one, other in zip(wanted, stored, strict=True):
        assert np.allclose(one.pos, other, atol=1e-6)
    assert not np.allclose(stored[0], stored[1], atol=0.1)
    monkeypatch.setattr(conformer_generation, "outcomes_of", pytest.fail)
    table.write_text(table.read_text().replace(".5", ".25"))
    again = open_data(str(table), ["gap"], conformers=3)
    assert again.path != store.path
    assert np.array_equal(again.column("conformer.3"), store.column("conformer.3"))
    assert np.array_equal(again.groups, store.groups)


def test_heavy_atoms_have_their_conformers(table):
    store = open_data(str(table), ["gap"], conformers=2)
    heavy = heavy_atom_store(store)
    for row, (whole, kept) in enumerate(zip(store, heavy, strict=True)):
        atoms = whole.numbers > 1 if (whole.numbers > 1).any() else whole.numbers > 0
        assert np.array_equal(kept.numbers, whole.numbers[atoms]), SMILES[row]
        assert np.array_equal(kept.labels["conformer.2"], whole.labels["conformer.2"][atoms])
        assert kept.labels["gap"] == row + 0.5
    assert "conformer.2" not in heavy_atoms(next(iter(open_data(str(table), ["gap"])))).labels


def test_training_draws_each_conformer_and_the_same_ones_again(table):
    store = open_data(str(table), ["gap"], conformers=3)
    data = MoleculeDataModule(
        store, ["gap"], SplitPolicy(fractions=(0.6, 0.2, 0.2)), conformers=3, batch_size=3, seed=1
    )
    sampler = data.batches(data.split.train, training=True)
    dataset = data.dataset(data.split.train, training=True)
    stored = {}
    for row in data.split.train:
        molecule = store[int(row)]
        stored[row + 0.5] = [molecule.pos, molecule.labels["conformer.2"], molecule.labels["conformer.3"]]
    seen = {gap: set() for gap in stored}
    for epoch in range(30):
        sampler.set_epoch(epoch)
        for batch in sampler:
            graph, again = dataset[batch], dataset[batch]
            assert torch.equal(graph.pos, again.pos)
            assert set(graph.labels) == {"gap"}
            for index, gap in enumerate(graph.labels["gap"].tolist()):
                pos = graph.pos[graph.batch == index].numpy()
                same = [number for number, each in enumerate(stored[gap]) if np.allclose(each, pos, atol=1e-6)]
                assert same
                seen[gap].add(same[0])
    drawn = {dataset[[(epoch, 0), (epoch, 1), (epoch, 2)]].pos.numpy().tobytes() for epoch in range(20)}
    assert len(drawn) > 5  # the same molecules in another epoch
    assert sum(len(numbers) == 3 for numbers in seen.values()) >= 4  # of some small molecules all are the same


TARGETS = [GAP, Label("active", "", "binary"), Label("kind", "", "category", classes=("a", "b", "c"))]


def test_predictions_are_means_over_the_conformers_that_there_are(tmp_path):
    model = small_model(TARGETS, torch.float32).eval()
    flexible = ["CCCO", "CCC=O", "CC(C)CN", "OCC(O)CO"]  # of which the conformers differ
    molecules = [embed_smiles_all(text, ConformerPolicy(num_conformers=3)) for text in flexible]
    molecules[0] = molecules[0][:2]
    molecules[3] = molecules[3][:1]
    labels = {"gap": 1.0, "active": 1.0, "kind": 2.0}
    rows = [with_labels(each[0], each[1:]) for each in molecules]
    rows = [row.annotated(labels={**row.labels, **labels}) for row in rows]
    store = write_store(tmp_path / "store", rows, [*TARGETS, *conformer_labels(3)])
    data = MoleculeDataModule(store, list(labels), SplitPolicy(fractions=(0.5, 0.25, 0.25)), conformers=3)
    predicted = predict_batches(model, data.loader(np.arange(4))).values
    for target in TARGETS:
        assert len(predicted[target.name][0]) == 4
        single = [[out.values[target.name] for out in run(model, each, TARGETS)] for each in molecules]
        means = np.array([np.mean(each, axis=0) for each in single])
        assert np.allclose(predicted[target.name][0], means, atol=2e-6), target.name
        assert not np.allclose(predicted[target.name][0], [each[0] for each in single], atol=1e-5), target.name
    graphs = [data.dataset(np.arange(4), training=False)[[0, 1, 2, 3]]]
    widths = calibrate(model, graphs, graphs * 5, level=0.5).half_widths
    errors = np.sort(np.tile(np.abs(predicted["gap"][0] - 1.0), 5))
    assert widths["gap"] == pytest.approx(errors[10], abs=1e-5)  # of the means, of which the 11th smallest counts


def test_without_conformers_nothing_is_computed():
    graph = GraphBatch.from_structures([Structure([8], [[0, 0, 0]])])
    values = {"gap": torch.ones(1)}
    assert averaged(values, graph, None, [GAP]) is values


def test_what_has_no_conformers_is_refused(table, tmp_path):
    store = open_data(str(table), ["gap"], conformers=2)
    assert isinstance(store, StructureStore)
    with pytest.raises(ConfigError, match="lacks 3 conformers of each molecule: train from a table"):
        batch_of(store, [0])
    assert set(batch_of(store, [0, 1], count=2).labels) == {"gap", "conformer.2"}
    member = Structure([8, 1], [[0, 0, 0], [1, 0, 0]], labels={"charges": np.zeros(2), "conformer.2": np.zeros((2, 3))})
    labels = [Label("charges", "e", "charges"), *conformer_labels(2)]
    directed = write_store(tmp_path / "charges", [member] * 10, labels)
    with pytest.raises(ConfigError, match="numbers and classes of molecules, which 'charges' is not"):
        MoleculeDataModule(directed, ["charges"], conformers=2)
