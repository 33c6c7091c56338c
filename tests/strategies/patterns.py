"""The sensitivity by its definition: every pattern of a participation, one after the other."""

from itertools import combinations

import numpy as np


def patterns(steps, participation):
    """All sets of steps that a record may be in, the empty one included."""
    apart = participation.min_separation
    for count in range(participation.most + 1):
        for chosen in combinations(range(steps), count):
            gaps = np.diff(chosen)
            allowed = gaps == apart if participation.evenly_spaced else gaps >= apart
            if allowed.all():
                yield list(chosen)


def largest(c, participation, tries=40, seed=0):
    """The largest ``||sum_t C[:, t] g_t||``, from below: equal g, signs, g in 3 dimensions."""
    draw = np.random.default_rng(seed)
    x = c.T @ c
    best = 0.0
    for pattern in patterns(c.shape[1], participation):
        part = x[np.ix_(pattern, pattern)]
        best = max(best, part.sum())
        for _ in range(tries if (x < 0).any() else 0):
            g = draw.normal(size=(len(pattern), 3))
            g /= np.linalg.norm(g, axis=1, keepdims=True)
            signs = draw.choice([-1.0, 1.0], len(pattern))
            best = max(best, np.trace(g.T @ part @ g), signs @ part @ signs)
    return best**0.5
