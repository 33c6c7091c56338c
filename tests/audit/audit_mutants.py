"""Break the audits on purpose, one line at a time, and show which tests go red.

    python -m tests.audit.audit_mutants

Each mutant is a mistake that would make an audit say what it cannot know, or overlook a leak.
"""

import sys

from tests.mutation import Mutant, main

L12 = "l12_audits::test_a_true_claim_is_seldom_refuted"

UNIT = [
    Mutant(
        "a threshold from the scores that it counts",
        "audit/statistics/rank_test.py",
        'np.searchsorted(inside, outside[n_out - k], "right")',
        'np.searchsorted(inside, inside[n_in - k], "right")',
        "answers::test_a_threshold_is_chosen_by_the_other_side",
    ),
    Mutant(
        "bounds of thresholds that are not paid for",
        "audit/statistics/rank_test.py",
        "level = alpha / len(tests)",
        "level = alpha",
        "answers::test_a_bound_is_where_the_p_value_crosses_alpha",
    ),
    Mutant(
        "equal scores counted as above",
        "audit/statistics/rank_test.py",
        'np.searchsorted(inside, outside[n_out - k], "right")',
        'np.searchsorted(inside, outside[n_out - k], "left")',
        "answers::test_equal_scores_tell_nothing",
    ),
    Mutant(
        "cells of the rate at their lower ends",
        "audit/statistics/rank_test.py",
        "return ends, np.maximum(masses, 0.0)",
        "return np.append(0.0, ends[:-1]), np.maximum(masses, 0.0)",
        "reference::test_the_rank_test_of_an_epsilon",
    ),
    Mutant(
        "free guesses of fixed numbers counted once",
        "audit/statistics/path_test.py",
        "beta + 2 * canaries * delta * max(0.0, gain)",
        "beta + canaries * delta * max(0.0, gain)",
        "reference::test_guesses_fixed_beforehand",
    ),
    Mutant(
        "m delta forgotten in the p-value",
        "audit/statistics/path_test.py",
        "2 * min(betas) * _UP + len(found.turns) * delta",
        "2 * min(betas) * _UP",
        "answers::test_every_canary_costs_its_delta",
    ),
    Mutant(
        "m delta forgotten in the quick decision",
        "audit/statistics/path_test.py",
        "room = (alpha - len(found.turns) * delta) / (2 * _UP)",
        "room = alpha / (2 * _UP)",
        "answers::test_the_quick_decision_costs_its_delta",
    ),
    Mutant(
        "two families for the price of one",
        "audit/statistics/path_test.py",
        "room = (alpha - len(found.turns) * delta) / (2 * _UP)",
        "room = alpha - len(found.turns) * delta",
        "answers::test_the_quick_decision_is_the_p_values",
    ),
    Mutant(
        "a p-value that is not monotone, bisected",
        "audit/statistics/path_test.py",
        "while p_at(count * step) <= alpha:\n        count += 1",
        "count = max(n for n in range(5) if p_at(n * step) <= alpha) + 1",
        "answers::test_one_run_stops_at_the_first_claim_that_holds",
    ),
    Mutant(
        '"in" guessed beyond the top half',
        "audit/statistics/path_test.py",
        "Paths(tuple(np.cumsum(from_top).tolist())",
        "Paths(tuple(np.cumsum(is_in[np.lexsort((is_in, -values))]).tolist())",
        "answers::test_the_top_half_alone_is_guessed_to_be_in",
    ),
    Mutant(
        "guesses that were tried for free, against a whole curve",
        "audit/statistics/whole_curve.py",
        "return min(1.0, len(tried) * min(levels))",
        "return min(1.0, min(levels))",
        "answers::test_numbers_of_guesses_are_paid_for",
    ),
    Mutant(
        "a step of the recursion over the curve left out",
        "audit/statistics/whole_curve.py",
        "for i in range(right - 1, -1, -1):",
        "for i in range(right - 1, 0, -2):",
        "reference::test_the_largest_mu_refuted_by_one_run",
    ),
    Mutant(
        "abstaining is free",
        "audit/statistics/sequential.py",
        "gain = right - self._slopes * wrong - self._deltas / 2",
        "gain = right - self._slopes * wrong - (right | wrong) * self._deltas / 2",
        "sequential::test_abstaining_costs_half_of_delta",
    ),
    Mutant(
        "a mu called an epsilon",
        "audit/statistics/answers.py",
        'f"mu, {_ranks(tests)}"',
        'f"epsilon, {_ranks(tests)}"',
        "answers::test_a_result_says_all_that_belongs_to_it",
    ),
    Mutant(
        "dealt halves let through",
        "audit/statistics/scores.py",
        "n_in != n_out or total < _FEW or scores.fair_coins",
        "True",
        "answers::test_what_proves_nothing_is_refused_with_the_reason",
    ),
    Mutant(
        "negative slopes that claim too much",
        "audit/statistics/claims.py",
        "return 1 - math.exp(-epsilon) * (1 - delta)",
        "return 1 - math.exp(-epsilon)",
        "answers::test_a_claim_is_above_the_true_curve_and_close",
    ),
    Mutant(
        "equal scores in the order that suits",
        "audit/statistics/path_test.py",
        "from_top = is_in[np.lexsort((is_in, -values))][:half]",
        "from_top = is_in[np.lexsort((~is_in, -values))][:half]",
        "answers::test_equal_scores_tell_nothing",
    ),
]

