"""Equivariant layers on node features (N, (lmax+1)², C) and edges; no files, no training."""

from molformer.nn.attention import SE3Attention, smooth_softmax
from molformer.nn.edges import EdgeEmbedding, Edges
from molformer.nn.feed_forward import GatedFeedForward
from molformer.nn.full_kernel import FullConvolution
from molformer.nn.inputs import EdgeInputs, NodeInputs
from molformer.nn.linear import DegreeLinear
from molformer.nn.norm import EquivariantRMSNorm
from molformer.nn.radial import BesselBasis, PolynomialEnvelope
from molformer.nn.readout import (
    AtomClassHead,
    AtomHead,
    AtomVectorHead,
    ChargesHead,
    ClassHead,
    ExtensiveHead,
    Head,
    ScalarHead,
    TensorHead,
    VectorHead,
)
from molformer.nn.so2 import EdgeConvolution, SeparableConvolution
from molformer.nn.stochastic_depth import StochasticDepth
