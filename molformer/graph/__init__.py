from molformer.graph.batch import GraphBatch
from molformer.graph.neighbors import knn_edges, radius_edges