LAW = [
    Mutant(
        "thresholds that are not paid for",
        "audit/statistics/rank_test.py",
        "len(tests) * min(p_value(test, claim) for test in tests)",
        "min(p_value(test, claim) for test in tests)",
        f"{L12}[ranks-nothing-told]",
    ),
    Mutant(
        "the number of guesses chosen by the coins",
        "audit/statistics/path_test.py",
        "return tuple((k, path[k - 1]) for k in _grid(len(path)))",
        "best = max(_grid(len(path)), key=lambda k: (2 * path[k - 1] - k) / k**0.5)\n"
        "    return ((best, path[best - 1]),)",
        f"{L12}[path-nothing-told]",
    ),
    Mutant(
        "a bet that knows its outcome",
        "audit/statistics/sequential.py",
        "wanted = np.where(state.squares > 0, state.won / state.squares, 0.0)",
        "wanted = np.where(gain > 0, 9.0, 0.0)",
        "l12_audits::test_stopping_when_one_likes_is_paid_for",
    ),
]

STEPS = [
    Mutant(
        "a movement that is not compared with the bound",
        "audit/steps/step_check.py",
        "if size > self.bound * (1 + self.tol):",
        "if size > 99 * self.bound * (1 + self.tol):",
        "step_check::test_a_leaf_without_clipping_is_a_violation",
    ),
    Mutant(
        "a NaN that passes",
        "audit/steps/step_check.py",
        "if not math.isfinite(size):",
        "if math.isinf(size):",
        "step_check::test_a_release_that_a_nan_takes_over_is_not_finite",
    ),
    Mutant(
        "an error with the record that passes",
        "audit/steps/step_check.py",
        'self.find("violation", where, f"{_name(after)} with it and none without")',
        "continue",
        "step_check::test_an_error_that_a_record_causes_is_a_violation",
    ),
    Mutant(
        "a contribution that is not compared with the gradient",
        "audit/steps/step_check.py",
        "if off > _OFF:",
        "if off > 1000 * _OFF:",
        "step_check::test_padding_that_is_ignored_gives_a_wrong_gradient",
    ),
    Mutant(
        "a replay on parameters of its own",
        "audit/steps/replay.py",
        "second = RecordingNoise([summed.values for summed in first.seen])",
        "second = RecordingNoise()",
        "replay::test_both_trainings_visit_the_same_parameters",
    ),
    Mutant(
        "bounds that are not compared",
        "audit/steps/replay.py",
        "if one.bound != other.bound:",
        "if one.bound < 0:",
        "replay::test_what_knows_the_data_is_found",
    ),
    Mutant(
        "noise of other steps that is not compared",
        "audit/steps/noise_check.py",
        'findings += _repeats(f"{name}, steps", [row[name] for row in rows], alpha)',
        "pass",
        "noise_check::test_other_noise_is_accused",
    ),
    Mutant(
        "too little noise that passes",
        "audit/steps/noise_check.py",
        "if not low <= total <= high * _LARGER:",
        "if not total <= high * _LARGER:",
        "noise_check::test_other_noise_is_accused",
    ),
    Mutant(
        "sizes of batches that are not looked at",
        "audit/steps/sampler_check.py",
        'found.append(_wrong("batch sizes", what))',
        "pass",
        "sampler_check::test_what_is_not_poisson_is_accused",
    ),
]

