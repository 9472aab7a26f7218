"""The notebooks: stored without outputs, written against what is public, and run without errors, warnings or gaps.

`MOLFORMER_NOTEBOOK_QUICK=1` has them train for less, with the same cells and figures.
"""

import ast
import importlib
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]

FIGURES = {
    "01_predict": 5,
    "02_train": 5,
    "03_inside_the_model": 11,
    "04_forces": 5,
    "05_chemical_space": 5,
    "06_points": 4,
    "07_chirality": 4,
    "08_pretraining": 3,
}
"""Pictures and molecules to turn that each notebook shows."""

ALLOWED = ()
"""Regular expressions of what may be written to standard error."""


def cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def source(path):
    """The code of a notebook without IPython's own lines."""
    text = "\n".join(cell.source for cell in cells(path))
    return "\n".join(line for line in text.splitlines() if not line.startswith("%"))


def test_there_are_those_that_are_expected():
    assert sorted(FIGURES) == NAMES


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_stored_without_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_written_against_public_names_that_exist(path):
    """Imports of molformer resolve, no name begins with an underscore, and no path is of one machine."""
    modules = {}
    for node in ast.walk(ast.parse(source(path))):
        if isinstance(node, ast.Import):
            modules |= {each.asname or each.name: each.name for each in node.names if each.name.startswith("molformer")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("molformer"):
            module = importlib.import_module(node.module)
            for each in node.names:
                assert not each.name.startswith("_")
                value = getattr(module, each.name, None) or importlib.import_module(f"{node.module}.{each.name}")
                if isinstance(value, type(ast)):
                    modules[each.asname or each.name] = value.__name__
    for node in ast.walk(ast.parse(source(path))):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                assert hasattr(importlib.import_module(modules[node.value.id]), node.attr), ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.match(r"/\w|.*\.\./shared", node.value), node.value


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_its_page_needs_no_network(path):
    """Nothing is loaded from elsewhere, and no formula waits for a script that would set it."""
    page, _ = HTMLExporter(extra_template_basedirs=[str(FOLDER / "template")], template_name="offline").from_filename(
        str(path)
    )
    assert re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'>]*|@import[^;]*|import\s[^;]*https?:[^;]*""", page) == []
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    assert not any("$" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_runs_and_shows_its_figures(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    written = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    unknown = [line for line in written.splitlines() if line and not any(re.search(each, line) for each in ALLOWED)]
    assert unknown == []
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    figures = sum("image/png" in data or "<iframe" in data.get("text/html", "") for data in shown)
    assert figures == FIGURES[path.stem]
