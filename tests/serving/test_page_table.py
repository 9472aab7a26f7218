"""The table that the page offers for download, in Node.js."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

import molformer

TABLE = Path(molformer.__file__).parent / "serving" / "page" / "table.js"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def downloaded(targets, rows):
    code = f"import {{ csv }} from {json.dumps(TABLE.as_uri())};"
    code += f"process.stdout.write(csv({json.dumps(targets)}, {json.dumps(rows)}));"
    command = ["node", "--input-type=module", "--no-warnings", "-e", code]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(csv.reader(io.StringIO(text)))


def test_texts_that_a_spreadsheet_would_run_are_no_formulas_in_the_download():
    gap = {"name": "=gap", "unit": "eV", "kind": "intensive", "classes": []}
    names = ['=HYPERLINK("http://evil.example")', "+1", "-C", "@SUM(A1)", "CCO", "a=b"]
    value = {"value": -1.5, "unit": "eV", "std": None, "interval": None}
    rows = [{"name": name, "formula": "C", "status": "ok", "message": "", "values": {"=gap": value}} for name in names]
    head, *found = downloaded([gap], rows)
    assert [row[0] for row in found] == ["'" + names[0], "'+1", "'-C", "'@SUM(A1)", "CCO", "a=b"]
    assert head[4] == "'=gap (eV)"
    assert {row[4] for row in found} == {"-1.5"}  # a number stays one
