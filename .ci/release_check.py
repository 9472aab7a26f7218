"""Builds the release and checks metadata, contents, known vulnerabilities, and the wheel in a clean environment.

python .ci/release_check.py [--repository https://…] [--constraint constraints.txt]

With the address of the repository the package index gets [project.urls], and absolute links in the README. Without one,
links to files are left out there, since they would lead nowhere.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "release"


def prepare(repository: str, version: str) -> Path:
    """A copy of the tracked files, with the README and the metadata as the package index is to have them."""
    source = BUILD / "source"
    shutil.rmtree(BUILD, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    readme = source / "README.md"
    readme.write_text(for_index(readme.read_text(encoding="utf-8"), repository, version), encoding="utf-8")
    if repository:
        tree, file_at = f"{repository}/tree/v{version}", f"{repository}/blob/v{version}"
        urls = {"Repository": repository, "Documentation": f"{tree}/docs", "Changelog": f"{file_at}/CHANGELOG.md"}
        lines = [f'{name} = "{address}"' for name, address in urls.items()]
        with (source / "pyproject.toml").open("a", encoding="utf-8") as file:
            file.write("\n".join(["", "[project.urls]", *lines, ""]))
    return source


def for_index(text: str, repository: str, version: str) -> str:
    """The README with absolute links, or without those to files if there is no address; no comments."""
    text = re.sub(r"^<!--.*?-->\n", "", text, flags=re.M)
    link = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)]+)\)")

    def absolute(found: re.Match[str]) -> str:
        picture, label, path = found.groups()
        if not repository:
            return "" if picture else label
        return f"{picture}[{label}]({repository}/{'raw' if picture else 'blob'}/v{version}/{path})"

    return link.sub(absolute, text)


def run(*words: object) -> None:
    """Run a tool; stop where it fails."""
    print("$", *words, flush=True)
    subprocess.run([str(word) for word in words], check=True)


def audit(python: Path) -> None:
    """Known vulnerabilities of what was installed; passed over where the service does not answer."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    packages = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze", "--exclude", "molformer"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    listed = BUILD / "installed.txt"
    listed.write_text(re.sub(r"\+\w+$", "", packages, flags=re.M), encoding="utf-8")
    try:
        done = subprocess.run(
            [*command, "--no-deps", "--disable-pip", "-r", listed],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        found = [one for one in json.loads(done.stdout)["dependencies"] if one.get("vulns")]
    except (json.JSONDecodeError, subprocess.TimeoutExpired):
        print("pip-audit: the service of vulnerabilities did not answer; not audited")
        return
    for one in found:
        print(f"pip-audit: {one['name']} {one['version']}: {', '.join(each['id'] for each in one['vulns'])}")
    assert not found, "some of what is installed has known vulnerabilities"
    print("pip-audit: no known vulnerabilities")


def main() -> None:
    """Build and check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repository", default="", help="address of the repository, without a slash at the end")
    parser.add_argument("--constraint", default="", help="versions for the clean environment")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONPATH", None)
    version = re.search(r'__version__ = "(.+)"', (ROOT / "molformer" / "version.py").read_text())[1]  # type: ignore[index]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]  # type: ignore[index]
    assert cited == version, f"CITATION.cff has version {cited}, molformer/version.py {version}"
    source = prepare(arguments.repository.rstrip("/"), version)
    run(sys.executable, "-m", "build", "--outdir", BUILD / "dist", source)
    files = sorted((BUILD / "dist").iterdir())
    wheel = next(path for path in files if path.suffix == ".whl")
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    run(sys.executable, "-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel)
    run(sys.executable, "-m", "venv", BUILD / "clean")
    python = BUILD / "clean" / "bin" / "python"
    versions = ["--constraint", arguments.constraint] if arguments.constraint else []
    run(python, "-m", "pip", "install", "--quiet", *versions, wheel)
    run(python, ROOT / ".ci" / "check_wheel.py")
    audit(python)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.M):
        print(f"before tagging v{version}: CHANGELOG.md has no dated section [{version}]")
    if not arguments.repository:
        print("before publishing: name the repository, make release-check REPOSITORY=https://…")


if __name__ == "__main__":
    main()
