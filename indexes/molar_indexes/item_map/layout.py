"""Two maps of the same items, each of which puts neighbours side by side, in which an item has about the same place.

A map is made as t-SNE makes it: items attract their nearest neighbours, and all push each other away. Neighbours count
alike, which gives the maps that weights by distance give (Böhm, Berens and Kobak 2022, arXiv:2007.08902); what pushes
is summed on a grid by Fourier transforms, so that a step costs O(n) (Linderman et al. 2019,
doi:10.1038/s41592-018-0308-4). Nothing is drawn at random: the first map begins at the principal axes, the second one
where the first one ended, and is turned, mirrored, moved and scaled onto it at the end (Procrustes).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.sparse import csr_matrix

from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

Places = npt.NDArray[np.float64]
"""Places of n items on a map, shape (n, 2)."""
STEPS = 300
_EARLY, _EXAGGERATED = 80, 12.0  # first steps of the first map, and how much stronger neighbours attract in them
_MOMENTUM, _FARTHEST = 0.8, 5.0  # of a step; who attracts very many would be flung away
_SPACING, _FEWEST_CELLS, _MOST_CELLS = 0.7, 50, 512  # of the grid; 1 is the distance over which items push


def first_map(vectors: Matrix, neighbours: Rows, steps: int = STEPS) -> Places:
    """The map of n items by their vectors, (n, d), and nearest neighbours, (n, k) rows."""
    return _arranged(_leading(vectors), _graph(neighbours), steps, early=_EARLY)


def second_map(first: Places, neighbours: Rows, placed: Mask, steps: int = STEPS) -> Places:
    """The map of the same items by other neighbours, (n, k) rows, with -1 where there are fewer.

    Items that are not ``placed``, shape (n,), have no neighbours of their own and stay where they are on the first map.
    """
    found = first.copy()
    rows = np.flatnonzero(placed)
    if len(rows) < 3:
        return found
    there = np.full(len(first), -1, np.int64)
    there[rows] = np.arange(len(rows))
    among = np.where(neighbours[rows] < 0, -1, there[neighbours[rows]])
    found[rows] = _turned(_arranged(first[rows], _graph(among), steps), first[rows])
    return found


def _leading(vectors: Matrix) -> Places:
    """Places along the two leading principal axes, 0.01 wide."""
    centred = np.asarray(vectors - vectors.mean(axis=0), np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # it is arbitrary
    found = np.zeros((len(vectors), 2))
    found[:, : axes.shape[1]] = centred @ axes
    return found * 0.01 / max(float(found[:, 0].std()), 1e-12)


def _graph(neighbours: Rows) -> csr_matrix:
    """Who attracts whom, shape (n, n), symmetric; all entries together are 1."""
    n, k = neighbours.shape
    known = neighbours.ravel() >= 0
    own = np.repeat(np.arange(n), k)[known]
    graph = csr_matrix((np.ones(len(own)), (own, neighbours.ravel()[known])), shape=(n, n))
    graph = csr_matrix(graph + graph.T)
    graph.data /= max(float(graph.data.sum()), 1.0)
    return graph


def _arranged(start: Places, graph: csr_matrix, steps: int, early: int = 0) -> Places:
    """Gradient descent with momentum and a gain for each number; in ``early`` steps items attract more strongly."""
    n, places = len(start), start
    moved, gains = np.zeros_like(places), np.ones_like(places)
    edges = np.repeat(np.arange(n), np.diff(graph.indptr)), graph.indices, graph.data
    for step in range(steps):
        pull, momentum = (_EXAGGERATED, 0.5) if step < early else (1.0, _MOMENTUM)
        gradient = pull * _attraction(places, edges) - _repulsion(places)
        gains = np.where(np.sign(gradient) != np.sign(moved), gains + 0.2, np.maximum(gains * 0.8, 0.01))
        moved = np.clip(momentum * moved - max(n / pull, 50.0) * gains * gradient, -_FARTHEST, _FARTHEST)
        places = places + moved
        places -= places.mean(axis=0)
    return places


def _attraction(places: Places, edges: tuple[Rows, Rows, npt.NDArray[np.float64]]) -> Places:
    own, others, weights = edges
    towards = places[own] - places[others]
    towards *= (weights / (1 + (towards**2).sum(axis=1)))[:, None]
    n = len(places)
    return np.stack([np.bincount(own, towards[:, axis], n) for axis in range(2)], axis=1)


def _repulsion(places: Places) -> Places:
    """What pushes each item, of all others, by a grid onto whose corners their weights are shared out."""
    low = places.min(axis=0)
    extent = float((places.max(axis=0) - low).max())
    spacing = min(_SPACING, extent / _FEWEST_CELLS)
    spacing = max(spacing, extent / (_MOST_CELLS - 2), 1e-9)
    size = fft.next_fast_len(int(extent / spacing) + 2, real=True)
    at = (places - low) / spacing
    cell = at.astype(np.int64)
    right, up = (at - cell).T
    corner = cell[:, 0] * size + cell[:, 1]
    corners = np.stack([corner, corner + 1, corner + size, corner + size + 1])
    shares = np.stack([(1 - right) * (1 - up), (1 - right) * up, right * (1 - up), right * up])
    near, nearer = _kernels(size, spacing)
    charges = np.stack([np.ones(len(places)), *(places - low).T])
    grids = [np.bincount(corners.ravel(), (shares * charge).ravel(), size * size) for charge in charges]
    padded = fft.rfft2(np.stack(grids).reshape(3, size, size), (2 * size, 2 * size))
    fields = fft.irfft2(np.concatenate([near * padded[:1], nearer * padded]), (2 * size, 2 * size))[:, :size, :size]
    values = (fields.reshape(4, -1)[:, corners] * shares).sum(axis=1)
    apart = spacing * np.array([[0, 1, 1, 2], [1, 0, 2, 1], [1, 2, 0, 1], [2, 1, 1, 0]]) ** 0.5
    itself = float(np.einsum("an,ab,bn->", shares, 1 / (1 + apart**2), shares))
    total = max(float(values[0].sum()) - itself, 1e-12)
    pushed: Places = (((places - low).T * values[1] - values[2:]) / total).T
    return pushed


@lru_cache(maxsize=8)
def _kernels(size: int, spacing: float) -> tuple[npt.NDArray[np.complex128], npt.NDArray[np.complex128]]:
    """Transforms of 1 / (1 + d²) and of its square over a grid that is twice as wide, so that it does not wrap."""
    steps = np.minimum(np.arange(2 * size), 2 * size - np.arange(2 * size)) * spacing
    near = 1 / (1 + steps[:, None] ** 2 + steps[None] ** 2)
    return fft.rfft2(near), fft.rfft2(near**2)


def _turned(places: Places, onto: Places) -> Places:
    """Places turned, mirrored, moved and scaled so that they are as near to others as can be."""
    middle, other = places.mean(axis=0), onto.mean(axis=0)
    centred = places - middle
    left, singular, right = np.linalg.svd(centred.T @ (onto - other))
    scale = float(singular.sum()) / max(float((centred**2).sum()), 1e-12)
    turned: Places = centred @ (left @ right) * scale + other
    return turned
