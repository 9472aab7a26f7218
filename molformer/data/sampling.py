"""Subsampling, normalisation and voxel conversion of point clouds.

Subsamples are indices into the cloud, which apply to features and labels as well. Letters: n points.
"""

import numpy as np

from molformer.errors import InputError


def farthest_point_sampling(pos: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Farthest-point sampling: each point is the farthest from those before; the first is random.

    Indices (min(count, n),) into positions (n, 3), in the order of selection. Uses `fpsample` if installed
    (`molformer[points]`), else numpy; results are the same except for ties.

    Example:
        >>> line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [9, 0, 0]])
        >>> sorted(farthest_point_sampling(line, 2, seed=3).tolist())[1]
        3
    """
    _check(pos, count)
    if count >= len(pos):
        return np.arange(len(pos))
    start = int(np.random.default_rng(seed).integers(len(pos)))
    # The library works in single precision: centered, so that large coordinates cost no precision.
    centered = np.ascontiguousarray(pos - pos.mean(axis=0), dtype=np.float32)
    try:
        import fpsample
    except ImportError:
        return farthest(centered.astype(np.float64), count, start)
    chosen = fpsample.fps_sampling(centered, count, start_idx=start).astype(np.int64)
    # Of coincident points the library takes one again and again.
    return chosen if len(np.unique(chosen)) == count else farthest(centered.astype(np.float64), count, start)


def farthest(points: np.ndarray, count: int, start: int) -> np.ndarray:
    """Farthest-point sampling of points (n, F) in numpy, from `start` on: indices (count,) in the order of selection.

    Squared distances are computed from inner products: the order of points closer to each other than the rounding error
    is arbitrary.

    Example:
        >>> farthest(np.array([[0.0], [1.0], [5.0], [2.0]]), 3, start=0).tolist()
        [0, 2, 3]
    """
    squares = np.square(points).sum(axis=1)
    chosen = np.empty(count, dtype=np.int64)
    chosen[0] = start
    nearest = np.full(len(points), np.inf, dtype=points.dtype)
    for place in range(1, count):
        last = chosen[place - 1]
        nearest = np.minimum(nearest, squares + squares[last] - 2 * (points @ points[last]))
        nearest[last] = -np.inf  # never twice, even among coincident points
        chosen[place] = nearest.argmax()
    return chosen


def random_subsample(pos: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Uniform random sample of positions (n, 3) without replacement: indices (min(count, n),), ascending."""
    _check(pos, count)
    if count >= len(pos):
        return np.arange(len(pos))
    return np.sort(np.random.default_rng(seed).choice(len(pos), size=count, replace=False))


def voxel_to_points(voxels: np.ndarray) -> np.ndarray:
    """Occupied (nonzero) cells of a grid (I, J, K) as points (n, 3) with unit spacing, centered at the grid's center.

    Raises:
        InputError: it is not a grid of three dimensions.

    Example:
        >>> voxel_to_points(np.ones((1, 1, 2)))
        array([[ 0. ,  0. , -0.5],
               [ 0. ,  0. ,  0.5]])
    """
    if voxels.ndim != 3:
        raise InputError(f"voxels of shape {voxels.shape}: a grid has three dimensions")
    return np.argwhere(voxels) - (np.array(voxels.shape) - 1) / 2


def normalise(pos: np.ndarray) -> np.ndarray:
    """Positions (n, 3) centered at their centroid, the farthest at distance 1; all zero if the points coincide.

    Example:
        >>> normalise(np.array([[0.0, 0, 0], [0, 0, 4]]))
        array([[ 0.,  0., -1.],
               [ 0.,  0.,  1.]])
    """
    centered = pos - pos.mean(axis=0)
    radius = np.linalg.norm(centered, axis=1).max()
    # Differences of coincident points below rounding are noise.
    return centered / radius if radius > 4 * np.finfo(pos.dtype).eps * np.abs(pos).max() else np.zeros_like(centered)


def _check(pos: np.ndarray, count: int) -> None:
    if pos.ndim != 2 or pos.shape[1] != 3 or len(pos) == 0:
        raise InputError(f"positions of shape {pos.shape}: a cloud has positions (n, 3), at least one")
    if count < 1:
        raise InputError(f"{count} points cannot be chosen: use at least 1")
