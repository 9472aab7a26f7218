"""Kinds of targets: their symmetry against e3nn, and how they are looked up and added."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from e3nn import o3

from molformer.data.statistics import target_statistics
from molformer.data.store import write_store
from molformer.data.structure import Structure
from molformer.errors import ConfigError, InputError
from molformer.so3 import random_rotation
from molformer.targets import Label, TargetKind, kind_names, kind_of, register, registry

MIRROR = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))


def head(_options):
    raise NotImplementedError


@pytest.fixture(autouse=True)
def kinds_as_they_were(monkeypatch):
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("name", ["vector", "tensor", "stress", "forces", "atom_vector", "intensive", "charges"])
def test_values_rotate_as_cartesian_tensors(name, improper):
    kind = kind_of(name)
    rotation = random_rotation(torch.Generator().manual_seed(3)) @ (MIRROR if improper else torch.eye(3).double())
    values = torch.randn(4, *kind.shape, dtype=torch.float64)
    if kind.shape == (3, 3):
        values = values + values.transpose(1, 2)
        expected = rotation @ values @ rotation.T
    else:
        expected = values @ rotation.T if kind.shape else values
    assert torch.allclose(kind.rotated(values, rotation), expected, atol=1e-12)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize(
    ("irreps", "shape"),
    [("2e", (5,)), ("3o", (7,)), ("1e", (3,)), ("0o", ()), ("2x1o + 1x0e", (7,)), ("1e", (3, 3)), ("0e+1e+2e", (3, 3))],
)
def test_components_rotate_as_in_e3nn(irreps, shape, improper, double):
    kind = TargetKind("mine", head, shape, irreps)
    rotation = random_rotation(torch.Generator().manual_seed(5)) @ (MIRROR if improper else torch.eye(3))
    values = torch.randn(2, *shape)
    basis = torch.from_numpy(kind.basis).reshape(kind.symmetry.dim, -1)
    assert torch.allclose(basis @ basis.T, torch.eye(kind.symmetry.dim), atol=1e-12)
    components = values.reshape(2, -1) @ basis.T
    expected = components @ kind.symmetry.D_from_matrix(rotation).T @ basis
    assert torch.allclose(kind.rotated(values, rotation).reshape(2, -1), expected, atol=1e-9)
    assert kind.lmax == o3.Irreps(irreps).lmax


def test_parts_that_the_irreps_do_not_have_are_left_out():
    traceless = TargetKind("mine", head, (3, 3), "2e")
    rotated = traceless.rotated(torch.eye(3) + torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]]), torch.eye(3))
    assert rotated.abs().max() < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (3,), "irreps": "2e"},
        {"shape": (3, 3), "irreps": "3e"},
        {"shape": (3, 3), "irreps": "2e + 2e"},
        {"shape": (), "irreps": "1o"},
        {"shape": (3, 3), "irreps": "nothing"},
        {"shape": (5,), "irreps": "2e + x"},
        {"shape": (3,), "irreps": "1o", "baseline": "sum"},
        {"shape": (3, 3), "irreps": "2e", "baseline": "sum"},
        {"head": None},
    ],
)
def test_contradictions_are_refused(wrong):
    with pytest.raises(ConfigError, match="kind 'mine'"):
        TargetKind(**{"name": "mine", "head": head, **wrong})


def test_a_kind_is_known_after_it_is_registered():
    with pytest.raises(InputError, match=r"label 'q': kind 'mine' is not one of intensive.*register"):
        Label("q", "", "mine")
    kind = register(TargetKind("mine", head, (3, 3), "2e"))
    assert Label("q", "", "mine").target_kind is kind
    assert "mine" in kind_names()
    other = register(replace(kind, irreps="1e"))
    assert Label("q", "", "mine").target_kind is other


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [("category", (), "needs the names of its classes"), ("vector", ("a", "b"), "has no classes")],
)
def test_classes_belong_to_kinds_that_have_them(kind, classes, message):
    with pytest.raises(InputError, match=f"label 'x': a label of kind '{kind}' {message}"):
        Label("x", "", kind, classes)


def test_matrices_of_atoms_have_the_trace_of_their_element_as_reference(tmp_path):
    register(TargetKind("shielding", head, (3, 3), "0e + 1e + 2e", per_node=True, baseline="element"))
    label = Label("sigma", "", "shielding")
    rest = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]])
    values = np.array([2.0, 5.0, 5.0])[:, None, None] * np.eye(3) + rest
    molecule = Structure([8, 1, 1], np.eye(3), labels={"sigma": values})
    found = target_statistics(write_store(tmp_path / "set", [molecule], [label]), np.arange(1), label)
    assert found.references[[1, 8]] == pytest.approx([5, 2])
    assert found.scale == pytest.approx(np.sqrt(2 / 9))


def test_kinds_of_the_same_values_differ_in_their_readout_alone():
    kind = kind_of("intensive")
    same = {name for name in kind_names() if kind_of(name).same_values(kind)}
    assert same == {"intensive", "extensive", "vector_length", "isotropic_tensor", "spatial_extent"}
    assert not kind_of("vector").same_values(kind_of("forces"))
    assert not kind_of("tensor").same_values(kind_of("stress"))


@pytest.mark.parametrize("name", ["vector_length", "isotropic_tensor", "spatial_extent"])
def test_scalars_that_are_read_from_vectors_need_features_of_degree_1(name):
    assert kind_of(name).irreps == "0e"
    assert kind_of(name).lmax == 1
    assert register(replace(kind_of(name), name="mine", irreps="2e", shape=(5,), baseline=None)).lmax == 2


def test_kinds_of_the_package_cannot_be_replaced():
    with pytest.raises(ConfigError, match="'vector' is a kind of molformer itself"):
        register(TargetKind("vector", head, (3,), "1o"))


@pytest.mark.parametrize(
    ("kind", "shape", "fits"),
    [
        ("stress", (6,), True),
        ("stress", (3,), False),
        ("tensor", (6,), False),
        ("tensor", (9,), True),
        ("tensor", (3, 3), True),
        ("vector", (3,), True),
        ("vector", (), False),
        ("intensive", (1,), False),
    ],
)
def test_shapes_in_files(kind, shape, fits):
    assert kind_of(kind).fits(shape) is fits


@pytest.mark.parametrize(
    ("shape", "per_node", "kind"),
    [
        ((), False, "intensive"),
        ((), True, "atom"),
        ((3,), False, "vector"),
        ((3,), True, "atom_vector"),
        ((3, 3), False, "tensor"),
        ((6,), False, None),
        ((5,), False, None),
        ((5,), True, "mine"),
    ],
)
def test_the_kind_of_an_array_of_which_only_the_shape_is_known(shape, per_node, kind):
    register(TargetKind("mine", head, (5,), "2e", per_node=True))
    found = registry.kind_of_shape(shape, per_node)
    assert (found and found.name) == kind


def test_readers_do_without_torch():
    code = "import sys, molformer.data.readers, molformer.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("kind", "unit", "energy"),
    [
        ("extensive", "eV", True),
        ("extensive", "e", False),
        ("extensive", "Å", False),
        ("intensive", "eV", False),
        ("tensor", "eV", False),
    ],
)
def test_energies_are_numbers_that_are_sums_over_atoms(kind, unit, energy):
    assert Label("x", unit, kind).is_energy is energy


@pytest.mark.parametrize(
    ("kind", "prediction", "label", "expected"),
    [
        ("intensive", [1.0, 3.0], [1.0, 1.0], {"mae": 1.0, "rmse": 2**0.5}),
        ("binary", [2.0, -2.0, -1.0, 3.0], [1, 0, 1, 1], {"accuracy": 0.75}),
        ("category", [[2.0, 0, 0], [0, 2.0, 0], [0, 2.0, 0]], [0, 1, 2], {"accuracy": 2 / 3}),
        ("atom_category", [[2.0, 0, 0], [0, 2.0, 0], [0, 2.0, 0]], [0, 1, 2], {"accuracy": 2 / 3, "iou": 0.5}),
    ],
)
def test_metrics_that_are_followed(kind, prediction, label, expected):
    metrics = kind_of(kind).metrics(("a", "b", "c") if kind_of(kind).named_classes else ())
    metrics.update(torch.tensor(prediction), torch.tensor(label))
    assert {name: value.item() for name, value in metrics.compute().items()} == pytest.approx(expected)


def test_logits_become_probabilities():
    logits = torch.tensor([[0.0, 1.0, -2.0]])
    assert kind_of("binary").activation(logits[0]).tolist() == pytest.approx([0.5, 0.7310586, 0.1192029])
    for kind in ("category", "atom_category"):
        assert torch.allclose(kind_of(kind).activation(logits), logits.exp() / logits.exp().sum())
