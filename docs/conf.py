"""Settings of the documentation, built by `make docs`: strict, and readable without network access."""

import importlib
import inspect
import pkgutil
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(HERE))

import molformer  # noqa: E402

project = "molformer"
author = "the molformer developers"
copyright = author
version = release = molformer.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "source_lines"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"molformer {version}"
html_theme_options = {"source_edit_link": "", "top_of_page_buttons": []}
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
suppress_warnings = ["mystnb.unknown_mime_type"]

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"
add_module_names = False


def plain_text(lines: list[str]) -> list[str]:
    """Docstrings are plain text: escape what reStructuredText would read as markup, and set equations apart.

    Names in backticks stay code, and doctests stay as they are.
    """
    result: list[str] = []
    equation, section = False, False
    for line in lines:
        section = (section and (not line or line[0] == " ")) or bool(re.fullmatch(r"[A-Z]\w+:", line))
        code = line.lstrip().startswith((">>>", "..."))
        if not section and line.startswith("    ") and not code:
            if not equation and result and result[-1]:
                result += ["", "::", ""]
                equation = True
            result.append(line)
            continue
        if equation and line:
            result.append("")
        equation = False
        if not code:
            line = re.sub(r"(: [A-Z])\.$", r"\1\\.", line)  # a letter alone is no item of a list
            parts = re.split(r"(`[^`]*`)", line)
            line = "".join(p if p.startswith("`") else re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", p) for p in parts)
        result.append(line)
    return result


def undocumented() -> list[str]:
    """Public names of the package that have no docstring."""
    missing = []
    for module in pkgutil.walk_packages(molformer.__path__, "molformer."):
        if any(part.startswith("_") for part in module.name.split(".")) or module.name.endswith("triton_attention"):
            continue
        found = importlib.import_module(module.name)
        members = [("", found)]
        for name, value in vars(found).items():
            if not name.startswith("_") and inspect.getmodule(value) is found and callable(value):
                members.append((name, value))
        missing += [f"{module.name}.{name}".rstrip(".") for name, value in members if not inspect.getdoc(value)]
    return missing


def unlisted(documented: set[str]) -> list[str]:
    """Names that the public packages export and the reference does not list."""
    missing = []
    for package in ("molformer", *(f"molformer.{name}" for name in PUBLIC)):
        found = importlib.import_module(package)
        names = getattr(found, "__all__", None) or [
            name
            for name, value in vars(found).items()
            if not name.startswith("_") and callable(value) and str(value.__module__).startswith("molformer")
        ]
        last = {name.rpartition(".")[2] for name in documented}
        missing += [f"{package}.{name}" for name in names if name not in last and not name.startswith("__")]
    return missing


PUBLIC = ("so3", "graph", "nn", "kernels", "targets", "models", "plots", "inference", "data.datasets", "data.readers")


def setup(app: object) -> None:
    """Connect the checks and the preparation of pages."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)

    def docstring(app, what, name, obj, options, lines):  # type: ignore[no-untyped-def]
        lines[:] = plain_text(lines)

    def check(app, env):  # type: ignore[no-untyped-def]
        for name in undocumented():
            logger.warning("public name without a docstring: %s", name)
        documented = {entry[0] for entry in env.get_domain("py").get_objects()}
        for name in unlisted(documented):
            logger.warning("public name that is not in the reference: %s", name)

    app.connect("autodoc-process-docstring", docstring, priority=100)  # type: ignore[attr-defined]
    app.connect("env-check-consistency", check)  # type: ignore[attr-defined]


def _notebooks() -> None:
    """The notebooks, with the results of `make notebooks` where they were run."""
    folder = HERE / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        executed = ROOT / "build" / "notebooks" / path.name
        source = executed if executed.is_file() and executed.stat().st_mtime > path.stat().st_mtime else path
        if not (folder / path.name).is_file() or (folder / path.name).read_bytes() != source.read_bytes():
            shutil.copyfile(source, folder / path.name)


_notebooks()
