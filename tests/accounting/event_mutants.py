"""Break a formula of the accountant on purpose, one at a time, and show which tests go red.

    python -m tests.accounting.event_mutants

Each mutant is a mistake that would make an epsilon wrong without anything failing at run time.
"""

import sys

from tests.mutation import Mutant, main

MUTANTS = [
    Mutant(
        "a replaced record moves once",
        "accounting/domination/release.py",
        'distance = 2 * records if relation == "replace_one" else records',
        "distance = records",
        "release::test_a_replaced_record_moves_twice_as_far divergence::test_closed_forms",
    ),
    Mutant(
        "q for 1 - q in a sampled promise",
        "accounting/pairs/combine.py",
        "(1 - rate) * r + rate * p, r, strict=True",
        "(1 - rate) * p + rate * r, r, strict=True",
        "sampled_release::test_a_sampled_promise_has_the_amplified_curve",
    ),
    Mutant(
        "adding swapped with removing",
        "accounting/domination/sampled_release.py",
        "return additive_pair(mechanism, below=moves)",
        "return additive_pair(mechanism, above=moves)",
        "sampled_release::test_poisson_comes_or_goes",
    ),
    Mutant(
        "adding a promise as removing it",
        "accounting/domination/sampled_release.py",
        'return sampled(base, rate, adds=order == "add")',
        "return sampled(base, rate, adds=False)",
        "sampled_release::test_a_sampled_promise_has_the_amplified_curve",
    ),
    Mutant(
        "a fixed-size batch at distance 1",
        "accounting/domination/sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return symmetric(additive_pair(mechanism, ((1, rate),)))",
        "sampled_release::test_without_replacement_changes_a_value",
    ),
    Mutant(
        "a fixed-size batch without its mirror image",
        "accounting/domination/sampled_release.py",
        "return symmetric(additive_pair(mechanism, ((2, rate),)))",
        "return additive_pair(mechanism, ((2, rate),))",
        "sampled_release::test_without_replacement_changes_a_value",
    ),
    Mutant(
        "draws counted once",
        "accounting/domination/sampled_release.py",
        "tuple((2 * k, weight) for k, weight in draws)",
        "tuple((2, weight) for k, weight in draws)",
        "sampled_release::test_with_replacement_comes_or_goes",
    ),
    Mutant(
        "the tail of the draws dropped",
        "accounting/domination/sampled_release.py",
        "draws.append((batch_size, max(more, 1e-270)))",
        "draws = draws[:1]",
        "sampled_release::test_with_replacement_comes_or_goes",
    ),
    Mutant(
        "the cut of a truncated sample ignored",
        "accounting/domination/sampled_release.py",
        "return either([(1 - cut, plain), (cut, fixed)], rounding=_BINOMIAL)",
        "return plain",
        "sampled_release::test_truncated_poisson",
    ),
    Mutant(
        "the chance of a cut without x for that with it",
        "accounting/domination/sampled_release.py",
        "cut = float(bdtrc(cap - 1, others, rate))",
        "cut = float(bdtrc(cap, others, rate))",
        "sampled_release::test_truncated_poisson",
    ),
    Mutant(
        "the ways to choose who is read forgotten",
        "accounting/domination/sampled_release.py",
        "return math.comb(n, k) * rate**k",
        "return rate**k",
        "sampled_release::test_poisson_of_a_group",
    ),
    Mutant(
        "P and Q of an allocation swapped",
        "accounting/pairs/allocation/gaussian_allocation.py",
        "return Cells(sized, plain, error, error, shift)",
        "return Cells(plain, sized, error, error, shift)",
        "allocation::test_cells_are_those_of_their_losses simulation",
    ),
    Mutant(
        "an allocation added as removed",
        "accounting/domination/composition.py",
        'return GaussianAllocation(sigma, steps, adds=order == "add")',
        "return GaussianAllocation(sigma, steps, adds=False)",
        "allocation::test_simulated_outputs",
    ),
    Mutant(
        "one step of an allocation forgotten",
        "accounting/pairs/allocation/series.py",
        "plain = np.exp(steps * log_one)",
        "plain = np.exp((steps - 1) * log_one)",
        "allocation::test_cells_are_those_of_their_losses",
    ),
    Mutant(
        "noise for its square in an allocation",
        "accounting/pairs/allocation/lognormal.py",
        "x = np.exp(line - 0.5 / sigma**2)",
        "x = np.exp(line - 0.5 / sigma)",
        "allocation::test_the_transform_to_20_digits",
    ),
    Mutant(
        "participations in blocks that are too large",
        "accounting/domination/composition.py",
        "blocks = [(size, participations - larger), (size + 1, larger)]",
        "blocks = [(steps, participations)]",
        "allocation::test_several_participations_are_blocks",
    ),
    Mutant(
        "scale for its square",
        "accounting/pairs/integer_mixture.py",
        "return shift * (2 * x - shift) / (2 * self.sigma**2)",
        "return shift * (2 * x - shift) / (2 * self.sigma)",
        "release::test_integers_against_sums",
    ),
    Mutant(
        "tail mass of discrete noise dropped",
        "accounting/pairs/integer_mixture.py",
        "mass[-1] = self._at_most(-int(k[-1]))",
        "pass",
        "release::test_cells_hold_all_mass_and_keep_the_loss_between_their_nodes",
    ),
    Mutant(
        "half a Laplace",
        "accounting/pairs/laplace_mixture.py",
        "exponents = [np.clip(2 * y - move, -move, move) for move in moves]",
        "exponents = [np.clip(y - move / 2, -move, move) for move in moves]",
        "release::test_laplace",
    ),
    Mutant(
        "the exponential mechanism at its best, not its worst",
        "accounting/pairs/bounded_range.py",
        "p = scale * np.exp((high - self.eta) / 2) * rise",
        "p = scale * np.exp(high - self.eta) * rise",
        "release::test_cells_hold_all_mass_and_keep_the_loss_between_their_nodes",
    ),
    Mutant(
        "delta of a promise lost",
        "accounting/pairs/finite_loss.py",
        "(math.inf, delta, 0.0),",
        "(math.inf, 0.0, 0.0),",
        "release::test_promises",
    ),
    Mutant(
        "group privacy adds deltas only",
        "accounting/domination/release.py",
        "each = [delta * math.exp(min(step * epsilon, 700.0)) for step in range(records)]",
        "each = [delta for step in range(records)]",
        "release::test_a_group_under_approximate_dp_pays_for_every_step_between",
    ),
    Mutant(
        "a group answers once",
        "accounting/events/leaves.py",
        "times, records = times * records, 1",
        "records = 1",
        "leaves::test_every_record_of_a_group_answers_for_itself",
    ),
    Mutant(
        "a nested repeat counted once",
        "accounting/events/leaves.py",
        "return _flatten(inner, times * repeats, records)",
        "return _flatten(inner, repeats, records)",
        "leaves::test_nested_repeats_multiply",
    ),
    Mutant(
        "a sum of equal runs loses one",
        "accounting/events/algebra.py",
        "parts[-1] = Repeat(event, times + as_run(part)[1])",
        "parts[-1] = Repeat(event, max(times, as_run(part)[1]))",
        "algebra::test_equal_neighbours_become_one_run",
    ),
    Mutant(
        "an unknown field of JSON ignored",
        "accounting/events/serialise.py",
        "_require_fields(name, content, names)",
        "content = {key: content[key] for key in names}",
        "serialise::test_anything_else_is_refused_with_the_reason",
    ),
    Mutant(
        "the filter looks at the history alone",
        "accounting/questions/filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(history) * (1 + 1e-12) <= target_epsilon",
        "filters::test_a_full_budget_allows_nothing_more",
    ),
    Mutant(
        "the filter looks at the release alone",
        "accounting/questions/filters.py",
        "return spent(history + release) * (1 + 1e-12) <= target_epsilon",
        "return spent(release) * (1 + 1e-12) <= target_epsilon",
        "filters::test_a_full_budget_allows_nothing_more",
    ),
    Mutant(
        "an uncertain cell taken as it came out",
        "accounting/pairs/atoms.py",
        "r = np.minimum(cells.r + cells.r_error, by_loss)",
        "r = cells.r",
        "choice::test_uncertain_cells_are_kept_from_below_and_prove_too_little_never_too_much",
    ),
    Mutant(
        "what was released before forgotten by a calibration",
        "accounting/questions/frontier.py",
        "return self.target.excess(self.after + self.event(x), self.relation)",
        "return self.target.excess(self.event(x), self.relation)",
        "calibrate::test_after_a_gaussian_release_squares_of_mu_add_up",
    ),
    Mutant(
        "rho twice too small",
        "accounting/engines/renyi/concentrated.py",
        "return epsilon**2 / 2",
        "return epsilon**2 / 4",
        "filters::test_concentrated_dp_of_each_release",
    ),
    Mutant(
        "deltas of releases forgotten by the filter",
        "accounting/questions/filters.py",
        "left = (self.delta - lost) * (1 - 1e-12)",
        "left = self.delta",
        "filters::test_deltas_of_releases_come_off_the_filters_own",
    ),
    Mutant(
        "the odometer takes its best order without paying for the choice",
        "accounting/questions/filters.py",
        "share = math.log(len(self.orders) / self.delta)",
        "share = math.log(1 / self.delta)",
        "filters::test_the_odometer_holds_at_every_moment_of_an_adaptive_run",
    ),
]

if __name__ == "__main__":
    sys.exit(main(MUTANTS, "tests/accounting/**/test_{}.py"))
