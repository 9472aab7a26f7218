import html
import re

import numpy as np
import pytest

from molformer.data.structure import Structure
from molformer.plots import view


@pytest.fixture
def water():
    return Structure([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_the_page_needs_no_network(water):
    page = view(water, [1.0, 2.0, 3.0], "charge", "e").page
    assert not re.search(r"https?://|import .* from", page)
    assert "export " not in page
    assert "class Viewer" in page


def test_values_become_shades_about_their_middle_or_about_zero(water):
    assert "viewer.colour([-1.0, 0.0, 1.0])" in view(water, [1.0, 2.0, 3.0]).page
    assert "viewer.colour([-0.5, 0.0, 1.0])" in view(water, np.array([-1.0, 0.0, 2.0])).page
    assert "viewer.colour(null)" in view(water).page


def test_a_name_is_text_and_no_markup(water):
    shown = view(water, name="<b>").page
    assert "&lt;b&gt;" in shown
    whole = view(water)._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', whole)[1]) == view(water).page
