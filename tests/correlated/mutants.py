"""Mistakes in strategies, samplers and correlated noise, and the tests that see each of them.

``python -m tests.correlated.mutants`` plants them; so does ``python -m tests.laws.mutants``.
"""

import sys

from tests.mutation import Mutant, main

PATTERN = "tests/**/test_{}.py"
MUTANTS = [
    Mutant(
        "noise of a matrix rounded: earlier noise not whole",
        "noise/feedback.py",
        "own = whole - low",
        "own = (whole - low) * (1 + 2.0**-7)",
        "l12_correlated::test_a_release_is_a_function_of_the_real_gaussian_mechanism",
    ),
    Mutant(
        "the sum taken with what rounding left of it before",
        "noise/feedback.py",
        "return high, rounded.sub_(high).nan_to_num_(nan=0.0)",
        "return high, sums.to(torch.float64).mul(1 / fine).sub_(high).nan_to_num_(nan=0.0)",
        "l12_correlated::test_a_release_is_a_function_of_the_real_gaussian_mechanism",
    ),
    Mutant(
        "the oldest band forgotten",
        "noise/feedback.py",
        "return [noise, *memory][: strategy.bands - 1]",
        "return [noise, *memory][: strategy.bands - 2]",
        "l12_correlated::test_what_is_left_of_the_noise_is_independent",
    ),
    Mutant(
        "earlier noise added, not taken back",
        "noise/feedback.py",
        "low if back is None else low.sub_(back)",
        "low if back is None else low.add_(back)",
        "l12_correlated::test_what_is_left_of_the_noise_is_independent",
    ),
    Mutant(
        "the norm of a column forgotten",
        "noise/feedback.py",
        "deviation = noise_multiplier * column_norm(strategy) * widened",
        "deviation = noise_multiplier * widened",
        "l12_correlated::test_what_is_left_of_the_noise_is_independent",
    ),
    Mutant(
        "the norm of a column forgotten where normals are drawn again",
        "noise/regenerated.py",
        "deviation = noise_multiplier * _norm(strategy) * widened(bound)",
        "deviation = noise_multiplier * widened(bound)",
        "l12_correlated::test_regenerated_noise_is_rounded_once_and_correctly",
    ),
    Mutant(
        "rounding to the fine grid not paid for",
        "noise/feedback.py",
        "errors = 2 if isinstance(strategy, Toeplitz) else 3",
        "errors = 1",
        "l12_correlated::test_a_release_is_a_function_of_the_real_gaussian_mechanism",
    ),
    Mutant(
        "a fine grid without regard to the number of parameters",
        "noise/feedback.py",
        "math.log2(SHARE * bound / math.sqrt(max(1, items)))",
        "math.log2(SHARE * bound)",
        "l12_correlated::test_digits_are_exact_at_the_limit_that_is_let_through",
    ),
    Mutant(
        "normals of another step drawn again",
        "noise/regenerated.py",
        "(streams(fold_in(key, step - i)), weight)",
        "(streams(fold_in(key, step + i)), weight)",
        "l12_correlated::test_regenerated_noise_is_rounded_once_and_correctly",
    ),
    Mutant(
        "every number decided by single precision",
        "noise/kernels/combined.py",
        "error.unsqueeze(1) * (1 + 2.0**-20) < 0.5",
        "error.unsqueeze(1) * 0.0 <= 0.5",
        "l12_correlated::test_how_a_number_was_decided_changes_nothing",
    ),
    Mutant(
        "memory not sealed",
        "noise/sealing.py",
        "return words ^ _stream(words, key)\n\n\ndef opened",
        "return words.clone()\n\n\ndef opened",
        "l12_correlated::test_a_state_tells_nothing_about_the_noise",
    ),
    Mutant(
        "one stream for all memory",
        "noise/correlated.py",
        'return fold_in(self.key, "correlated memory", step, slot, name)',
        'return fold_in(self.key, "correlated memory", name)',
        "l12_correlated::test_a_state_tells_nothing_about_the_noise",
    ),
    Mutant(
        "steps beyond the strategy",
        "noise/correlated.py",
        'state["step"] < self.strategy.steps,',
        'state["step"] <= self.strategy.steps,',
        "l12_correlated::test_what_is_refused_before_anything_is_released",
    ),
    Mutant(
        "another bound in the middle of a run",
        "noise/correlated.py",
        'bound if state["bound"] is None else state["bound"]',
        "bound",
        "l12_correlated::test_what_is_refused_before_anything_is_released",
    ),
    Mutant(
        "a run goes on without its memory",
        "noise/correlated_state.py",
        "len(steps) == entries,",
        "len(steps) <= entries,",
        "l12_correlated::test_what_is_refused_before_anything_is_released",
    ),
    Mutant(
        "a branch that knows no noise",
        "noise/correlated.py",
        "key == self.key,",
        "key is not None,",
        "l12_correlated::test_what_is_refused_before_anything_is_released",
    ),
    Mutant(
        "rounding of buffers ten times too small",
        "noise/feedback.py",
        "buffers = most * 2.0**-52 * (1 + count * slowest) / slowest**2",
        "buffers = most * 2.0**-58 * (1 + count * slowest) / slowest",
        "l12_correlated::test_rounding_of_buffers_is_below_its_bound",
    ),
    Mutant(
        "k participations by the root of k",
        "strategies/sensitivity.py",
        "    falling = np.maximum.accumulate",
        "    return float(np.sum(column**2)) * participation.times(steps)\n"
        "    falling = np.maximum.accumulate",
        "sensitivity::test_attained_where_columns_fall",
    ),
    Mutant(
        "columns that rise taken as falling",
        "strategies/sensitivity.py",
        "falling = np.maximum.accumulate(np.abs(column)[::-1])[::-1]",
        "falling = column",
        "sensitivity::test_an_upper_bound_for_any_signs_and_columns_that_rise",
    ),
    Mutant(
        "overlapping bands taken as apart",
        "strategies/sensitivity.py",
        "if bands is not None and bands <= apart:",
        "if bands is not None and bands <= apart + 1:",
        "sensitivity::test_banded_is_exact_whatever_the_signs",
    ),
    Mutant(
        "signs cancel in a sensitivity",
        "strategies/sensitivity.py",
        "x = np.abs(c.T @ c)",
        "x = (c.T @ c)",
        "sensitivity::test_an_upper_bound_for_any_signs_and_columns_that_rise",
    ),
    Mutant(
        "a sensitivity rounded to nearest",
        "strategies/sensitivity.py",
        "return math.sqrt(square * (1 + 1e-12 + error)) * (1 + 2.0**-51)",
        "return math.sqrt(square) * (1 - 2.0**-50)",
        "sensitivity::test_certified_against_fractions "
        "sensitivity::test_the_norm_of_a_column_is_rounded_up",
    ),
    Mutant(
        "coefficients rounded after their sensitivity was taken",
        "strategies/make.py",
        "kept = coefficients if bits is None else to_bits(coefficients, bits)",
        "kept = coefficients",
        "make::test_released_numbers_are_those_of_the_record",
    ),
    Mutant(
        "the slope of the error without its two",
        "strategies/banded_optimum.py",
        "slope = -2 * by_c / error",
        "slope = -by_c / error",
        "make::test_the_slope_by_finite_differences",
    ),
    Mutant(
        "a batch's rate for that of a group",
        "sampling/cyclic.py",
        "return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=self.rate, steps=times)",
        "return dp_sgd(noise_multiplier=noise_multiplier, sample_rate=self.rate / self.cycle,"
        " steps=times)",
        "events::test_the_event_is_that_of_the_theorem_or_there_is_none",
    ),
    Mutant(
        "full cycles alone are counted",
        "sampling/cyclic.py",
        "times = -(-steps // self.cycle)\n        return",
        "times = steps // self.cycle\n        return",
        "events::test_a_stopped_run_costs_no_more_than_the_whole",
    ),
    Mutant(
        "bands beyond the cycle",
        "sampling/cyclic.py",
        "bands is not None and bands <= self.cycle,",
        "bands is not None and bands <= 9 * self.cycle,",
        "events::test_the_event_is_that_of_the_theorem_or_there_is_none",
    ),
    Mutant(
        "the same bins taken as fresh ones",
        "sampling/passes.py",
        "release = Gaussian(noise_multiplier / math.sqrt(epochs) * (1 - 2.0**-50))",
        "release = Gaussian(noise_multiplier)",
        "events::test_the_same_bins_are_not_fresh_ones",
    ),
    Mutant(
        "bins that are not apart by the bands",
        "sampling/passes.py",
        "blocks = min(p for p in range(bands, self.bins + 1) if self.bins % p == 0)",
        "blocks = 1",
        "events::test_bands_in_bins_against_simulation",
    ),
    Mutant(
        "shuffled data under adding a record",
        "sampling/passes.py",
        "return ShuffledEvent(whole)",
        "return whole",
        "events::test_shuffled_data_are_refused_under_adding_a_record",
    ),
    Mutant(
        "no amplification, and no sensitivity",
        "correlated/unamplified.py",
        "ratio = column_norm(strategy) / sensitivity(strategy, participation)",
        "ratio = 1 / participation.most**0.5",
        "events::test_the_event_is_that_of_the_theorem_or_there_is_none",
    ),
    Mutant(
        "groups by the position of a record",
        "sampling/cyclic.py",
        'return uniform_index(fold_in(key, "group"), self.size, below=self.cycle)',
        "return Tensor(range(self.size)).long() % self.cycle",
        "samplers::test_groups_are_uniform_and_secret",
    ),
    Mutant(
        "modulo bias",
        "random/subsets.py",
        "most = 2**63 // below * below",
        "most = 2**63",
        "samplers::test_an_index_is_exactly_uniform_where_words_do_not_divide",
    ),
    Mutant(
        "one coin for all cycles",
        "sampling/cyclic.py",
        'coins = fold_in(key, "cyclic sampling", step)',
        'coins = fold_in(key, "cyclic sampling", step % self.cycle)',
        "samplers::test_coins_of_a_cycle_are_independent_of_the_group",
    ),
    Mutant(
        "the same allocation in every epoch",
        "sampling/passes.py",
        'key_here = fold_in(key, "allocation", epoch, place)',
        'key_here = fold_in(key, "allocation", 0 * epoch, place)',
        "samplers::test_allocations_are_uniform_subsets_and_fresh_in_every_epoch",
    ),
]

if __name__ == "__main__":
    sys.exit(main(MUTANTS, PATTERN))
