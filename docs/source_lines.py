"""Directives that quote the package when the pages are built, so that what they show is what runs.

`source` shows a function or class, or lines of it; `configs` all configs; `settings` the keys of a config; `command`
the help of the command line.
"""

import importlib
import inspect
import textwrap
from collections.abc import Callable
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


def lines_of(name: str, start: str = "", end: str = "", docstring: bool = False) -> str:
    """Source of an object by its full name, from the first line that contains `start` to the first with `end`.

    Raises:
        ValueError: there is no such object or line; the page is then out of date.
    """
    module, _, rest = name.partition(":")
    found = importlib.import_module(module)
    for part in rest.split("."):
        found = getattr(found, part)
    lines = textwrap.dedent(inspect.getsource(found)).splitlines()
    if not docstring and (text := found.__doc__):
        first = next(number for number, line in enumerate(lines) if '"""' in line)
        count = len(text.splitlines())
        lines[first : first + count] = []
    first = _find(lines, start, name) if start else 0
    last = _find(lines[first:], end, name) + first if end else len(lines) - 1
    return textwrap.dedent("\n".join(lines[first : last + 1]))


def _find(lines: list[str], text: str, name: str) -> int:
    for number, line in enumerate(lines):
        if text in line:
            return number
    raise ValueError(f"{name} has no line with '{text}'")


def _code(text: str, language: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language)


class Source(SphinxDirective):
    """Quote `module:object`, with options `start`, `end` and `docstring`."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Callable[[str], object]]] = {
        "start": directives.unchanged,
        "end": directives.unchanged,
        "docstring": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """The quoted lines, and where they stand."""
        try:
            text = lines_of(
                self.arguments[0],
                self.options.get("start", ""),
                self.options.get("end", ""),
                "docstring" in self.options,
            )
        except (ValueError, AttributeError, ImportError) as error:
            raise self.error(f"cannot quote {self.arguments[0]}: {error}") from error
        module, _, name = self.arguments[0].partition(":")
        caption = nodes.caption("", f"{module.replace('.', '/')}.py, {name}")
        block = _code(text, "python")
        return [nodes.container("", caption, block, literal_block=True, classes=["literal-block-wrapper"])]


class Configs(SphinxDirective):
    """All configs, each under its name."""

    def run(self) -> list[nodes.Node]:
        """A section for each."""
        from molformer.examples import config_names, find_config

        sections: list[nodes.Node] = []
        for name in config_names():
            section = nodes.section(ids=[name.replace("/", "-").replace("_", "-")])
            text = find_config(name).read_text(encoding="utf-8")
            section += [nodes.title(text=name), _code(text, "yaml")]
            sections.append(section)
        return sections


class Settings(SphinxDirective):
    """Every key of a config as a definition list."""

    def run(self) -> list[nodes.Node]:
        """Key, default and meaning."""
        from molformer.training.arguments import describe_keys

        items = nodes.definition_list()
        for key, default, meaning in describe_keys():
            term = nodes.term("", "", nodes.literal(text=key), nodes.Text(f" = {default}" if default else ""))
            items += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=meaning)))
        return [items]


class Command(SphinxDirective):
    """Help of all commands."""

    def run(self) -> list[nodes.Node]:
        """One block a command."""
        import typer

        from molformer.cli import app

        group = typer.main.get_command(app)
        found: list[nodes.Node] = []
        for path, command in _commands(group, ("molformer",)):
            section = nodes.section(ids=["-".join(path)])
            context = command.make_context(" ".join(path), [], resilient_parsing=True, terminal_width=100)
            section += [nodes.title(text=" ".join(path)), _code(command.get_help(context), "text")]
            found.append(section)
        return found


def _commands(group, path):  # type: ignore[no-untyped-def]
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield (*path, name), command


def setup(app: object) -> dict[str, bool]:
    """Register the directives."""
    for name, directive in (("source", Source), ("configs", Configs), ("settings", Settings), ("command", Command)):
        app.add_directive(name, directive)  # type: ignore[attr-defined]
    return {"parallel_read_safe": True}
