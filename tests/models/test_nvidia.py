"""NVIDIA's weights, against a slow network that follows the published formulas with e3nn's 3j symbols."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from e3nn import o3
from torch.nn import functional

from molformer.data.structure import Label
from molformer.errors import ConfigError, ModelError
from molformer.inference import Predictor
from molformer.models.nvidia import _SIGNS, from_nvidia, load_nvidia
from molformer.models.property import PropertyModel
from molformer.so3 import wigner_3j
from tests.helpers import random_graph, random_structure
from tests.test_cli import molformer

HOMO = Label("homo", "eV", "intensive")
ATOM, BOND, LMAX, CHANNELS, DIVIDE, HEADS, LAYERS, RADIAL = 6, 4, 2, 8, 2, 2, 2, 5


def radial_names(outputs, with_norm):
    sizes = (
        [(RADIAL, BOND + 1), RADIAL, (RADIAL, RADIAL), RADIAL] if with_norm else [(RADIAL, BOND + 1), (RADIAL, RADIAL)]
    )
    places = (0, 1, 3, 4) if with_norm else (0, 2)
    for place, size in zip(places, sizes, strict=True):
        yield f"{place}.weight", size
        yield f"{place}.bias", RADIAL
    yield f"{places[-1] + 2}.weight", (outputs, RADIAL)


def shapes(layout, norms):
    """Names and shapes of the weights of `SE3TransformerPooled`, in one of its layouts."""
    share, root, number = CHANNELS // DIVIDE, "transformer.graph_modules.", 0

    def convolution(prefix, degrees_in, in_channels, widths, fused):
        if fused == "all":
            total = sum(2 * min(k, n) + 1 for k in degrees_in for n in range(len(widths)))
            nets = {"conv.": widths[0] * in_channels * total}
        elif fused == "out":
            nets = {
                f"conv_out.{n}.": width * in_channels * sum(2 * min(k, n) + 1 for k in degrees_in)
                for n, width in enumerate(widths)
            }
        else:
            nets = {
                f"conv.{k},{n}.": width * in_channels * (2 * min(k, n) + 1)
                for k in degrees_in
                for n, width in enumerate(widths)
            }
        for net, outputs in nets.items():
            for name, size in radial_names(outputs, norms):
                yield f"{prefix}{net}radial_func.net.{name}", size

    for layer in range(LAYERS):
        degrees_in, in_channels = ([0], ATOM) if layer == 0 else (range(LMAX + 1), CHANNELS)
        prefix = f"{root}{number}."
        widths = [2 * share if n in degrees_in else share for n in range(LMAX + 1)]
        fused = "none" if layer == 0 else {"low memory": "none", "partial": "out", "full": "all"}[layout]
        yield from convolution(f"{prefix}to_key_value.", degrees_in, in_channels, widths, fused)
        for k in degrees_in:
            yield f"{prefix}to_query.weights.{k}", (share, in_channels)
        for n in range(LMAX + 1):
            yield f"{prefix}project.weights.{n}", (CHANNELS, share + (in_channels if n in degrees_in else 0))
        if norms:
            number += 1
            yield f"{root}{number}.group_norm.weight", ((LMAX + 1) * CHANNELS,)
            yield f"{root}{number}.group_norm.bias", ((LMAX + 1) * CHANNELS,)
        number += 1
    width = (LMAX + 1) * CHANNELS
    fused = "none" if layout == "low memory" else "out"
    yield from convolution(f"{root}{number}.", range(LMAX + 1), CHANNELS, [width], fused)
    yield f"{root}{number}.to_kernel_self.0", (width, CHANNELS)
    yield from (("mlp.0.weight", (width, width)), ("mlp.0.bias", (width,)))
    yield from (("mlp.2.weight", (1, width)), ("mlp.2.bias", (1,)))


def random_state(layout="low memory", norms=True):
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        (name, torch.randn(size, generator=generator, dtype=torch.float64) * (0.5 if "radial" in name else 0.3))
        for name, size in shapes(layout, norms)
    )


class Reference:
    """`SE3TransformerPooled` edge by edge: kernels Σ_J φ_J Σ_m Y_Jm Q_Jm as matrices, features (C, 2l+1) by degree."""

    def __init__(self, state, e3nn):
        self.state, self.e3nn = state, e3nn

    def radial(self, net, features):
        state, with_norm = self.state, f"{net}6.weight" in self.state
        h = features
        for first in (0, 3) if with_norm else (0, 2):
            h = h @ state[f"{net}{first}.weight"].T + state[f"{net}{first}.bias"]
            if with_norm:
                weight, bias = (state[f"{net}{first + 1}.{part}"] for part in ("weight", "bias"))
                h = (h - h.mean()) / (h.var(correction=0) + 1e-5).sqrt() * weight + bias
            h = h.clamp(min=0)
        return state[f"{net}{6 if with_norm else 4}.weight"] @ h

    def basis(self, k, n, vector):
        """Y_J · Q_J for all J (J, 2l+1, 2k+1), with the 3j symbols of the version."""
        found = []
        for index, order in enumerate(range(abs(k - n), k + n + 1)):
            harmonic = o3.spherical_harmonics(order, vector, normalize=True)
            symbol = o3.wigner_3j(order, k, n, dtype=torch.float64)
            if self.e3nn == "0.3" and _SIGNS["0.3"][n][k][index] != _SIGNS["0.6"][n][k][index]:
                symbol = -symbol
            found.append(torch.einsum("f,fkl->lk", harmonic, symbol))
        return torch.stack(found)

    def convolve(self, prefix, x, features, vector, widths):
        """What one edge carries, by degree, from the sender's features."""
        result = []
        for n, width in enumerate(widths):
            total = 0.0
            for k, sent in enumerate(x):
                pairs = [(i, o) for o in range(len(widths)) for i in range(len(x))]
                if f"{prefix}conv.{k},{n}.radial_func.net.0.weight" in self.state:
                    net = f"{prefix}conv.{k},{n}.radial_func.net."
                    pairs = [(k, n)]
                elif f"{prefix}conv_out.{n}.radial_func.net.0.weight" in self.state:
                    net = f"{prefix}conv_out.{n}.radial_func.net."
                    pairs = [(i, n) for i in range(len(x))]
                else:
                    net = f"{prefix}conv.radial_func.net."
                sizes = [2 * min(pair) + 1 for pair in pairs]
                offset = sum(sizes[: pairs.index((k, n))])
                whole = self.radial(net, features).view(width, len(sent), sum(sizes))
                phi = whole[:, :, offset : offset + 2 * min(k, n) + 1]
                basis = self.basis(k, n, vector)
                if len(pairs) == 1 and k == n == 0:  # their basis leaves the constant out
                    basis = torch.ones_like(basis)
                total = total + torch.einsum("dcj,jlk,ck->dl", phi, basis, sent)
            result.append(total)
        return result

    def __call__(self, atoms, bonds, pos, src, dst, batch, graphs, pool):
        state, root, number = self.state, "transformer.graph_modules.", 0
        x = [[atom[:, None]] for atom in atoms]  # node, degree: (C, 2l+1)
        share = CHANNELS // DIVIDE
        edges = [(s, d, pos[d] - pos[s]) for s, d in zip(src.tolist(), dst.tolist(), strict=True)]
        inputs = [torch.cat([bond, vector.norm()[None]]) for bond, (_, _, vector) in zip(bonds, edges, strict=True)]
        while f"{root}{number}.to_query.weights.0" in state:
            prefix, degrees_in = f"{root}{number}.", len(x[0])
            widths = [2 * share if n < degrees_in else share for n in range(LMAX + 1)]
            sent = [
                self.convolve(f"{prefix}to_key_value.", x[s], f, vector, widths)
                for (s, _, vector), f in zip(edges, inputs, strict=True)
            ]
            new = []
            for node, own in enumerate(x):
                query = [state[f"{prefix}to_query.weights.{n}"] @ own[n] for n in range(degrees_in)]
                into = [message for message, (_, d, _) in zip(sent, edges, strict=True) if d == node]
                z = [torch.zeros(share, 2 * n + 1, dtype=torch.float64) for n in range(LMAX + 1)]
                for head in range(HEADS):
                    mine = slice(head * share // HEADS, (head + 1) * share // HEADS)
                    logits = torch.stack(
                        [sum((query[n][mine] * m[n][share:][mine]).sum() for n in range(degrees_in)) for m in into]
                    )
                    size = share * sum(2 * n + 1 for n in range(degrees_in))
                    for weight, message in zip((logits / size**0.5).softmax(0), into, strict=True):
                        for n in range(LMAX + 1):
                            z[n][mine] += weight * message[n][:share][mine]
                both = [torch.cat([z[n], own[n]]) if n < degrees_in else z[n] for n in range(LMAX + 1)]
                new.append([state[f"{prefix}project.weights.{n}"] @ both[n] for n in range(LMAX + 1)])
            number += 1
            x = new
            if f"{root}{number}.group_norm.weight" in state:
                gain, bias = (
                    state[f"{root}{number}.group_norm.{part}"].view(LMAX + 1, -1) for part in ("weight", "bias")
                )
                for own in x:
                    for n in range(LMAX + 1):
                        length = own[n].norm(dim=1)
                        scaled = functional.layer_norm(length, (CHANNELS,)) * gain[n] + bias[n]
                        own[n] = own[n] / length[:, None] * scaled.clamp(min=0)[:, None]
                number += 1
        width, prefix = (LMAX + 1) * CHANNELS, f"{root}{number}."
        y = torch.zeros(len(x), width, dtype=torch.float64)
        for (s, d, vector), f in zip(edges, inputs, strict=True):
            y[d] += self.convolve(prefix, x[s], f, vector, [width])[0][:, 0]
            y[d] += state[f"{prefix}to_kernel_self.0"] @ x[d][0][:, 0]
        pooled = [y[batch == g].amax(0) if pool == "max" else y[batch == g].mean(0) for g in range(graphs)]
        hidden = (torch.stack(pooled) @ state["mlp.0.weight"].T + state["mlp.0.bias"]).clamp(min=0)
        return (hidden @ state["mlp.2.weight"].T + state["mlp.2.bias"])[:, 0]


def bonded_graph():
    """Two molecules whose bonds are a ring each, with numbers for atoms and bonds."""
    graph = random_graph((4, 3))
    ring = [(i, (i + 1) % 4) for i in range(4)] + [(4 + i, 4 + (i + 1) % 3) for i in range(3)]
    src, dst = torch.tensor([*ring, *[pair[::-1] for pair in ring]]).T
    generator = torch.Generator().manual_seed(1)
    features = torch.rand(7, ATOM, generator=generator, dtype=torch.float64)
    bonds = torch.rand(len(src), BOND, generator=generator, dtype=torch.float64)
    return replace(graph, src=src, dst=dst, features=features, edge_features=bonds)


def expected_of(state, graph, e3nn="0.3", pool="max"):
    reference = Reference(state, e3nn)
    return reference(
        graph.features, graph.edge_features, graph.pos, graph.src, graph.dst, graph.batch, graph.num_graphs, pool
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("layout", "norms", "e3nn", "pool"),
    [
        ("low memory", True, "0.3", "max"),
        ("low memory", False, "0.6", "mean"),
        ("partial", True, "0.3", "max"),
        ("full", True, "0.3", "max"),
    ],
)
def test_values_are_those_of_the_published_formulas(layout, norms, e3nn, pool):
    state, graph = random_state(layout, norms), bonded_graph()
    model = from_nvidia(state, HOMO, HEADS, pool, mean=-6.0, std=0.5, e3nn=e3nn)
    expected = -6.0 + 0.5 * expected_of(state, graph, e3nn, pool)
    value = model.double()(graph)["homo"]
    assert (expected[0] - expected[1]).abs() > 1e-3
    assert torch.allclose(value, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("float64")
def test_the_version_of_e3nn_matters():
    state, graph = random_state(), bonded_graph()
    old, new = (from_nvidia(state, HOMO, HEADS, e3nn=version).double()(graph)["homo"] for version in ("0.3", "0.6"))
    assert (old - new).abs().max() > 1e-5


def test_signs_of_the_installed_e3nn():
    """Those of 0.3.3 were found in the same way with its wheel."""
    for n, k in ((n, k) for n in range(5) for k in range(5)):
        for sign, order in zip(_SIGNS["0.6"][n][k], range(abs(n - k), n + k + 1), strict=True):
            theirs = o3.wigner_3j(order, k, n, dtype=torch.float64).permute(2, 1, 0)
            assert (theirs * torch.as_tensor(wigner_3j(n, k, order))).sum().item() == pytest.approx(int(f"{sign}1"))


def test_a_checkpoint_is_read_and_its_model_saved(tmp_path):
    state = {f"module.{name}": value.float() for name, value in random_state().items()}
    torch.save({"state_dict": state, "optimizer_state_dict": {}, "epoch": 3}, tmp_path / "model.pth")
    model = from_nvidia(load_nvidia(tmp_path / "model.pth"), HOMO, HEADS)
    assert model.config.num_layers == LAYERS
    assert (model.config.input_scalars, model.config.input_edge_scalars) == (ATOM, BOND)
    model.save(tmp_path / "model")
    graph = bonded_graph()
    graph = replace(graph, pos=graph.pos.float())
    assert torch.equal(PropertyModel.load(tmp_path / "model")(graph)["homo"], model(graph)["homo"])
    row = Predictor.load(tmp_path / "model").predict(random_structure(4))[0]
    assert row.status == "invalid_input"
    assert "takes 4 scalars of each edge, which only a `GraphBatch` can give" in row.message


def test_what_is_wrong_is_said(tmp_path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(ModelError, match="not a checkpoint that can be read safely"):
        load_nvidia(tmp_path / "text.pth")
    with pytest.raises(ModelError, match="cannot read"):
        load_nvidia(tmp_path / "missing.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="holds no weights"):
        load_nvidia(tmp_path / "empty.pth")
    with pytest.raises(ModelError, match="not the weights of NVIDIA's SE3TransformerPooled"):
        from_nvidia({"weight": torch.zeros(3)}, HOMO)
    state = random_state()
    with pytest.raises(ConfigError, match="channels"):
        from_nvidia(state, HOMO, num_heads=3)
    with pytest.raises(ModelError, match="pool by 'max' or 'mean' to one intensive number"):
        from_nvidia(state, Label("energy", "eV", "extensive"), HEADS)
    with pytest.raises(ModelError, match=r"e3nn is '1\.0'; choose one of 0\.3, 0\.6"):
        from_nvidia(state, HOMO, HEADS, e3nn="1.0")
    name = next(name for name in state if "to_key_value.conv.0,1" in name and name.endswith("net.0.weight"))
    del state[name]
    with pytest.raises(ModelError, match="no radial network from degree 0 to 1"):
        from_nvidia(state, HOMO, HEADS)


def test_the_command(tmp_path):
    torch.save({"state_dict": random_state()}, tmp_path / "model.pth")
    arguments = ("--heads", str(HEADS), "--target", "lumo=intensive,eV", "--mean", "-1", "--std", "2")
    result = molformer("convert", "nvidia", "model.pth", "-o", "model", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Wrote model: lmax 2, 8 channels, 2 layers; takes 6 scalars of each atom and 4 of each edge" in result.stdout
    assert PropertyModel.load(tmp_path / "model").targets == (Label("lumo", "eV", "intensive"),)
