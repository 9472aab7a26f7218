"""Batches of graphs, and the search for neighbors, also across periodic cells. No layers, no files."""

from molformer.graph.batch import GraphBatch
from molformer.graph.edges import find_edges
from molformer.graph.knn import knn_edges
from molformer.graph.neighbors import radius_edges
