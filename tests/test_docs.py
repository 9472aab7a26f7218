"""Every code block of the README and of the documentation runs, page by page, as a reader would run them.

A comment before a block says if that is not so: `<!-- test: slow -->` runs it among the slow tests only, and
`<!-- test: check, REASON -->` never. Of all blocks the commands, options, config keys, extras, modules and make targets
are checked. Blocks of a page share a folder and their Python names.
"""

import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from ase import Atoms
from ase.io import write

from molformer.cli import app
from molformer.cli.training import _config_and_overrides
from molformer.inference.models import SHIPPED
from molformer.targets import registry
from molformer.training.arguments import KEYS, PRETRAINING, plain_overrides, read_configs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:^<!-- test: (?P<rule>.*?) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
RUN = ("python", "sh")
CHECKED = ("yaml", "toml", "json", "text")
GROUP = typer.main.get_command(app)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    rule: str

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks(page):
    text = page.read_text(encoding="utf-8")
    found = BLOCK.finditer(text)
    return [
        Block(page, text.count("\n", 0, one.start("text")), one["language"], one["text"], one["rule"] or "run")
        for one in found
    ]


def commands(block):
    """Words of each command of a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] not in ("if", "else", "fi"):
            yield words


BLOCKS = [block for page in PAGES for block in blocks(page)]
WITH_CODE = [page for page in PAGES if any(block.language in RUN for block in blocks(page))]
WITH_SLOW = [page for page in PAGES if any(block.rule == "slow" for block in blocks(page))]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    smiles = [f"C1{'C' * size}{atom}1" for size in range(2, 10) for atom in ("", "O", "N", "NC(=O)")]  # 32 scaffolds
    rows = [f"{one},{-0.5 * len(one) + rng.normal():.3f},{number % 2}" for number, one in enumerate(smiles)]
    (folder / "mols.csv").write_text("\n".join(["smiles,logS,active", *rows, ""]))
    (folder / "mols.smi").write_text("\n".join([*smiles[:4], ""]))
    water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    water.write(folder / "mol.xyz")
    frames = []
    for _ in range(20):
        atoms = water.copy()
        shift = 0.05 * rng.normal(size=(3, 3))
        atoms.positions += shift
        atoms.info["energy"], atoms.arrays["forces"] = 5 * (shift**2).sum() - 76.0, -10 * shift
        frames.append(atoms)
    write(folder / "frames.xyz", frames)
    return folder


def run_page(page, rules, files, folder, monkeypatch):
    shutil.copytree(files, folder, dirs_exist_ok=True)
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "runs" / "demo").mkdir(parents=True)
    (folder / "runs" / "demo" / "model").symlink_to(SHIPPED / "qm9")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    scope = {}
    for block in blocks(page):
        if block.rule not in rules or block.language not in RUN:
            continue
        try:
            if block.language == "python":
                exec(compile("\n" * block.line + block.text, str(page), "exec"), scope)
                continue
            for words in commands(block):
                run_command(words)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{block.place}: {type(error).__name__}: {error}")


def run_command(words):
    if words[0] == "molformer":
        status = app(words[1:], standalone_mode=False)
        assert status in (None, 0), f"exit status {status} of {shlex.join(words)}"
    elif words[:2] == ["python", "-c"]:
        exec(words[2], {})
    else:
        raise AssertionError(f"'{words[0]}' is not run here: say `test: check, REASON`")


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_blocks_of_a_page_run(page, files, tmp_path, monkeypatch):
    run_page(page, ("run",), files, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_SLOW, ids=name_of)
def test_slow_blocks_of_a_page_run(page, files, tmp_path, monkeypatch):
    run_page(page, ("run", "slow"), files, tmp_path, monkeypatch)


def test_there_are_examples():
    assert sum(block.language in RUN for block in blocks(ROOT / "README.md")) >= 4
    assert len(WITH_CODE) >= 15


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_exists(block):
    assert block.language in RUN + CHECKED
    assert block.rule in ("run", "slow") or block.rule.startswith("check, ")
    if block.language == "python":
        compile(block.text, block.place, "exec")
    elif block.language == "yaml":
        values = yaml.safe_load(block.text)
        assert set(values) <= set(KEYS)
    elif block.language == "toml":
        assert tomllib.loads(block.text)
    elif block.language == "json":
        assert json.loads(block.text)
    elif block.language == "sh":
        for words in commands(block):
            check_command(words)


def check_command(words):
    """That what a command names exists: options, config keys, extras, modules, targets of make."""
    if "molformer" in words[:-1] and words[0] != "pip":
        check_molformer(words[words.index("molformer") + 1 :])
    if words[0] == "make":
        rules = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{word}:", rules, re.M) for word in words[1:] if "=" not in word), words
    if words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in re.findall(r"molformer\[(.*?)\]", " ".join(words)):
            assert set(word.split(",")) <= set(extras), words
    if words[0] == "python" and words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None, words


def check_molformer(words):
    command, name = GROUP, ""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    if words == ["--help"] or not name:
        return
    context = command.make_context(name, list(words))
    if name in ("train", "pretrain", "finetune", "tune") and not context.params.get("resume"):
        config, overrides = _config_and_overrides(context.params["config"], context.args)
        if config and not config.startswith("configs/") and Path(config).suffix:
            config = f"configs/{config}"  # a copy that a page made
        fixed = {"data": "given", "targets": ["given"]} if name != "train" else {}
        defaults = PRETRAINING if name == "pretrain" else {}
        if name == "finetune":
            overrides = [*overrides, "--initial", context.params["model"]]
        read_configs(config or None, plain_overrides(overrides), {**fixed, **defaults})


def test_wrong_commands_are_found():
    for words in ("train table --epoch 3", "predict CCO --modle qm9", "finetune qm9 --dat x", "predit CCO"):
        with pytest.raises(Exception, match=r"."):
            check_molformer(words.split())
    for words in ("make nothing", "python -m benchmarks.nothing", "pip install molformer[nothing]"):
        with pytest.raises(AssertionError):
            check_command(words.split())


def test_links_between_files_exist():
    """Of what is read outside of the site too; Sphinx checks the links of the site."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.skipif(not (ROOT / "build" / "docs").is_dir(), reason="the site is not built: make docs")
def test_the_site_needs_no_network():
    for page in (ROOT / "build" / "docs").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loads = re.findall(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//[^"'>]*""", text)
        loads += re.findall(r"""<link[^>]*rel=["']?stylesheet[^>]*href=["']?(?:https?:)?//[^"'>]*""", text)
        assert loads == [], page
    for style in (ROOT / "build" / "docs").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style