CANARIES = [
    Mutant(
        "scores that forget when the canary was sampled",
        "audit/canaries/release.py",
        "np.logaddexp(never, gain).sum(0)",
        "gain.sum(0)",
        "l13_canaries::test_a_score_is_the_privacy_loss",
    ),
    Mutant(
        'coins that are "exactly half"',
        "audit/canaries/gradient_canaries.py",
        'return bernoulli(fold_in(key, "audit coins"), (count,), probability=0.5)',
        "words = bernoulli(fold_in(key, 'audit coins'), (count // 2,), probability=0.5)\n"
        "    return torch.stack([words, ~words], 1).flatten()",
        "l13_canaries::test_coins_are_fair_and_each_ones_own",
    ),
    Mutant(
        "the largest of four p-values in the place of the least",
        "audit/canaries/release.py",
        "_TESTS * min(p_values.values())",
        "_TESTS * max(p_values.values())",
        "l13_canaries::test_the_mu_of_plain_noise_is_nearly_found",
    ),
]

RELEASE = [
    Mutant(
        "sums over steps taken for normal",
        "audit/canaries/release.py",
        "scores[part] = np.where(below < above, ndtri_exp(below), -ndtri_exp(above))",
        "scores[part] = (sums[part] - steps * rate / sigma) / math.sqrt("
        "steps * (1 + rate * (1 - rate) / sigma**2))",
        "release::test_a_true_release_is_seldom_refuted",
    ),
    Mutant(
        "products of all steps, though each is in two of them",
        "audit/canaries/release.py",
        "odd, given = scores[1::2], neighbours[1::2]",
        "odd, given = scores, neighbours",
        "release::test_a_true_release_is_seldom_refuted",
    ),
]

UNCORRELATED = [
    Mutant(
        "correlated noise taken as it comes",
        "audit/canaries/uncorrelated.py",
        "mixed = scipy.signal.lfilter(column, [1.0], values, axis=0)",
        "mixed = values",
        "uncorrelated::test_its_noise_is_independent_and_as_large_as_promised",
    ),
    Mutant(
        "steps of one canary whose columns overlap",
        "audit/canaries/uncorrelated.py",
        "cycle >= bands,",
        "cycle >= 1,",
        "uncorrelated::test_what_it_cannot_undo_is_refused",
    ),
]

QUERIES = [
    Mutant(
        "the exponent of a quantile not halved",
        "queries/noisy_quantile.py",
        "half = context.mpf(epsilon) / 2",
        "half = context.mpf(epsilon)",
        "noisy_quantile::test_the_steps_of_the_distribution_are_where_they_belong",
    ),
    Mutant(
        "a mean without the root of 2",
        "queries/bounded_sums.py",
        "math.sqrt(2) * half\n",
        "half\n",
        "bounded_sums::test_a_record_moves_the_values_by_the_bound_at_most",
    ),
    Mutant(
        "a clamp forgotten",
        "queries/bounded_sums.py",
        "(values - middle).clamp(-half, half)",
        "(values - middle)",
        "bounded_sums::test_a_record_moves_the_values_by_the_bound_at_most",
    ),
    Mutant(
        "clamped before it is centred, in float32",
        "queries/bounded_sums.py",
        "(values - middle).clamp(-half, half)",
        "values.float().clamp(least, most).sub(middle).double()",
        "bounded_sums::test_a_record_moves_the_values_by_the_bound_at_most",
    ),
    Mutant(
        "NaN let through",
        "queries/bounded_sums.py",
        "torch.where(values.isnan(), 0.0, values.clamp(least, most))",
        "values.clamp(least, most)",
        "bounded_sums::test_a_record_moves_the_values_by_the_bound_at_most",
    ),
    Mutant(
        "bounds of several queries not added",
        "queries/bounded_sums.py",
        "math.hypot(*(query.bound for query in queries.values()))",
        "max(query.bound for query in queries.values())",
        "bounded_sums::test_a_record_moves_the_values_by_the_bound_at_most",
    ),
]

