"""The published SE(3)-Transformer: its network, and the layers that it alone has."""

from molformer.models.published.network import PaperTransformer
