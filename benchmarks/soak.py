"""The server under unfair load, and programs that are killed: `python -m benchmarks.soak [--quick] [--only PART]`.

Load: 48 clients that ask for one small molecule after the other, without and with two clients that ask for a peptide of
243 atoms, which takes seconds to embed; then clients that leave before their answer. Kill: processes of the server, the
server itself while its workers are busy or stopped, and predictions and imports that go on afterwards and must end with
the rows of a run that was not killed. Only the loopback device is used. Ends with 1 if something was lost. Figures:
docs/about/security.md.
"""

import asyncio
import csv
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import machine, report
from benchmarks.predict import sample

FAST, PEPTIDES = 48, 2
ELEMENTS = (1, 6, 7, 8)  # of the shipped model
ANSWERED, SLOWER = 0.98, 3.0
"""Share of the fast clients' requests that must be answered, and the factor by which their p95 may grow."""

MOLFORMER = (sys.executable, "-m", "molformer")


def peptide(seed: int, atoms: int = 243) -> str:
    """A SMILES of a peptide of random residues of H, C, N and O with so many atoms, or a few more."""
    from rdkit import Chem

    draw, sequence = random.Random(seed), ""
    while True:
        sequence += draw.choice("AGSTVLINQDEFYKRPW")
        mol = Chem.MolFromSequence(sequence)
        if Chem.AddHs(mol).GetNumAtoms() >= atoms:
            return Chem.MolToSmiles(mol)


@contextmanager
def server(*options: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of a server, and its process."""
    command = [*MOLFORMER, "serve", "--port", "0", *options]
    with subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"http://\S+:\d+", said)):
            line = process.stdout.readline()
            assert line, "the server ended before it listened"
            said += line
        try:
            yield found[0], process
        finally:
            process.kill()


async def load(address: str, seconds: float, peptides: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Status and seconds of each request of the fast clients, and of those that ask for peptides."""
    import httpx

    small, end = sample(400, ELEMENTS), time.perf_counter() + seconds
    fast: list[tuple[int, float]] = []
    slow: list[tuple[int, float]] = []

    async def ask(smiles: Iterator[str], found: list[tuple[int, float]]) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=120, verify=False) as client:
            while time.perf_counter() < end:
                start = time.perf_counter()
                answer = await client.post("/predict", json={"molecules": [next(smiles)]})
                found.append((answer.status_code, time.perf_counter() - start))

    def shuffled(seed: int) -> Iterator[str]:
        draw = random.Random(seed)
        while True:
            yield draw.choice(small)

    clients = [ask(shuffled(index), fast) for index in range(FAST)]
    clients += [ask(map(peptide, range(1000 * index, 10**9)), slow) for index in range(peptides)]
    await asyncio.gather(*clients)
    return fast, slow


def p95(found: Sequence[tuple[int, float]]) -> float:
    """Of the seconds of those that were answered."""
    return statistics.quantiles([seconds for status, seconds in found if status == 200], n=20)[-1]


def measure_load(seconds: float) -> tuple[list[list[str]], list[str]]:
    """Rows of the table, and what is not as it must be."""
    rows, wrong = [], []
    with server() as (address, _):
        asyncio.run(load(address, 3, 1))  # all workers have started
        alone, _nothing = asyncio.run(load(address, seconds, 0))
        fast, slow = asyncio.run(load(address, seconds, PEPTIDES))
        for name, found in ((f"{FAST} fast clients alone", alone), (f"with {PEPTIDES} peptide clients", fast)):
            good = sum(status == 200 for status, _ in found)
            share, rate = f"{good} of {len(found)} ({good / len(found):.1%})", f"{good / seconds:.0f} a second"
            median = statistics.median(each for _, each in found)
            rows.append([name, f"{share}, {rate}, median {report.duration(median)}, p95 {report.duration(p95(found))}"])
            if good < ANSWERED * len(found):
                wrong.append(f"{name}: {share} answered")
        done = [each for status, each in slow if status == 200]
        longest = report.duration(max(done)) if done else "-"
        rows.append(["peptides", f"{len(done)} of {len(slow)}, the longest {longest}"])
        if p95(fast) > SLOWER * p95(alone):
            wrong.append(f"p95 is {p95(fast) / p95(alone):.1f} times that without peptides")
    return rows, wrong