SELECTION = [
    Mutant(
        "the shift from the order that is asked about",
        "accounting/questions/selection.py",
        "other = _OTHER.get(self.relation, self.relation)",
        "other = self.relation",
        "selection::test_no_ranking_exceeds_the_bound",
    ),
    Mutant(
        "the shift once, whatever the shape",
        "accounting/questions/selection.py",
        "return (1 + self.selection.shape) * self._tangent(other) * _UP",
        "return self._tangent(other) * _UP",
        "selection::test_no_ranking_exceeds_the_bound",
    ),
    Mutant(
        "delta not multiplied by the runs",
        "accounting/questions/selection.py",
        "upper = min(1.0, question.mean * found.upper * _UP)",
        "upper = min(1.0, found.upper * _UP)",
        "selection::test_no_ranking_exceeds_the_bound",
    ),
    Mutant(
        "a chord extended beyond its point",
        "accounting/questions/selection.py",
        "if epsilon <= at\n",
        "if epsilon <= 2 * at\n",
        "selection::test_no_ranking_exceeds_the_bound",
    ),
    Mutant(
        "a tangent that is not proven",
        "accounting/questions/selection.py",
        "while excess(e) > 0 and e < high:",
        "e *= 0.9\n        while excess(e) > 1 and e < high:",
        "selection::test_noise_by_the_theorem",
    ),
    Mutant(
        "a slope of delta taken for the probability that it bounds",
        "accounting/questions/selection.py",
        "first = here.lower + x * least, min(1.0, here.upper + x * most)",
        "first = here.lower + x * most * 1.3, min(1.0, here.upper + x * most)",
        "selection::test_what_is_attained_is_attained",
    ),
    Mutant(
        "a factor of the moments forgotten",
        "accounting/engines/renyi/divergence.py",
        "+ log_mean(selection) / (order - 1)",
        "+ 0.0",
        "selection::test_the_moments_are_those_of_papernot_and_steinke",
    ),
    Mutant(
        "the number of runs one too few",
        "sampling/number_of_runs.py",
        "return context.mpf([least, k])",
        "return context.mpf([least, k]) - (1 if least > 1 else 0)",
        "number_of_runs::test_the_law_is_the_truncated_negative_binomial",
    ),
]

