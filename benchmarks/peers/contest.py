"""A contest: every package learns the same number of the same molecules with the same loop for the same time.

Like `protocol`, this runs in the peer's environment and needs nothing but torch and numpy. The loop: AdamW, absolute
error of the standardised label, the rate up within a twentieth of the time and down to zero along a cosine of the
clock, gradients clipped at 10, an exponential average of the weights, which is what is tested.
Letters: N atoms, B molecules.
"""

import copy
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.peers import protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    Values = Callable[[Tensor, Tensor, Tensor], Tensor]
    """From numbers (N,), positions (N, 3) and the molecule of each atom (N,) to a value of each molecule (B,)."""
    Network = tuple[nn.Module, Values]
    Build = Callable[[dict[str, Any]], Network]
    """A network from what a contest's options say."""

DECAY = 0.999
"""Of the average; less at the beginning, as after t steps it is at most t / (t + 9)."""


@dataclass(frozen=True)
class Contest:
    """What is to be learnt.

    Args:
        file: NPZ with `numbers` (N,), `pos` (N, 3), `ptr` (B+1,), `label` (B,), `train` and `test`, which are indices.
        seconds: of training.
        rate: highest learning rate.
        batch: molecules a step.
        threads: of torch.
        seed: of the weights and the order of the molecules.
        clock: by which the seconds are.
        options: what else a program understands.
    """

    file: str
    seconds: float
    rate: float
    batch: int = 32
    threads: int = 1
    seed: int = 0
    clock: protocol.Clock = "wall"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came of it.

    Args:
        error: mean absolute error of the test molecules, in the unit of the label.
        half_width: of its 95 % interval, from the spread of the errors.
        seen: molecules that were learnt from, with repetitions.
        parameters: trainable numbers.
    """

    error: float
    half_width: float
    seen: int
    parameters: int


def run(contest: Contest, network: "Build") -> Result:
    """Train and test one network."""
    import numpy as np
    import torch

    torch.set_num_threads(contest.threads)
    torch.manual_seed(contest.seed)
    module, values = network(contest.options)
    data = dict(np.load(contest.file))
    label, train = data["label"], data["train"]
    middle, spread = float(label[train].mean()), float(label[train].std())
    optimizer = torch.optim.AdamW(module.parameters(), contest.rate, weight_decay=0.01)
    average = copy.deepcopy(module.state_dict())
    generator = np.random.default_rng(contest.seed)
    now = protocol.clock(contest.clock)
    start, steps, told = now(), 0, 0.0
    while (share := (now() - start) / contest.seconds) < 1:
        for rows in _batches(generator.permutation(train), contest.batch):
            share = (now() - start) / contest.seconds
            if share >= 1:
                break
            rate = contest.rate * min(20 * share, 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            wanted = torch.as_tensor((label[rows] - middle) / spread, dtype=torch.float32)
            loss = (values(*_inputs(data, rows)).float() - wanted).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
            optimizer.step()
            steps += 1
            keep = min(DECAY, steps / (steps + 9))
            for name, value in module.state_dict().items():
                average[name].copy_(average[name].lerp(value, 1 - keep) if value.is_floating_point() else value)
            if share > told:
                print(f"{100 * share:.0f} %  loss {spread * loss.item():.4f}", file=sys.stderr, flush=True)
                told = share + 0.1
    module.load_state_dict(average)
    module.eval()
    errors = []
    with torch.no_grad():
        for rows in _batches(data["test"], 2 * contest.batch):
            errors.append(middle + spread * values(*_inputs(data, rows)).double().numpy() - label[rows])
    found = np.abs(np.concatenate(errors))
    parameters = sum(parameter.numel() for parameter in module.parameters())
    half_width = 1.96 * float(found.std()) / math.sqrt(len(found))
    return Result(float(found.mean()), half_width, steps * contest.batch, parameters)


def answer(network: "Build", build: Callable[[protocol.Request], protocol.Work]) -> None:
    """What a program does that can take part and be measured: as it is asked, with the result as the last line."""
    asked = json.loads(sys.argv[1])
    if "file" in asked:
        print(json.dumps(asdict(run(Contest(**asked), network))))
    else:
        protocol.answer(build)


def _batches(rows, size: int) -> Iterator:  # type: ignore[no-untyped-def]
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _inputs(data, rows) -> "tuple[Tensor, Tensor, Tensor]":  # type: ignore[no-untyped-def]
    import numpy as np
    import torch

    starts, sizes = data["ptr"][rows], data["ptr"][rows + 1] - data["ptr"][rows]
    batch = np.repeat(np.arange(len(rows)), sizes)
    atoms = np.arange(len(batch)) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)
    numbers, pos = data["numbers"][atoms], data["pos"][atoms]
    return torch.as_tensor(numbers), torch.as_tensor(pos, dtype=torch.float32), torch.as_tensor(batch)
