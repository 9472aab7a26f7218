import os
import signal
import subprocess
import sys

import pytest

from molformer.data.drafts import draft_folder, plain_field, writing
from molformer.errors import InputError, StoreError

HOLD = """
import sys, time
from pathlib import Path
from molformer.data.drafts import draft_folder
with draft_folder(Path(sys.argv[1])) as folder:
    (folder / "rows").write_text("1")
    print(folder.name, flush=True)
    time.sleep(60)
"""


def test_a_draft_is_removed_by_its_process_or_else_by_the_next_one(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a"], stdout=subprocess.PIPE, text=True)
    held = tmp_path / process.stdout.readline().strip()
    with draft_folder(tmp_path / "b") as own:
        assert held.is_dir()  # in use
        assert own.parent == tmp_path
    assert not own.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert held.is_dir()
    with draft_folder(tmp_path / "b"):
        assert not held.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError("no locks available")

    monkeypatch.setattr("molformer.data.drafts.fcntl.flock", no_locks)
    with draft_folder(tmp_path / "a") as first, draft_folder(tmp_path / "b"):
        assert first.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_says_is_one_line():
    with pytest.raises(StoreError, match="cannot write 'set': Is a directory"), writing("set", StoreError):
        open(os.curdir, "w")  # noqa: SIM115
    with pytest.raises(InputError, match="cannot write 'set'"), writing("set"):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1"])
def test_a_formula_is_a_text(text):
    assert plain_field(text) == f"'{text}"
    assert plain_field(f"x{text}") == f"x{text}"