MEMBERSHIP = [
    Mutant(
        "the target among its own shadows",
        "audit/membership/attacks.py",
        "values, is_in = np.delete(values, number, 0), np.delete(is_in, number, 0)",
        "same = values",
        "attacks::test_an_attack_does_not_know_who_was_in_and_finds_it",
    ),
    Mutant(
        "a shadow that is the target itself not noticed",
        "audit/membership/attacks.py",
        "len(same) == 0,",
        "True,",
        "attacks::test_a_target_among_its_own_shadows_is_refused",
    ),
    Mutant(
        "probabilities instead of margins: large ones all the same",
        "audit/membership/signals.py",
        "return own - values.scatter(-1, index, -torch.inf).logsumexp(-1)",
        "return (own - values.logsumexp(-1)).exp().logit()",
        "attacks::test_large_margins_stay_apart",
    ),
    Mutant(
        "one variance about the mean of all records",
        "audit/membership/attacks.py",
        "squares = ((values - mean) ** 2 * there).sum(0)",
        "squares = ((values - mean.mean()) ** 2 * there).sum(0)",
        "attacks::test_one_variance_is_about_each_records_own_means",
    ),
    Mutant(
        "models with the record among those without",
        "audit/membership/attacks.py",
        "return parts.target - _mean(parts.shadows, parts.is_out)",
        "return parts.target - parts.shadows.mean(0)",
        "attacks::test_the_calibrated_score_is_above_the_mean_without_the_record",
    ),
    Mutant(
        "a shadow more without a record that the target has",
        "audit/membership/attacks.py",
        "return is_in & ~first, ~is_in & ~first",
        "return is_in, ~is_in",
        "attacks::test_shares_that_are_dealt_out_do_not_tell_who_was_in",
    ),
    Mutant(
        "the band of a rate at the threshold that the data give",
        "audit/membership/curves.py",
        "if len(self.pairs) == 1:\n            low",
        "if len(self.pairs) == 0:\n            low",
        "curves::test_a_band_at_a_rate_holds_however_few_tell_where_that_rate_is",
    ),
    Mutant(
        "two rates in one band for the price of one",
        "audit/membership/curves.py",
        "alpha / tests / 4  # two rates, two sides",
        "alpha / tests / 2  # two rates, two sides",
        "curves::test_a_band_holds_at_its_confidence",
    ),
    Mutant(
        "equal scores counted as above in a curve",
        "audit/membership/curves.py",
        'np.searchsorted(np.sort(scores), thresholds, "right")',
        'np.searchsorted(np.sort(scores), thresholds, "left")',
        "curves::test_equal_scores_tell_nothing",
    ),
    Mutant(
        "a rate of one wrong guess",
        "audit/membership/curves.py",
        "_LEAST / self.n_out <= rate <= 1",
        "1 / self.n_out <= rate <= 1",
        "curves::test_a_rate_that_the_data_cannot_resolve_is_refused",
    ),
    Mutant(
        "the best attack of several for the price of one",
        "audit/membership/curves.py",
        "half = float(norm.isf(alpha / tests / 2)) * float(error)",
        "half = float(norm.isf(alpha / 2)) * float(error)",
        "curves::test_more_attacks_make_wider_bands",
    ),
    Mutant(
        "the worst of several slices for the price of one",
        "audit/membership/curves.py",
        'of(label == s, tests * len(every), f"slice {s!r}", {})',
        'of(label == s, tests, f"slice {s!r}", {})',
        "curves::test_bands_of_slices_hold_for_all_of_them_at_once",
    ),
    Mutant(
        "records that repeat counted as new ones",
        "audit/membership/curves.py",
        "if len(pairs) > 1 else _auc_error(inside, outside)",
        "if len(pairs) > 99 else _auc_error(inside, outside)",
        "curves::test_targets_are_pooled_and_drawn_again",
    ),
    Mutant(
        "shadows that see every record",
        "audit/membership/shadow_models.py",
        "_padded(drawn & member, parts",
        "_padded(drawn, parts",
        "shadow_models::test_a_model_sees_its_own_records_alone_at_the_rate",
    ),
    Mutant(
        "one noise for all shadows",
        "audit/membership/shadow_models.py",
        'randomness="different"',
        'randomness="same"',
        "shadow_models::test_each_model_draws_numbers_of_its_own",
    ),
    Mutant(
        "halves of the records instead of halves of the models",
        "audit/membership/shadow_models.py",
        "member = words.argsort(0).argsort(0) < count // 2",
        "member = words.argsort(1).argsort(1) < size // 2",
        "shadow_models::test_every_record_is_in_exactly_half_of_the_models",
    ),
    Mutant(
        "halves that were dealt out",
        "audit/membership/shadow_models.py",
        "size < _FEW or not halves,",
        "True,",
        "shadow_models::test_what_makes_no_shadows_is_refused",
    ),
    Mutant(
        "a certified curve that is the miss rate",
        "audit/membership/picture.py",
        "allowed = 1 - tradeoff_curve(event, rates.tolist())",
        "allowed = tradeoff_curve(event, rates.tolist())",
        "picture::test_an_honest_attack_stays_below_and_the_title_is_the_users",
    ),
]

