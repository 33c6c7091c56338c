"""Break a formula of the events on purpose, one at a time, and show which tests go red.

    python -m tests.accounting.event_mutants

Each mutant is a mistake that would make an epsilon wrong without anything failing at run time.
"""

import sys

from tests.mutation import Mutant, main

MUTANTS = [
    Mutant(
        "a replaced record moves once",
        "accounting/release.py",
        'distance = 2 * records if relation == "replace_one" else records',
        "distance = records",
        "release renyi",
    ),
    Mutant(
        "q for 1 - q in a sampled promise",
        "accounting/combine.py",
        "(1 - rate) * r + rate * p, r, strict=True",
        "(1 - rate) * p + rate * r, r, strict=True",
        "sampled_release",
    ),
    Mutant(
        "adding swapped with removing",
        "accounting/sampled_release.py",
        "return additive_pair(mechanism, below=moves)",
        "return additive_pair(mechanism, above=moves)",
        "sampled_release",
    ),
    Mutant(
        "adding a promise as removing it",
        "accounting/sampled_release.py",
        'return sampled(base, rate, adds=order == "add")',
        "return sampled(base, rate, adds=False)",
        "sampled_release",
    ),
    Mutant(
        "a fixed-size batch at distance 1",
        "accounting/sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return symmetric(additive_pair(mechanism, ((1, rate),)))",
        "sampled_release",
    ),
    Mutant(
        "a fixed-size batch without its mirror image",
        "accounting/sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return additive_pair(mechanism, ((2, rate),))",
        "sampled_release",
    ),
    Mutant(
        "draws counted once",
        "accounting/sampled_release.py",
        "tuple((2 * k, weight) for k, weight in draws)",
        "tuple((2, weight) for k, weight in draws)",
        "sampled_release",
    ),
    Mutant(
        "the tail of the draws dropped",
        "accounting/sampled_release.py",
        "draws.append((batch_size, max(more, 1e-270)))",
        "draws = draws[:1]",
        "sampled_release",
    ),
    Mutant(
        "the cut of a truncated sample ignored",
        "accounting/sampled_release.py",
        "return either([(1 - cut, plain), (cut, fixed)], rounding=_BINOMIAL)",
        "return plain",
        "sampled_release",
    ),
    Mutant(
        "the chance of a cut without x for that with it",
        "accounting/sampled_release.py",
        "cut = float(bdtrc(cap - 1, others, rate))",
        "cut = float(bdtrc(cap, others, rate))",
        "sampled_release",
    ),
    Mutant(
        "the ways to choose who is read forgotten",
        "accounting/sampled_release.py",
        "return math.comb(n, k) * rate**k",
        "return rate**k",
        "sampled_release",
    ),
    Mutant(
        "P and Q of an allocation swapped",
        "accounting/allocation.py",
        "return Cells(sized, plain, error, error, shift)",
        "return Cells(plain, sized, error, error, shift)",
        "allocation simulation",
    ),
    Mutant(
        "an allocation added as removed",
        "accounting/domination.py",
        'return GaussianAllocation(sigma, steps, adds=order == "add")',
        "return GaussianAllocation(sigma, steps, adds=False)",
        "allocation",
    ),
    Mutant(
        "one step of an allocation forgotten",
        "accounting/allocation_series.py",
        "plain = np.exp(steps * log_one)",
        "plain = np.exp((steps - 1) * log_one)",
        "allocation",
    ),
    Mutant(
        "noise for its square in an allocation",
        "accounting/lognormal.py",
        "x = np.exp(line - 0.5 / sigma**2)",
        "x = np.exp(line - 0.5 / sigma)",
        "allocation",
    ),
    Mutant(
        "participations in blocks that are too large",
        "accounting/domination.py",
        "blocks = [(size, participations - larger), (size + 1, larger)]",
        "blocks = [(steps, participations)]",
        "allocation",
    ),
    Mutant(
        "scale for its square",
        "accounting/integer_mixture.py",
        "return shift * (2 * x - shift) / (2 * self.sigma**2)",
        "return shift * (2 * x - shift) / (2 * self.sigma)",
        "release",
    ),
    Mutant(
        "tail mass of discrete noise dropped",
        "accounting/integer_mixture.py",
        "mass[-1] = self._at_most(-int(k[-1]))",
        "pass",
        "release",
    ),
    Mutant(
        "half a Laplace",
        "accounting/laplace_mixture.py",
        "exponents = [np.clip(2 * y - move, -move, move) for move in moves]",
        "exponents = [np.clip(y - move / 2, -move, move) for move in moves]",
        "release",
    ),
    Mutant(
        "the exponential mechanism at its best, not its worst",
        "accounting/bounded_range.py",
        "p = scale * np.exp((high - self.eta) / 2) * rise",
        "p = scale * np.exp(high - self.eta) * rise",
        "release",
    ),
    Mutant(
        "delta of a promise lost",
        "accounting/finite_loss.py",
        "(math.inf, delta, 0.0),",
        "(math.inf, 0.0, 0.0),",
        "release",
    ),
    Mutant(
        "group privacy adds deltas only",
        "accounting/release.py",
        "each = [delta * math.exp(min(step * epsilon, 700.0)) for step in range(records)]",
        "each = [delta for step in range(records)]",
        "release",
    ),
    Mutant(
        "a group answers once",
        "accounting/leaves.py",
        "times, records = times * records, 1",
        "records = 1",
        "leaves",
    ),
    Mutant(
        "a nested repeat counted once",
        "accounting/leaves.py",
        "return _flatten(inner, times * repeats, records)",
        "return _flatten(inner, repeats, records)",
        "leaves",
    ),
    Mutant(
        "a sum of equal runs loses one",
        "accounting/algebra.py",
        "parts[-1] = Repeat(event, times + as_run(part)[1])",
        "parts[-1] = Repeat(event, max(times, as_run(part)[1]))",
        "algebra",
    ),
    Mutant(
        "an unknown field of JSON ignored",
        "accounting/serialise.py",
        "_require_fields(name, content, names)",
        "content = {key: content[key] for key in names}",
        "serialise",
    ),
    Mutant(
        "the filter looks at the history alone",
        "accounting/filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(history) * (1 + 1e-12) <= target_epsilon",
        "filters",
    ),
    Mutant(
        "the filter looks at the release alone",
        "accounting/filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(release) * (1 + 1e-12) <= target_epsilon",
        "filters",
    ),
    Mutant(
        "rho twice too small",
        "accounting/concentrated.py",
        "return epsilon**2 / 2",
        "return epsilon**2 / 4",
        "filters",
    ),
    Mutant(
        "deltas of releases forgotten by the filter",
        "accounting/filters.py",
        "left = (self.delta - lost) * (1 - 1e-12)",
        "left = self.delta",
        "filters",
    ),
    Mutant(
        "the odometer takes its best order without paying for the choice",
        "accounting/filters.py",
        "share = math.log(len(self.orders) / self.delta)",
        "share = math.log(1 / self.delta)",
        "filters",
    ),
]

if __name__ == "__main__":
    sys.exit(main(MUTANTS, "tests/accounting/test_{}.py"))
