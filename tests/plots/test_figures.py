import numpy as np
import pytest

from molformer.data.structure import Structure
from molformer.errors import InputError
from molformer.inference.attention_weights import Attention
from molformer.inference.prediction import Prediction, Value
from molformer.plots import attention_matrix, block_matrix, feature_map, intervals, parity, plane


def test_parity_draws_the_band_of_the_intervals():
    label = np.array([0.0, 1.0, np.nan])
    assert not parity(label, label, "gap", "eV").axes[0].collections[1:]
    (band,) = parity(label, label, "gap", "eV", half_width=0.25).axes[0].collections[1:]
    assert band.get_paths()[0].vertices[:, 1].min() == -0.25


def test_intervals_has_a_line_for_each_value():
    known = Value(np.array(1.0), "eV", interval=(np.array(0.5), np.array(1.5)))
    rows = [Prediction("a", "ok", values={"gap": known}), Prediction("b", "invalid_input", "why")]
    rows.append(Prediction("c", "out_of_domain", values={"gap": Value(np.array(2.0), "eV")}))
    axes = intervals(rows, "gap").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "c"]
    assert axes.get_xlabel() == "gap [eV]"
    assert len(axes.lines) == 3  # two points and one interval
    with pytest.raises(InputError, match="no row has a value"):
        intervals(rows[1:2], "gap")


def test_attention_matrix_shows_the_matrix():
    water = Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    attention = Attention(water, np.array([1, 0]), np.array([0, 2]), np.array([[[0.2, 0.4], [0.5, 0.7]]]))
    axes = attention_matrix(attention, 0, head=1).axes[0]
    assert np.allclose(axes.images[0].get_array(), [[0, 0.4, 0], [0, 0, 0], [0.7, 0, 0]])
    assert [text.get_text() for text in axes.get_xticklabels()] == ["O0", "H1", "H2"]
    assert axes.get_ylabel() == "target"


def test_block_matrix_separates_the_degrees():
    axes = block_matrix(np.eye(9)).axes[0]
    assert sorted({line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]}) == [
        0.5,
        3.5,
    ]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["l=0", "l=1", "l=2"]


def test_plane_finds_the_directions_of_most_variance():
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((200, 1))
    features = np.hstack([hidden, 100 * hidden, generator.standard_normal((200, 1)), np.zeros((200, 1))])
    places = plane(features, 2)
    assert abs(np.corrcoef(places[:, 0], hidden[:, 0])[0, 1]) > 0.99


def test_feature_map_draws_unknown_values_grey():
    points = np.arange(6.0).reshape(3, 2)
    axes = feature_map(points, np.array([0.0, np.nan, 1.0]), "gap", "eV").axes
    grey, coloured = axes[0].collections
    assert len(grey.get_offsets()) == 1
    assert len(coloured.get_offsets()) == 2
    assert axes[1].get_ylabel() == "gap [eV]"
