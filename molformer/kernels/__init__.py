"""How the messages of attention are computed: one interface (`nn.attention.AttentionKernel`), one dispatcher."""

from molformer.kernels.dispatch import Dispatcher, Kernels, use_kernels
