"""What a release says of itself agrees: version, metadata, links and what is in the wheel."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from molformer.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def release_check():
    spec = importlib.util.spec_from_file_location("release_check", ROOT / ".ci" / "release_check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_readme_is_short_and_says_what_this_is_not():
    assert len(README.splitlines()) <= 150
    assert "not IBM's MoLFormer" in " ".join(README.split())


def test_the_page_of_the_package_index_has_absolute_links(release_check):
    page = release_check.for_index(README, "https://example.org/molformer", "1.2.3")
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert all(target.startswith("https://") for target in targets)
    assert "![" in page
    assert "https://example.org/molformer/blob/v1.2.3/docs/get_started.md" in targets
    assert "https://example.org/molformer/raw/v1.2.3/docs/attention.png" in targets
    assert "<!--" not in page


def test_without_an_address_it_has_no_links_that_lead_nowhere(release_check):
    page = release_check.for_index(README, "", "1.2.3")
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", page))
    assert "![" not in page
    assert "get started" in page


def test_extras_are_not_core_dependencies():
    optional = ("serve", "wandb", "tune", "hub", "parquet", "hdf5", "notebooks", "docs")
    extras = [line for name in optional for line in PROJECT["optional-dependencies"][name]]
    core, extra = ({re.match(r"[\w-]+", line)[0] for line in lines} for lines in (PROJECT["dependencies"], extras))
    assert core.isdisjoint(extra)


def test_public_ci_covers_the_oldest_versions():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    tried = jobs["versions"]["strategy"]["matrix"]["include"]
    assert PROJECT["requires-python"] == f">={tried[0]['python']}"
    assert f"torch>={tried[0]['torch'].removeprefix('torch==').removesuffix('.*')}" in PROJECT["dependencies"]
    scripts = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "bash .ci/run" in scripts
    assert any(".ci/release_check.py" in script for script in scripts)
