"""Tries an installed molformer that has its core dependencies alone: run by the Python that it is installed in.

python .ci/check_wheel.py
"""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SMILES = [f"C1{'C' * size}{atom}1" for size in range(2, 10) for atom in ("", "O", "N", "NC(=O)")]
MISSING = {"fastapi": "serve", "wandb": "wandb", "optuna": "tune", "pyarrow": "parquet", "h5py": "hdf5"}


def molformer(*words: str, status: int = 0) -> str:
    """What a command prints, on both streams; it must end as is expected."""
    command = [sys.executable, "-m", "molformer", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    print("$ molformer", *words, flush=True)
    output = done.stdout + done.stderr
    assert done.returncode == status, f"exit status {done.returncode}\n{output}"
    assert "Traceback" not in output, output
    return output


def main() -> None:
    """Predict, train, evaluate and copy from a folder that has nothing of the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MOLFORMER_CACHE"] = folder
        print(f"molformer {importlib.metadata.version('molformer')}, Python {sys.version.split()[0]}")
        lines = [f"{one},{len(one)}" for one in SMILES]
        Path("mols.csv").write_text("\n".join(["smiles,logS", *lines, ""]), encoding="utf-8")

        assert "homo" in molformer("predict", "CCO")
        assert "table" in molformer("configs", "list")
        molformer("configs", "copy", "table")
        small = ("--epochs", "1", "--channels", "8", "--num_layers", "1", "--num_heads", "2")
        molformer("train", "table.yaml", "--data", "mols.csv", "--run", "runs/first", *small)
        molformer("train", "configs/table.yaml", "--data", "mols.csv", "--run", "runs/second", *small)
        molformer("evaluate", "runs/first", "mols.csv", "--target", "logS")
        assert "there is no" in molformer("train", "configs/qm9.yaml", status=2)  # its data
        molformer("notebooks", "-o", "examples")
        assert Path("examples/data/gfn2.safetensors").is_file()
        assert (Path("examples/notebooks") / "01_predict.ipynb").is_file()

        absent = {name for name in MISSING if importlib.util.find_spec(name) is None}
        if "fastapi" in absent:
            assert "pip install 'molformer[serve]'" in molformer("serve", status=2)
        if "optuna" in absent:
            vary = ("--vary", "channels=8,16")
            assert "molformer[tune]" in molformer("tune", "table", "--data", "mols.csv", *vary, status=2)
        if "wandb" in absent:
            assert "molformer[wandb]" in molformer("train", "--resume", "runs/first", "--epochs", "2")
        if "pyarrow" in absent:
            assert "molformer[parquet]" in molformer("predict", "CCO", "-o", "out.parquet", status=2)
        print(f"sound; not installed here: {', '.join(sorted(absent)) or 'nothing'}")


if __name__ == "__main__":
    main()
