"""A pair cut down to finitely many losses: once from above, once from below.

From above (connecting the dots: Doroshenko et al. 2022, arXiv:2207.04380): each cell between two
nodes becomes two atoms on them, with the cell's mass under P and under Q. That is a mean-preserving
spread of the likelihood ratio, so it dominates the pair, in composition as well.

From below: merging outcomes is post-processing, so a pair whose cells have become atoms is
dominated by the true one. Atoms have to lie on the nodes; to move the ratio of a merged cell onto
its node, a small share of a neighbouring cell is merged into it as well, chosen at random: still
post-processing. What cannot be moved is lowered to the node below, or dropped. Both lower delta.
"""

from typing import NamedTuple

import numpy as np

from dpfunc.accounting.pairs.privacy_loss import ULP, Array, Cells, Pair

_SWEEPS = 100
_MOST_SHARE = 0.9
_EXACT = 1e-14  # a loss that is off its node by no more counts as on it, see `shift`
_SURE = 1e-9  # relative error of a ratio up to which all losses may as well be moved
_MOST_OFF = 0.1  # of a gap between nodes: up to here neighbours make up for an error


class Atoms(NamedTuple):
    """The law of the loss under P: masses on nodes, and what counts as an infinite loss."""

    losses: Array  # [n] the nodes
    p: Array  # [n]
    infinite: float
    shift: float  # the bound holds once every loss is moved outward by this much


def upper_atoms(pair: Pair, nodes: Array) -> Atoms:
    """Atoms on the nodes that dominate the pair, rounding included."""
    cells = pair.cells(nodes)
    p, error = _loss_of_cells(cells)
    low, width = nodes[:-1], np.diff(nodes)
    inner = slice(1, -1)
    share = np.expm1(-np.maximum(p.loss[inner] - low, 0.0)) / np.expm1(-width)
    unsure = error[inner] / -np.expm1(-width)
    up = p.mass[inner] * np.clip(share + unsure, 0.0, 1.0)
    masses = np.zeros(len(nodes))
    masses[1:] += up
    masses[:-1] += p.mass[inner] - up
    masses[0] += p.mass[0]
    return Atoms(nodes, masses, float(p.mass[-1]), cells.shift + _rounding(nodes))


