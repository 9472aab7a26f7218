"""Speed and memory on a GPU: `python -m benchmarks.gpu [--quick]`.

The common size of `benchmarks.speed`, 240 molecules of 18 atoms, all pairs: in float32, TF32 and bfloat16, by plain
operations, by the fused kernels of Triton, by these in a CUDA graph that is replayed, and if wanted by torch.compile.
`floor/time` is as in `benchmarks.floor`, with what the card reaches in a large product of that precision and in a large
copy. Memory is the most that torch had allocated. Before the table stands by what share features and gradients of the
fused kernels differ from the plain ones.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from benchmarks import machine, report
from benchmarks.floor import floor_seconds
from benchmarks.own import ENERGY, FORCES, molecules
from benchmarks.peers.protocol import Mode, Request
from benchmarks.speed import COMMON, MODES, NARROW
from molformer.graph import GraphBatch
from molformer.kernels import use_kernels
from molformer.kernels.step_graphs import StepGraphs
from molformer.models import PropertyModel, SE3TransformerConfig

Precision = Literal["float32", "TF32", "bfloat16"]
By = Literal["plain", "compile", "triton", "triton, replayed"]

CONFIGS = {
    "separable SE(3)": SE3TransformerConfig(**COMMON, group="SE(3)"),
    "separable E(3)": SE3TransformerConfig(**COMMON, group="E(3)"),
    "separable SE(3), narrow": SE3TransformerConfig(**NARROW, group="SE(3)"),
    "full SE(3), narrow": SE3TransformerConfig(**NARROW, group="SE(3)", convolution="full"),
}
HEADER = ["model", "step", "precision", "by", "time", "molecules/s", "floor/time", "peak GB"]


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    mode: Mode
    precision: Precision
    by: By


def rows(quick: bool, compiled: bool = False) -> list[Row]:
    """All that go together: forces have neither fused kernels nor torch.compile, and a replay is a training step."""
    first, *others = CONFIGS
    return [
        Row(name, mode, precision, by)
        for name in ([first] if quick else [first, *others])
        for mode in MODES
        for precision in get_args(Precision)
        for by in get_args(By)
        if (precision != "bfloat16" or name == first)
        and (mode != "forces" or (by == "plain" and precision != "bfloat16" and name == first))
        and (by != "triton, replayed" or mode == "training")
        and (by != "compile" or (name == first and precision == "TF32" and compiled))
    ]


def in_precision(precision: Precision, device: str) -> AbstractContextManager[object]:
    """What a product is computed in."""
    torch.set_float32_matmul_precision("high" if precision == "TF32" else "highest")
    return torch.autocast(device, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def seconds_of(step: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a step, after two to warm up."""
    times = []
    for _ in range(repeats + 2):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def synchronise(device: str) -> None:
    """Wait until the card has done all that it was asked to."""
    if device == "cuda":
        torch.cuda.synchronize()


