"""The server under unfair load, and programs that are killed: `python -m benchmarks.soak [--quick]`; ends with 1 if
something was lost.

Load: 48 clients that ask for one small molecule after the other, without and with two clients that ask for a peptide of
243 atoms, which takes seconds to embed; then clients that leave before their answer. Kill: processes of the server, the
server itself while its workers are busy or stopped, and predictions and imports that go on afterwards and must end with
the file of a run that was not killed. Only the loopback device is used. Figures: docs/security.md.
"""

import asyncio
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks import machine, report
from benchmarks.predict import sample

FAST, PEPTIDES = 48, 2
ELEMENTS = (1, 6, 7, 8, 9)  # of the shipped model
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
        async with httpx.AsyncClient(base_url=address, timeout=120) as client:
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


def main() -> None:
    """Print the figures."""
    arguments = report.arguments(__doc__, ("--only", {"choices": ["load", "kill"], "help": "a part"}))
    print(machine.describe(arguments.threads) + "\n", flush=True)
    rows, wrong = measure_load(15 if arguments.quick else 60)
    print(report.table(["what", "figure"], rows))
    if wrong:
        sys.exit("not as it must be: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