def lower_atoms(pair: Pair, nodes: Array) -> Atoms:
    """Atoms on the nodes that the pair dominates, rounding included; some mass may be missing.

    Cells known to `_SURE` keep their ratio, and their error is in `shift`. For others P is taken at
    its least and Q at its most, which lowers delta for every number of releases.
    """
    edges = (nodes[1:] + nodes[:-1]) / 2
    cells = pair.cells(edges)
    p, r, error = _least_likely(cells, edges)
    is_sure = error <= _SURE
    gaps = np.diff(nodes, prepend=-np.inf, append=np.inf)
    flows = is_sure | (error <= _MOST_OFF * np.minimum(gaps[:-1], gaps[1:]))
    flows &= (p > 0) & (error < np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        loss = np.log(np.where(is_sure, cells.p, p) / np.where(is_sure, cells.r, r))
    flowing, excess = _flow(np.where(flows, p, 0.0), np.where(flows, loss, nodes), nodes)
    masses = _on_nodes_below(nodes, nodes + excess, flowing)
    alone = ~flows & (p > 0) & (r > 0)
    masses += _on_nodes_below(nodes, loss[alone], p[alone])
    infinite = float(p[r == 0].sum())
    relative = float(error[is_sure].max(initial=0.0))
    return Atoms(nodes, masses, infinite, relative + cells.shift + _EXACT + _rounding(nodes))


def _least_likely(cells: Cells, edges: Array) -> tuple[Array, Array, Array]:
    """The least P of every cell, the most Q, and the relative error of the ratio, or infinity.

    Q is at most what its error allows, and at most P over the exponential of the cell's least loss.
    """
    p, most = np.maximum(cells.p - cells.p_error, 0.0), cells.p + cells.p_error
    least_loss = np.concatenate([[-np.inf], edges]) - cells.shift
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        by_loss = np.where(most > 0, most * np.exp(-least_loss) * (1 + 4 * ULP), 0.0)
        r = np.minimum(cells.r + cells.r_error, by_loss)
        error = cells.p_error / cells.p + cells.r_error / cells.r
    return p, r, np.where((cells.p > 0) & (cells.r > 0), error, np.inf)


def _on_nodes_below(nodes: Array, losses: Array, masses: Array) -> Array:
    """The masses on the nodes at or below their losses; what is below all nodes is dropped."""
    place = np.searchsorted(nodes, losses + _EXACT, side="right") - 1
    kept = (place >= 0) & (masses > 0)
    return np.bincount(place[kept], weights=masses[kept], minlength=len(nodes)).astype(np.float64)


class _Masses(NamedTuple):
    mass: Array
    loss: Array


def _loss_of_cells(cells: Cells) -> tuple[_Masses, Array]:
    """Masses rounded up, ``log(p / r)`` of each cell, and the relative error of p / r."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        loss = np.log(cells.p / cells.r)
        error = cells.p_error / cells.p + cells.r_error / cells.r
    known = (cells.p > 0) & (cells.r > 0)
    mass = cells.p + cells.p_error
    return _Masses(mass, np.where(known, loss, np.inf)), np.where(known, error, 1.0)


def _flow(p: Array, loss: Array, nodes: Array) -> tuple[Array, Array]:
    """Shares of neighbours that bring each cell's ratio onto its node.

    Cell i, short of loss, takes a share of cell i + 1; with too much it takes one of cell i - 1.
    With ``D`` its excess of P over ``exp(node) Q``, the share is ``(1 - given) |D|`` over what the
    neighbour adds per unit. ``given`` depends on the others' shares: a fixed point, found by
    sweeps. Returns the masses, and by how much each ratio's logarithm exceeds its node.
    """
    own = -p * np.expm1(nodes - loss)  # P - exp(node) Q of the cell itself
    left, right = np.zeros_like(p), np.zeros_like(p)  # what the neighbours would add
    left[1:] = p[:-1] * np.expm1(nodes[1:] - loss[:-1])
    right[:-1] = -p[1:] * np.expm1(nodes[:-1] - loss[1:])
    given = np.zeros_like(p)
    for _ in range(_SWEEPS):
        need = (1 - given) * own
        with np.errstate(divide="ignore", invalid="ignore"):
            from_left = np.where((need > 0) & (left > 0), np.minimum(need / left, _MOST_SHARE), 0.0)
            from_right = np.where(
                (need < 0) & (right > 0), np.minimum(-need / right, _MOST_SHARE), 0.0
            )
        before, given = given, np.zeros_like(p)
        given[:-1] += from_left[1:]
        given[1:] += from_right[:-1]
        given = np.minimum(given, 1.0)
        if np.abs(given - before).max() < ULP:
            break
    # No cell can give away more than itself: where both neighbours ask for too much, less to each.
    asked = np.zeros_like(p)
    asked[:-1] += from_left[1:]
    asked[1:] += from_right[:-1]
    cut = 1 / np.maximum(asked, 1.0)
    from_left[1:] *= cut[:-1]
    from_right[:-1] *= cut[1:]
    given = asked * cut
    mass = (1 - given) * p
    mass[1:] += from_left[1:] * p[:-1]
    mass[:-1] += from_right[:-1] * p[1:]
    excess = (1 - given) * own - from_left * left + from_right * right
    with np.errstate(divide="ignore", invalid="ignore"):
        # P' / (exp(node) Q') - 1 = excess / (P' - excess)
        relative = np.where(mass > 0, excess / (mass - excess), 0.0)
    return mass, np.log1p(np.maximum(relative, -1 + 1e-12))


def _rounding(nodes: Array) -> float:
    """How far the nodes may be from what they stand for."""
    return 2 * ULP * float(np.abs(nodes).max())
