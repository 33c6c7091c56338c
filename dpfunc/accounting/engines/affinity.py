"""What P and Q have in common, in a composition: a lower bound of a delta near 1.

``1 - delta(epsilon) = sum of min(p, exp(epsilon) q)``, and ``min(a, b) <= a**(1-s) b**s`` for s
between 0 and 1. So

    delta(epsilon) >= 1 - exp(s epsilon) A(s),   A(s) = sum of p**(1-s) q**s

where A of independent releases is the product of theirs (A(1/2) is the Bhattacharyya coefficient;
Nielsen 2014, arXiv:1401.4788, has the bound for a test's error). In a cell with masses P and Q the
sum is at most ``P**(1-s) Q**s`` (Hoelder), so that few cells do.
"""

import math

import numpy as np
from scipy.special import logsumexp

from dpfunc.accounting.domination.composition import Composition
from dpfunc.accounting.pairs.privacy_loss import ULP, OutOfReachError

_NODES = 400
_TAIL = 1e-12
_FROM_ENDS = np.geomspace(1e-4, 0.5, 24)
_TRIED = np.concatenate([_FROM_ENDS, 1 - _FROM_ENDS])  # values of s
_LEAST = 1e-300  # a mass that is 0 may be as much, and too small for a float
_SLACK = 64 * ULP  # per release: of exponents, and a sum of positive terms


def log_delta_at_least(composition: Composition, epsilon: float) -> float:
    """A bound of ``log delta`` at ``epsilon >= 0``; minus infinity where it proves nothing."""
    exponent = _TRIED * epsilon * (1 + 4 * ULP)
    for pair, times in composition:
        try:
            nodes = pair.nodes(_NODES, _TAIL)
            # A node below the least loss: what P does not have stays apart from it.
            cells = pair.cells(np.append(nodes[0] - 1e-9 * (1 + abs(nodes[0])), nodes))
        except OutOfReachError:
            return -math.inf
        p = np.log(np.maximum(cells.p + cells.p_error, _LEAST))
        q = np.log(np.maximum(cells.r + cells.r_error, _LEAST))
        in_common = np.multiply.outer(1 - _TRIED, p) + np.multiply.outer(_TRIED, q)
        size = np.abs(p).max() + np.abs(q).max() + len(p)
        exponent = exponent + times * (logsumexp(in_common, axis=1) + _SLACK * size)
        exponent += 2 * ULP * np.abs(exponent)
    left = float(exponent.min())
    return math.log(-math.expm1(left)) * (1 + 8 * ULP) - 8 * ULP if left < 0 else -math.inf