def reach(precision: Precision, device: str, size: int) -> machine.Reach:
    """What the card reaches in a product of two matrices (size, size) and in a copy of 16 such."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    source = torch.ones(16 * size * size, device=device)
    target = torch.empty_like(source)
    with in_precision(precision, device):
        product = seconds_of(lambda: a @ b, device, 10)
    return machine.Reach(
        2 * size**3 / product, 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device, 10)
    )


def network(config: SE3TransformerConfig, mode: Mode, by: By, device: str) -> PropertyModel:
    """With the same weights for the same config."""
    torch.manual_seed(0)
    model = PropertyModel(config, [ENERGY, FORCES] if mode == "forces" else [ENERGY]).to(device)
    use_kernels(model.encoder, "triton" if by.startswith("triton") else "plain")
    if by == "compile":
        for block in model.encoder.blocks:
            block.compile(dynamic=True)
    return model.train(mode != "forward")


def step_of(model: PropertyModel, graph: GraphBatch, mode: Mode, by: By) -> Callable[[], None]:
    """What is timed."""

    def losses(graph: GraphBatch) -> Tensor:
        return torch.stack([(value - 1).square().mean() for value in model(graph).values()]).sum()[None]

    def forward() -> None:
        with torch.no_grad():
            model(graph)

    def training() -> None:
        model.zero_grad(set_to_none=True)
        losses(graph).backward()

    if by == "triton, replayed":
        graphs = StepGraphs(model, losses)

        def replayed() -> None:
            model.zero_grad(set_to_none=True)
            src, dst, _ = model.encoder.find_edges(graph)
            graphs(replace(graph, src=src, dst=dst)).backward()

        return replayed
    return forward if mode == "forward" else training


def difference(config: SE3TransformerConfig, graph: GraphBatch, device: str) -> tuple[float, float]:
    """Largest difference of features, and of gradients, between fused kernels and plain operations, as shares."""
    results: list[list[Tensor]] = []
    for by in ("plain", "triton"):
        model = network(config, "training", by, device)
        with in_precision("float32", device):
            x = model.features(graph)
            x.square().mean().backward()
        results.append([x.detach(), model.encoder.blocks[0].attention.query.weight.grad])  # type: ignore[union-attr]
    of_features, of_gradients = (
        float((plain - fused).abs().max() / plain.abs().max()) for plain, fused in zip(*results, strict=True)
    )
    return of_features, of_gradients


def measure(row: Row, graph: GraphBatch, request: Request, reached: machine.Reach, device: str) -> list[str]:
    """A row of text."""
    start = [row.name, row.mode, row.precision, row.by]
    try:
        model = network(CONFIGS[row.name], row.mode, row.by, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with in_precision(row.precision, device):
            seconds = seconds_of(step_of(model, graph, row.mode, row.by), device, request.repeats)
    except Exception as error:  # a row that fails must not cost the others
        return [*start, f"not measured: {str(error).strip().splitlines()[0][:60]}", "", "", ""]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    nodes = request.molecules * request.atoms
    floor = floor_seconds(CONFIGS[row.name], nodes, request.edges, parameters, row.mode, reached)
    peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if device == "cuda" else ""
    speed = f"{request.molecules / seconds:,.0f}"
    return [*start, report.duration(seconds), speed, f"{100 * floor / seconds:.1f} %", peak]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; each row as soon as it is there, on standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one configuration")
    parser.add_argument("--compile", action="store_true", help="rows by torch.compile too, which take a minute each")
    parser.add_argument("--molecules", type=int, default=240, help="of a batch")
    parser.add_argument("--repeats", type=int, default=10, help="of each step")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu is to try the script")
    parser.add_argument("--matrix", type=int, default=8192, help="rows of the product that shows what is possible")
    options = parser.parse_args(arguments)
    device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "torch finds no GPU here\n")
    name = torch.cuda.get_device_name() if device == "cuda" else machine.processor()
    print(f"{name}, torch {torch.__version__}, {options.molecules} molecules of 18 atoms\n")
    request = Request(molecules=options.molecules, repeats=options.repeats)
    graph = molecules(request).to(device)
    reached = {precision: reach(precision, device, options.matrix) for precision in get_args(Precision)}
    for precision, value in reached.items():
        print(f"{precision}: product {value.flops / 1e12:.2f} TFLOP/s, copy {value.bandwidth / 1e9:.0f} GB/s")
    try:
        few = molecules(Request(molecules=2, atoms=6)).to(device)
        shares = difference(CONFIGS["separable SE(3)"], few, device)
        print(f"fused kernels, largest difference: features {shares[0]:.1e}, gradients {shares[1]:.1e}\n")
    except Exception as error:
        print(f"fused kernels: {str(error).strip().splitlines()[0]}\n")
    table = []
    for row in rows(options.quick, options.compile):
        table.append(measure(row, graph, request, reached[row.precision], device))
        report.progress("  ".join(table[-1]))
    report.progress("")
    print(report.table(HEADER, table))


if __name__ == "__main__":
    main()
