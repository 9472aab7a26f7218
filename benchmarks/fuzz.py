"""Unsound inputs for every reader, store, model folder and endpoint: `python -m benchmarks.fuzz [--count N]`.

Each input is a sound one with some changes (see `fuzz_seeds`), given by the seed and its number alone. It must give
values or an error in one line: what ends a process, takes more than 10 s or 2 GB, raises anything but a
`MolformerError`, or makes the server fail, is printed with its number and left in build/fuzz. Ends with 1 if there is
any. Figures: docs/about/security.md.
"""

import argparse
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import fuzz_seeds, machine
from benchmarks.fuzz_seeds import mutated
from molformer.data.workers import WorkerDied, WorkerPool
from molformer.errors import MolformerError

SECONDS, BYTES = 10.0, 2 * 10**9
SHARES = {"read": 0.5, "import": 0.06, "predict": 0.1, "store": 0.12, "model": 0.1, "server": 0.12}
CHUNK = 20
FOLDER = machine.ROOT / "build" / "fuzz"


@cache
def _seeds(kind: str) -> Any:
    if kind == "store":
        return fuzz_seeds.store_seed()
    return fuzz_seeds.model_seed() if kind == "model" else fuzz_seeds.file_seeds()


@cache
def _predictor() -> Any:
    import torch

    from molformer.inference.models import default_model
    from molformer.inference.predictor import Predictor

    torch.set_num_threads(1)
    return Predictor.load(default_model(), "cpu")


def made(kind: str, seed: int, number: int) -> dict[str, bytes]:
    """The files of an input, by name."""
    draw = random.Random(f"{kind} {seed} {number}")
    if kind == "store":
        return {"set.safetensors": mutated(_seeds("store"), draw)}
    if kind == "model":
        files = dict(_seeds("model"))
        name = draw.choice(sorted(files))
        return {**files, name: mutated(files[name], draw)}
    seeds = _seeds("read")
    suffix = draw.choice([".xyz", ".extxyz", ".smi", ".csv", ".sdf"] if kind == "predict" else sorted(seeds))
    return {f"input{suffix}": mutated(seeds[suffix], draw)}


def used(kind: str, folder: Path) -> None:
    """Do with an input what the commands do with it.

    Raises:
        MolformerError: what is wrong with it.
    """
    from molformer.data.importing import import_inputs
    from molformer.data.readers import ReadOptions, format_of, read_file
    from molformer.data.store import StructureStore

    path = next(folder.iterdir())
    if kind == "read":
        options = ReadOptions(max_bytes=10**8)
        format_of(path).labels(path, options)
        for _ in zip(range(2000), read_file(path, options), strict=False):
            pass
    elif kind == "import":
        import_inputs([path], folder / "out", ReadOptions(max_bytes=10**8))
    elif kind == "predict":
        for _ in zip(range(50), _predictor().predict([path], processes=0), strict=False):
            pass
    elif kind == "store":
        store = StructureStore(path)
        store.verify()
        for structure in store:
            assert structure.formula
    elif kind == "model":
        from molformer.inference.predictor import Predictor

        Predictor.load(folder, "cpu").predict(["C"], processes=0)


