"""The server under many clients: `python -m benchmarks.serve [--quick] [--model FOLDER]`.

A server in a process of its own, and clients that each ask for one molecule after another: one client alone, then 50 at
once, then a burst of malformed requests with a good one after it. Without --model it is the preset `small` with random
weights, on which speed does not depend.
"""

import asyncio
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import machine, report
from benchmarks.predict import sample, write_model
from molformer.models.property import load_model

CLIENTS = 50
MALFORMED = (b"", b"\x00\xff" * 200, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
BODIES = (b"{", b'{"molecules": 1}', b'{"molecules": ["C1CC", "["]}', b"[" * 1000)


@contextmanager
def server(model: str) -> Iterator[str]:
    """The address of a server that runs for a while."""
    command = [sys.executable, "-m", "molformer", "serve", "--model", model, "--port", "0"]
    with subprocess.Popen(command, cwd=machine.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not (found := re.search(r"http://\S+:\d+", said)):
            line = process.stdout.readline()
            assert line, "the server ended before it listened"
            said += line
        yield found[0]
        process.terminate()


async def ask(address: str, smiles: Sequence[str], clients: int) -> list[float]:
    """Seconds that each of some requests took, shared out among clients that ask at the same time."""
    import httpx

    async with httpx.AsyncClient(base_url=address, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def one(mine: Sequence[str]) -> list[float]:
            times = []
            for text in mine:
                start = time.perf_counter()
                answer = await client.post("/predict", json={"molecules": [text]})
                times.append(time.perf_counter() - start)
                assert answer.status_code == 200, answer.text
                row = answer.json()["rows"][0]
                assert row["name"] == text
                assert row["status"] in ("ok", "out_of_domain"), row  # what is refused costs nothing
            return times

        parts = await asyncio.gather(*(one(smiles[start::clients]) for start in range(clients)))
    return [seconds for part in parts for seconds in part]


async def burst(address: str, count: int) -> int:
    """Send malformed requests, on the wire and as bodies; gives how many."""
    import httpx

    host, port = address.removeprefix("http://").split(":")
    for index in range(count):
        with socket.create_connection((host, int(port))) as wire:
            wire.sendall(MALFORMED[index % len(MALFORMED)])
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for index in range(count):
            await client.post("/predict", content=BODIES[index % len(BODIES)])
    return 2 * count


def molecules_a_pass(address: str) -> tuple[float, float]:
    """Molecules that went through the model so far, and passes."""
    import httpx

    text = httpx.get(f"{address}/metrics").text
    found = [re.search(rf"^molformer_batch_molecules_{name} (\S+)$", text, re.MULTILINE) for name in ("sum", "count")]
    total, count = (float(match[1]) for match in found if match)
    return total, count


def measure(address: str, each: int, elements: Sequence[int]) -> list[list[str]]:
    """The rows of the table, of molecules of some elements."""
    smiles = sample(CLIENTS * each, elements)
    asyncio.run(ask(address, smiles[:2], 1))
    alone = asyncio.run(ask(address, smiles[::each], 1))
    before, start = molecules_a_pass(address), time.perf_counter()
    together = asyncio.run(ask(address, smiles, CLIENTS))
    seconds, after = time.perf_counter() - start, molecules_a_pass(address)
    sent = asyncio.run(burst(address, 5 * CLIENTS))
    last = asyncio.run(ask(address, smiles[:1], 1))
    passes = (after[0] - before[0]) / (after[1] - before[1])
    return [
        ["one client, a molecule after the other: median, 95 % below", _spread(alone)],
        [f"{CLIENTS} clients at once, {each} molecules each: median, 95 % below", _spread(together)],
        ["the longest of them", report.duration(max(together))],
        ["answered", f"{len(together)} of {len(smiles)}, {len(together) / seconds:.0f} a second"],
        ["molecules in a pass of the model", f"{passes:.1f}"],
        [f"a molecule after {sent} malformed requests", report.duration(last[0])],
    ]


def _spread(times: Sequence[float]) -> str:
    return f"{report.duration(statistics.median(times))}, {report.duration(statistics.quantiles(times, n=20)[-1])}"


def main() -> None:
    """Print the table."""
    arguments = report.arguments(
        __doc__, ("--model", {"type": Path, "help": "model or run folder; random weights if not given"})
    )
    print(machine.describe(arguments.threads) + "\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = str(arguments.model or folder)
        if arguments.model is None:
            write_model(folder)
        with server(model) as address:
            rows = measure(address, 2 if arguments.quick else 10, load_model(model, "cpu").domain.elements)
    print(report.table(["what", "figure"], rows))


if __name__ == "__main__":
    main()
