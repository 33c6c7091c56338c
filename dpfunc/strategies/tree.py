"""Tree aggregation, for comparison alone: every strategy of `make` has smaller errors.

A binary tree over the steps has a node for each aligned run of ``2**h`` of them, with noise of its
own (Dwork et al. 2010; DP-FTRL: Kairouz et al. 2021, arXiv:2103.00039). A prefix is a sum of at
most ``log2(steps) + 1`` nodes. Each of them is estimated from itself and all below it (Honaker
2015), which needs no noise of later steps; its variance is ``2**h / (2**(h + 1) - 1)``.
"""

import numpy as np

from dpfunc.checks import is_count, require
from dpfunc.strategies.participation import Participation
from dpfunc.strategies.sensitivity import of_matrix
from dpfunc.strategies.series import Floats


def tree_errors(*, steps: int) -> Floats:
    """The squared error of each prefix sum for noise of deviation 1 on every node: ``[steps]``.

    >>> tree_errors(steps=4).round(4).tolist()
    [1.0, 0.6667, 1.6667, 0.5714]
    """
    _require_power("tree_errors", steps)
    heights = range(steps.bit_length())
    node = [2.0**h / (2.0 ** (h + 1) - 1) for h in heights]
    return np.array([sum(node[h] for h in heights if t >> h & 1) for t in range(1, steps + 1)])


def tree_sensitivity(*, steps: int, participation: Participation) -> float:
    """How far a record can move all nodes together: the sensitivity that belongs to `tree_errors`.

    >>> round(tree_sensitivity(steps=4, participation=Participation(1, 1)) ** 2, 9)
    3.0
    """
    _require_power("tree_sensitivity", steps)
    nodes = [
        np.isin(np.arange(steps), np.arange(start, start + size))
        for size in [2**h for h in range(steps.bit_length())]
        for start in range(0, steps, size)
    ]
    c = np.array(nodes, np.float64)
    return float(np.sqrt(of_matrix(c, steps + 1, participation) * (1 + 1e-12)))


def _require_power(subject: str, steps: int) -> None:
    require(
        is_count(steps) and steps >= 1 and steps & (steps - 1) == 0,
        subject,
        "steps that are a power of two",
        steps,
        "take the next one",
    )