def measure_server_kills(rounds: int) -> tuple[list[list[str]], list[str]]:
    """A server whose processes are killed, whose clients leave, and which is told to end while its workers hang."""
    import httpx

    rows, wrong = [], []
    small, draw = sample(100, ELEMENTS), random.Random(0)
    with server("--seconds", "20", "--processes", "2") as (address, process):
        with httpx.Client(base_url=address, timeout=60) as client:
            good = 0
            for _ in range(rounds):
                if workers := children(process.pid):
                    os.kill(draw.choice(workers), signal.SIGKILL)
                answer = client.post("/predict", json={"molecules": draw.sample(small, 4)})
                good += answer.status_code == 200 and all(row["values"] for row in answer.json()["rows"])
            rows.append(["requests while a worker is killed before each", f"{good} of {rounds} answered in full"])
            for number in range(rounds):
                body = f'{{"molecules": ["{peptide(number)}"]}}'
                with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as wire:
                    head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
                    wire.sendall(f"{head}content-type: application/json\r\n\r\n{body}".encode())
            start = time.perf_counter()
            while "molformer_waiting_molecules 0.0" not in client.get("/metrics").text:
                time.sleep(0.05)
            given_up = report.duration(time.perf_counter() - start)
            rows.append([f"work of {rounds} clients that left with a peptide", f"given up after {given_up}"])
            if good < rounds:
                wrong.append("a request failed because a worker was killed")
            if time.perf_counter() - start > 5:
                wrong.append("work of clients that left goes on")
            for worker in children(process.pid):
                os.kill(worker, signal.SIGSTOP)
            with suppress(httpx.TimeoutException):
                client.post("/predict", json={"molecules": ["CCO"]}, timeout=1)
        start = time.perf_counter()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        rows.append(["end of a server whose workers have stopped", report.duration(time.perf_counter() - start)])
        if process.returncode is None:
            wrong.append("the server does not end")
    return rows, wrong


def measure_command_kills(rounds: int) -> tuple[list[list[str]], list[str]]:
    """Predictions and imports that are killed at any time and begun again, against those that are not."""
    rows, wrong = [], []
    draw = random.Random(0)
    for name, more in (("predict", ("--resume", "--keep-going")), ("data import", ())):
        with tempfile.TemporaryDirectory() as folder:
            inputs = Path(folder) / "in.smi"
            inputs.write_text("\n".join([*sample(150, ELEMENTS), "nonsense"]) + "\n")
            outputs = [Path(folder) / part / f"out.{'csv' if name == 'predict' else 'safetensors'}" for part in "ab"]
            for output in outputs:
                output.parent.mkdir()
            start = time.perf_counter()
            _run([*name.split(), str(inputs), "-o", str(outputs[0])], None)
            whole = time.perf_counter() - start
            kills = 0
            for _ in range(rounds):
                kills += _run([*name.split(), str(inputs), "-o", str(outputs[1]), *more], whole * draw.random())
            _run([*name.split(), str(inputs), "-o", str(outputs[1]), *more], None)
            same = _content(outputs[0]) == _content(outputs[1])
            left = {path.name for path in outputs[1].parent.iterdir()} - {
                path.name for path in outputs[0].parent.iterdir()
            }
            figure = f"{kills} kills, {'the same' if same else 'ANOTHER'} result, {len(left)} files left over"
            rows.append([f"molformer {name}", figure])
            if left or not same:
                wrong.append(f"{name}: {figure}, {sorted(left)}")
    return rows, wrong


def children(process: int) -> list[int]:
    """Processes that a process has started and that live."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _run(arguments: Sequence[str], seconds: float | None) -> int:
    """Run a command, or kill it after some seconds; 1 if it was killed."""
    command = [*MOLFORMER, *arguments]
    with subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return 1
    return 0


def _content(path: Path) -> list[list[str]]:
    """Rows of a table, numbers to four digits, or the structures of a store."""
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return [[f"{float(cell):.4g}" if _is_number(cell) else cell for cell in row] for row in csv.reader(file)]
    from molformer.data.store import StructureStore

    store = StructureStore(path)
    store.verify()
    return [[structure.name, structure.formula, str(structure.pos.round(3).tolist())] for structure in store]


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell) is not None


def main() -> None:
    """Print the figures."""
    arguments = report.arguments(__doc__, ("--only", {"choices": ["load", "kill"], "help": "a part"}))
    print(machine.describe(arguments.threads) + "\n", flush=True)
    parts = []
    if arguments.only != "kill":
        parts.append(measure_load(15 if arguments.quick else 60))
    if arguments.only != "load":
        parts.append(measure_server_kills(10 if arguments.quick else 30))
        parts.append(measure_command_kills(3 if arguments.quick else 10))
    print(report.table(["what", "figure"], [row for rows, _ in parts for row in rows]))
    if wrong := [each for _, several in parts for each in several]:
        sys.exit("not as it must be: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