KINDS = [
    Mutant(
        "an input canary seen along a gradient that is not its own",
        "audit/canaries/gradient_canaries.py",
        "(rows / rows.norm(dim=1, keepdim=True)) @ sums",
        "(rows.roll(1, 0) / rows.norm(dim=1, keepdim=True)) @ sums",
        "gradient_canaries::test_an_input_canary_is_seen_along_its_own_gradient",
    ),
    Mutant(
        "dirac canaries that share a coordinate",
        "audit/canaries/gradient_canaries.py",
        "torch.arange(count, device=flat.device) * len(flat) // count]",
        "torch.arange(count, device=flat.device) * len(flat) // count // 2]",
        "gradient_canaries::test_a_dirac_canary_pulls_one_coordinate_of_its_own",
    ),
]

EXPERIMENTS = [
    Mutant(
        "one key for all seeds",
        "experiments/sweeps.py",
        'fold_in(key, "sweep", *name)',
        'fold_in(key, "sweep", name[0])',
        "sweeps::test_no_two_runs_share_a_key_and_the_file_has_none",
    ),
    Mutant(
        "rows of any key taken for those of this one",
        "experiments/sweeps.py",
        "all(row.fingerprint == fingerprint for row in rows.values()),",
        "True,",
        "sweeps::test_rows_of_another_key_are_refused_and_the_file_stays",
    ),
    Mutant(
        "a row behind half a line",
        "experiments/rows.py",
        'file.seek(whole.rfind(b"\\n") + 1)',
        "file.seek(len(whole))",
        "sweeps::test_killed_at_any_byte_it_goes_on_to_the_same_rows",
    ),
    Mutant(
        "the event of a row counted once however often it was run",
        "experiments/tables.py",
        "counts[row.event] = counts.get(row.event, 0) + 1",
        "counts[row.event] = 1",
        "tables::test_the_price_of_looking_is_that_of_all_rows",
    ),
    Mutant(
        "the best for the price of one",
        "experiments/selecting.py",
        "price = epsilon(selection, delta=delta)",
        "price = epsilon(event, delta=delta)",
        "selecting::test_the_best_is_given_with_the_price_of_choosing",
    ),
    Mutant(
        "a number of runs that is no secret",
        "experiments/selecting.py",
        'count = runs_to_make(fold_in(key, "select"), mean_runs=mean_runs, shape=shape)',
        "count = round(mean_runs)",
        "selecting::test_the_best_is_given_with_the_price_of_choosing",
    ),
    Mutant(
        "settings in turn instead of at random",
        "experiments/selecting.py",
        'uniform_index(fold_in(key, "settings"), count, below=len(choices)).tolist()',
        "[0] * count",
        "selecting::test_settings_are_drawn_from_the_grid_and_runs_have_keys_of_their_own",
    ),
    Mutant(
        "runs numbered in turn, so that the best tells how many were worse",
        "experiments/selecting.py",
        'uniform_index(fold_in(key, "numbers"), count, below=_NUMBERS).tolist()',
        "list(range(count))",
        "selecting::test_the_best_does_not_tell_which_of_the_runs_it_was",
    ),
    Mutant(
        "a larger rate taken for less",
        "experiments/selecting.py",
        "and rate <= highest and",
        "and",
        "selecting::test_the_rate_counts",
    ),
]

LISTS = [
    ([*MEMBERSHIP, *KINDS, *RELEASE, *UNCORRELATED, *UNIT, *STEPS], "tests/audit/**/test_{}.py"),
    ([*LAW, *CANARIES], "tests/laws/test_{}.py"),
    ([*SELECTION, *QUERIES, *EXPERIMENTS], "tests/**/test_{}.py"),
]

if __name__ == "__main__":
    sys.exit(main(LISTS))