def tried(task: tuple[str, int, int]) -> str:
    """What is wrong with how an input was taken; empty if nothing is. Run by a worker process."""
    kind, seed, number = task
    _seeds(kind)
    if kind in ("predict", "model"):
        _predictor()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in made(kind, seed, number).items():
            (Path(folder) / name).write_bytes(content)
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
        start = time.perf_counter()
        try:
            used(kind, Path(folder))
        except MolformerError as error:
            if "\n" in str(error):
                return f"an error of several lines: {str(error)!r:.200}"
        except MemoryError:
            raise
        except Exception as error:
            frames = [each for each in traceback.extract_tb(error.__traceback__) if "molformer/" in each.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
            return f"{type(error).__name__} at {place}: {str(error).splitlines()[:1]!r:.150}"
    if (seconds := time.perf_counter() - start) > SECONDS:
        return f"it took {seconds:.0f} s"
    peak = peak_memory("self")
    return "" if peak < BYTES else f"a process took {peak / 1e9:.1f} GB"


def peak_memory(process: object) -> int:
    """Bytes that a process has had in memory at most; 0 if it has ended."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text() if status.exists() else "")
    return 1024 * int(found[1]) if found else 0


def fuzz_files(counts: dict[str, int], seed: int, processes: int) -> dict[tuple[str, int], str]:
    """What was wrong, by kind and number."""
    wrong: dict[tuple[str, int], str] = {}
    with WorkerPool(tried, processes, SECONDS + 10, memory=6 * BYTES) as pool:  # more, to start and import
        chunks = []
        for kind, count in counts.items():
            tasks = [(kind, seed, number) for number in range(count)]
            chunks += [tasks[start : start + CHUNK] for start in range(0, count, CHUNK)]
        for chunk, future in [(chunk, pool.submit(chunk)) for chunk in chunks]:
            for (kind, _, number), outcome in zip(chunk, future.result(), strict=True):
                if reason := f"a process died: {outcome.reason}" if isinstance(outcome, WorkerDied) else outcome:
                    wrong[kind, number] = reason
    return wrong


def request_of(seed: int, number: int) -> tuple[str, dict[str, Any]]:
    """A request, by its path and what `httpx` is to send."""
    draw = random.Random(f"server {seed} {number}")
    if number % 2:
        suffix, content = draw.choice(sorted(_seeds("read").items()))
        if draw.random() < 0.1:
            suffix = draw.choice((".gz", suffix + ".gz", "", ".exe", "/../x.xyz"))
        return "/predict/file", {"files": {"file": ("input" + suffix, mutated(content, draw))}}
    body = mutated(draw.choice(fuzz_seeds.body_seeds()), draw)
    return draw.choice(("/predict", "/explain")), {"content": body, "headers": {"content-type": "application/json"}}


def fuzz_server(count: int, seed: int) -> dict[tuple[str, int], str]:
    """What was wrong with the answers of a server, by number."""
    import httpx

    from benchmarks.soak import server

    wrong: dict[tuple[str, int], str] = {}
    with server("--seconds", str(SECONDS - 1), "--processes", "2") as (address, process):
        with httpx.Client(base_url=address, timeout=SECONDS) as client, ThreadPoolExecutor(4) as threads:

            def ask(number: int) -> None:
                path, options = request_of(seed, number)
                try:
                    answer = client.post(path, **options)
                    if answer.status_code >= 500:
                        wrong["server", number] = f"{path} answers {answer.status_code}: {answer.text:.150}"
                except httpx.HTTPError as error:
                    wrong["server", number] = f"{path}: {type(error).__name__}"

            list(threads.map(ask, range(count)))
            if process.poll() is not None or client.get("/health").status_code != 200:
                wrong["server", count] = "the server does not work any more"
        if (peak := peak_memory(process.pid)) > BYTES:
            wrong["server", count] = f"the server took {peak / 1e9:.1f} GB"
    return wrong


def main() -> None:
    """Try the inputs and print what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=SHARES, help="one kind")
    options = parser.parse_args()
    shares = {options.only: 1.0} if options.only else SHARES
    counts = {kind: round(options.count * share) for kind, share in shares.items()}
    start = time.perf_counter()
    requests = counts.pop("server", 0)
    wrong = fuzz_files(counts, options.seed, options.processes)
    if requests:
        wrong |= fuzz_server(requests, options.seed)
        counts["server"] = requests
    shown: Counter[str] = Counter()
    for (kind, number), reason in sorted(wrong.items()):
        if kind != "server":
            folder = FOLDER / f"{kind}-{options.seed}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in made(kind, options.seed, number).items():
                (folder / name).write_bytes(content)
        signature = f"{kind} {reason[:40]}"
        if not shown[signature]:
            print(f"{kind} {number}: {reason}")
        shown[signature] += 1
    seconds = time.perf_counter() - start
    numbers = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{sum(counts.values())} inputs ({numbers}), seed {options.seed}, {seconds:.0f} s: {len(wrong)} wrong")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    from benchmarks.fuzz import main as run  # workers look for its functions under that name

    run()
