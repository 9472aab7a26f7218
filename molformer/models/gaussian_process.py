"""Gaussian process on descriptors, joined to the readout: f(d) = Σ_i α_i k(d, d_i).

The kernel k is a mean of min-max (Tanimoto) kernels of counts of substructures (Ralaivola et al. 2005,
doi 10.1016/j.neunet.2005.07.009) and of a Gaussian of RDKit's descriptors; d_i are molecules of the training part. The
weights α are solved for in closed form, see `training.gaussian_process`; the network learns what is left. Letters: B
graphs, D descriptors, F fingerprints, S molecules of the training part (the support), T numbers of all targets.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from molformer.errors import InputError
from molformer.graph import GraphBatch
from molformer.models.descriptors import DescriptorReadout, DescriptorSet
from molformer.targets import Label

LEVELS = 8  # counts of a substructure above this are taken as this


class GaussianProcess(DescriptorReadout):
    """See the module, and `DescriptorReadout`."""

    entries: Tensor
    sums: Tensor
    support: Tensor
    width: Tensor
    mix: Tensor
    weights: Tensor
    gain: Tensor
    offset: Tensor

    def __init__(self, descriptors: DescriptorSet, targets: Sequence[Label]) -> None:
        super().__init__(descriptors, targets)
        rows, fingerprints, total = descriptors.support, len(descriptors.fingerprints), sum(self.sizes.values())
        self.register_buffer("entries", torch.zeros(2, descriptors.entries, dtype=torch.int32))
        self.register_buffer("sums", torch.zeros(fingerprints, rows))
        shapes = {"support": (rows, len(descriptors.names)), "width": (), "mix": (fingerprints + 1,)}
        shapes |= {"weights": (rows, total), "gain": (total,), "offset": (total,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_load_state_dict_post_hook(_check)

    def set_support(self, inputs: Tensor) -> None:
        """Take molecules of the training part, by their descriptors (S, D); `descriptors` then tells their number."""
        unary = self._unary(inputs)
        self.entries = unary.flatten(0, 1).nonzero().T.int()  # row of F S, column of one fingerprint's unary counts
        self.sums = unary.sum(-1).float()
        self.support = self._of_rdkit(inputs)
        if self.support.shape[1]:
            self.width = torch.cdist(self.support, self.support).square().median().clamp(min=1e-3)
        self.weights = self.weights.new_zeros(len(inputs), self.weights.shape[1])
        self.descriptors = replace(self.descriptors, support=len(inputs), entries=self.entries.shape[1])

    def kernels(self, inputs: Tensor) -> Tensor:
        """Of each fingerprint and of RDKit's descriptors (B, D), with the support: (F+1, B, S)."""
        unary = self._unary(inputs)  # (F, B, U)
        found = inputs.new_zeros(len(self.mix), len(inputs), len(self.support), dtype=torch.float32)
        rows, columns = self.entries.long()
        for index, (counts, sums) in enumerate(zip(unary, self.sums, strict=True)):
            own = rows // len(sums) == index
            places = torch.stack([rows[own] - index * len(sums), columns[own]])
            size = (len(sums), counts.shape[1])
            support = torch.sparse_coo_tensor(places, torch.ones_like(places[0]).float(), size, check_invariants=True)
            shared = torch.sparse.mm(support, counts.T.float()).T
            found[index] = shared / (counts.sum(-1, keepdim=True) + sums - shared).clamp(min=1)
        if self.support.shape[1]:
            found[-1] = (-torch.cdist(self._of_rdkit(inputs), self.support).square() / self.width).exp()
        return found

    def values(self, inputs: Tensor) -> Tensor:
        """F of descriptors (B, D) for all targets (B, T), 0 where all are missing."""
        found = torch.einsum("f,fbs,st->bt", self.mix, self.kernels(inputs), self.weights)
        return torch.where(inputs.isnan().all(1, keepdim=True), 0.0, self.gain * found + self.offset)

    def columns(self, x: Tensor, graph: GraphBatch) -> Tensor:
        """See `DescriptorReadout.columns`; a batch may bring the values along, after its D descriptors."""
        if graph.descriptors is None:
            raise InputError(
                "the model takes descriptors of each molecule, which this batch lacks: use a Predictor, or give the "
                "structures theirs by molformer.data.descriptors.with_inputs"
            )
        inputs, values = graph.descriptors.tensor_split([len(self.descriptors)], dim=1)
        return values if values.shape[1] else self.values(inputs)

    def _unary(self, inputs: Tensor) -> Tensor:
        """Whether a count is larger than 0, 1, … of each fingerprint (F, B, U), so that shared ones are a product."""
        counts = inputs[:, len(self.descriptors.names) :, None] > torch.arange(LEVELS, device=inputs.device)
        shape = len(inputs), len(self.descriptors.fingerprints), LEVELS * self.descriptors.bits
        return counts.view(shape).transpose(0, 1)

    def _of_rdkit(self, inputs: Tensor) -> Tensor:
        return self.standardised(inputs)[:, : len(self.descriptors.names)].float()


def _check(process: nn.Module, _: object) -> None:
    """Refuse entries that no fingerprint has, before they are used as addresses."""
    assert isinstance(process, GaussianProcess)
    size = torch.tensor([process.sums.numel(), LEVELS * process.descriptors.bits], device=process.entries.device)
    if not ((process.entries >= 0) & (process.entries < size[:, None])).all():
        raise ValueError("an entry of a fingerprint is out of range")
