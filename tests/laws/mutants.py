"""Break dpfunc on purpose, one line at a time, and show which law goes red.

A law that no wrong line can break proves nothing. Each mutant below is a mistake that would
silently void the guarantee; the law tests must fail for every one of them::

    python -m tests.laws.mutants

Mistakes that somebody else thought of, in a file (its form is in `tests/outside.py`), run against
the tests of the module that they are in, and then against the laws, with a score by package::

    python -m tests.laws.mutants --file F [--workers N]
"""

import argparse
import sys
from pathlib import Path

from tests import outside
from tests.mutation import Mutant, main

MUTANTS = [
    Mutant(
        "noise x 0.95",
        "noise/gaussian.py",
        "return self.noise_multiplier * widened(bound)",
        "return 0.95 * self.noise_multiplier * widened(bound)",
        "l2_noise l4 l5",
    ),
    Mutant(
        "clip skipped for one parameter",
        "step/private_grad.py",
        "weights = masked(self.clip.weights(norms, clip_state), mask)",
        "weights = masked(self.clip.weights(norms, clip_state), mask)\n"
        "        weights.values[next(iter(norms))] = mask.to(norms[next(iter(norms))].dtype)",
        "l1_sensitivity l4",
    ),
    Mutant(
        "mean instead of sum",
        "persample/factors/forms.py",
        "weights = weights.to(rows.dtype)",
        "weights = weights.to(rows.dtype) / max(1, len(weights))",
        "l1_sensitivity l4 l6_invariance",
    ),
    Mutant(
        "rate x 1.2",
        "sampling/poisson.py",
        "probability=rate)",
        "probability=min(0.999, 1.2 * rate))",
        "l3 l4 l5",
    ),
    Mutant(
        "key reused across steps",
        "noise/gaussian.py",
        'key = fold_in(self.key, "noise", *state["branches"][-1:], state["step"])',
        'key = fold_in(self.key, "noise", *state["branches"][-1:])',
        "l2_noise l4",
    ),
    Mutant(
        "mask ignored",
        "clipping/weights.py",
        "torch.where(mask, value, 0.0) for name",
        "torch.where(mask | True, value, 0.0) for name",
        "l1_sensitivity l4 l6_invariance",
    ),
    Mutant(
        "divisor = realised batch size",
        "step/private_grad.py",
        "divided(weights, self.expected_batch_size)",
        "divided(weights, max(1, int(mask.sum())))",
        "l2_noise l6_invariance",
    ),
    Mutant(
        "NaN sample let through",
        "clipping/rules.py",
        "return torch.where(norms.isfinite(), weights, 0.0)",
        "return weights",
        "l1_sensitivity",
    ),
    Mutant(
        "dropped samples multiplied by zero, not replaced",
        "persample/factors/forms.py",
        "return (values.view(word) & bits).view(values.dtype)",
        "return accumulable(values).clone()",
        "l1_sensitivity",
    ),
    Mutant(
        "nothing taken for dropped while something is kept",
        "persample/factors/forms.py",
        "return bool((weights != 0).all())",
        "return bool((weights != 0).any())",
        "l1_sensitivity",
    ),
    Mutant(
        "noise added for every microbatch",
        "step/private_grad.py",
        'part = in_microbatches(clipped_sum, params, args, state["clip"], mask, at_a_time)',
        'part = in_microbatches(clipped_sum, params, args, state["clip"], mask, at_a_time)\n'
        "        for extra in range(at_a_time or 10**6, len(mask), at_a_time or 10**6):\n"
        '            later = {**state["noise"], "step": 10**6 + extra}\n'
        "            more = self.noise.add(part.summed, later)[0]\n"
        "            part = part._replace(summed=part.summed._replace(values=more))",
        "l2_noise l4 l6_invariance",
    ),
    Mutant(
        "one noise for all parameters",
        "noise/kernels/flat.py",
        "starts[name], end = end, end + sizes[name]",
        "starts[name], end = 0, end + sizes[name]",
        "l2_noise l4 l8",
    ),
    Mutant(
        "clipped at 1.1 max_norm",
        "clipping/rules.py",
        "return (max_norm / norms).clamp(max=1.0)",
        "return (1.1 * max_norm / norms).clamp(max=1.0)",
        "l1_sensitivity l4",
    ),
    Mutant(
        "the sum rounded first, to the coarse grid",
        "noise/kernels/by_torch.py",
        "offset = sums.sub_(whole).nan_to_num_(nan=0.0)",
        "offset = sums.sub_(whole).mul_(0.0).nan_to_num_(nan=0.0)",
        "l8",
    ),
    Mutant(
        "the sum rounded first by the compiled kernel",
        "noise/kernels/numba_kernel.py",
        "_f32(v1 - k1)), fused",
        "_f32(0)), fused",
        "l8",
    ),
    Mutant(
        "open pairs of the compiled kernel taken as they are",
        "noise/kernels/numba_kernel.py",
        "open_pairs[b] = 0 if sure else 1\n"
        "        ones[b] = (k1 + kind(w1)) * grid if sure else ones[b]\n"
        "        others[b] = (k2 + kind(w2)) * grid if sure else others[b]",
        "open_pairs[b] = 0\n"
        "        ones[b] = (k1 + kind(w1)) * grid\n"
        "        others[b] = (k2 + kind(w2)) * grid",
        "l8",
    ),
    Mutant(
        "a compiled release whose halves have the same noise",
        "noise/kernels/numba_kernel.py",
        "fused(sine, reach, _f32(v2 - k2))",
        "fused(cosine, reach, _f32(v2 - k2))",
        "l8",
    ),
    Mutant(
        "the release not rounded at all",
        "noise/kernels/by_torch.py",
        "torch.round(real, out=nearest[:, side])",
        "nearest[:, side] = real",
        "l8",
    ),
    Mutant(
        "a grid that depends on the data",
        "noise/lattice.py",
        "    grid = spacing(deviation)\n",
        "    largest = max(float(v.abs().max()) for v in values.values() if v.numel())\n"
        "    grid = spacing(deviation + largest)\n"
        "",
        "l8",
    ),
    Mutant(
        "words of a pair swapped between cosine and sine",
        "noise/kernels/by_torch.py",
        "for side, wave in enumerate(waves(words[1])):",
        "for side, wave in enumerate(waves(words[1])[::-1]):",
        "l8",
    ),
    Mutant(
        "a flat offset off by one",
        "noise/kernels/flat.py",
        "row[at : at + part.numel()] = part",
        "row[at : at + part.numel()] = part.roll(1)",
        "l8",
    ),
    Mutant(
        "a cell whose corners are those of its middle",
        "noise/kernels/deciding.py",
        "far = scale * np.sqrt(-2 * np.log(radius * unit))",
        "far = scale * np.sqrt(-2 * np.log((radius + 0.5) * unit))",
        "l8",
    ),
    Mutant(
        "further bits that begin at the second",
        "noise/kernels/deciding.py",
        "more[0] >> (64 - FINE_BITS + width)",
        "(more[0] << 1) % 2**64 >> (64 - FINE_BITS + width)",
        "l8",
    ),
    Mutant(
        "open roundings not decided",
        "random/rounded.py",
        "return suspects[~decided].tolist()",
        "return suspects[~decided].tolist()[:0]",
        "l8",
    ),
    Mutant(
        "a bound on the error of float64 that is too small",
        "random/rounded.py",
        "return 2 * _ULP * ((1 + 2.0**-10 / u) / radius + 20 * radius)",
        "return 2.0**-9 * _ULP * ((1 + 2.0**-10 / u) / radius + 20 * radius)",
        "l8",
    ),
    Mutant(
        "the noise of a branch is that of the run it left",
        "noise/gaussian.py",
        'key = fold_in(self.key, "noise", *state["branches"][-1:], state["step"])',
        'key = fold_in(self.key, "noise", state["step"])',
        "l6_invariance",
    ),
    Mutant(
        "a state of another run accepted",
        "noise/gaussian.py",
        'and state["run"] == self._run(state["branches"])',
        'and len(state["run"]) == len(self._run(state["branches"]))',
        "l5",
    ),
    Mutant(
        "a step is not counted",
        "noise/gaussian.py",
        'return released, self._state(state["step"] + 1, state["branches"])',
        'step = state["step"]\n'
        '        return released, self._state(step + (step != 3), state["branches"])',
        "l5",
    ),
    Mutant(
        "microbatches joined in float32",
        "step/microbatch.py",
        "value.to(torch.float64) + right.summed.values[name]",
        "value + right.summed.values[name]",
        "l1_sensitivity",
    ),
    Mutant(
        "norms and sums in the precision of autocast",
        "persample/factors/precision.py",
        "if torch.is_autocast_enabled(device):",
        "if False:",
        "l1_sensitivity",
    ),
    Mutant(
        "squares added in a row",
        "persample/factors/forms.py",
        "whole = rows.shape[1] // _BLOCK * _BLOCK",
        "whole = 0",
        "l1_sensitivity",
    ),
    Mutant(
        "a norm that cancellation left taken as it is",
        "persample/factors/forms.py",
        "return torch.maximum(norm_sq, floor * sizes.square())",
        "return norm_sq",
        "l1_sensitivity",
    ),
    Mutant(
        "compiled sums added in a row",
        "step/graph.py",
        "    _add_in_float64(graph)\n    return graph",
        "    return graph",
        "l9",
    ),
    Mutant(
        "graphs run in the precision of autocast",
        "step/compiled.py",
        "with torch.no_grad(), full_precision():",
        "with torch.no_grad():",
        "l9",
    ),
    Mutant(
        "norms of two uses added",
        "persample/factors/combine.py",
        "(of_outer + scatter.raw_norm_sq() + 2 * crossed)",
        "(of_outer + scatter.raw_norm_sq() + 0 * crossed)",
        "l7",
    ),
    Mutant(
        "a norm taken of rounded numbers",
        "persample/factors/scatter.py",
        "rows = accumulable(self.rows)\n        table = rows.new_zeros((size,",
        "rows = self.rows\n        table = rows.new_zeros((size,",
        "l7",
    ),
    Mutant(
        "an unmapped input summed over the batch",
        "persample/watching/under_vmap.py",
        "return values.expand(size, *values.shape)",
        "return values.expand(size, *values.shape) / size",
        "l7",
    ),
    Mutant(
        "an offset of a dilated kernel taken for its number",
        "persample/factors/windows.py",
        "start += k * gap // step * stride",
        "start += k // step * stride",
        "l7",
    ),
    Mutant(
        "the gradient of a shift taken for that of the scale",
        "persample/rules/group_norm.py",
        "return self._of_sample(self._backward(read, grad).of_scale, len(read))",
        "return self._of_sample(self._backward(read, grad).of_shift, len(read))",
        "l7",
    ),
    Mutant(
        "a Gram matrix without its cross terms",
        "persample/factors/outer.py",
        "norm_sq = gram.sum((1, 2)).clamp_(min=0.0)",
        "norm_sq = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_(min=0.0)",
        "l7",
    ),
    Mutant(
        "samples moved by an index",
        "persample/whole_batch/order.py",
        "not _stays(index, place, places.size)",
        "False",
        "l7",
    ),
    Mutant(
        "samples that depend on each other let through",
        "persample/whole_batch/verify.py",
        "if differing or not close(loss, loss_alone, relative, floor=small):",
        "if False:",
        "l7",
    ),
    Mutant(
        "gradients held for other samples let through",
        "persample/whole_batch/verify.py",
        "    if differing:\n",
        "    if False:\n",
        "l7",
    ),
    Mutant(
        "a constant taken for the samples' own",
        "persample/whole_batch/places.py",
        "return values.expand(size, *values.shape)",
        "return values.expand(size, *values.shape) / size",
        "l7",
    ),
    Mutant(
        "a state's gradient of the wrong step",
        "persample/recurrence/lstm.py",
        "dc.mul_(forget[t - where.start])",
        "dc.mul_(forget[0])",
        "l7",
    ),
    Mutant(
        "the padding row trained",
        "persample/rules/lookup.py",
        "if padding_idx is not None:  # the row",
        "if padding_idx is None and not len(table):  # the row",
        "l7",
    ),
    Mutant(
        "accountant: rate q read as 1 - q",
        "accounting/domination/sampled_release.py",
        "return ((records, rate),)",
        "return ((records, 1 - rate if rate < 1 else rate),)",
        "l10",
    ),
    Mutant(
        "accountant: sigma read as sigma squared",
        "accounting/domination/release.py",
        "return GaussianMixture(sigma, _as_floats(above), _as_floats(below))",
        "return GaussianMixture(sigma**2, _as_floats(above), _as_floats(below))",
        "l10",
    ),
    Mutant(
        "accountant: adding and removing swapped",
        "accounting/domination/sampled_release.py",
        """        case "remove":
            return additive_pair(mechanism, above=moves)""",
        """        case "remove":
            return additive_pair(mechanism, below=moves)""",
        "l10",
    ),
    Mutant(
        "accountant: tail mass dropped",
        "accounting/pairs/atoms.py",
        "masses[0] += p.mass[0]",
        "masses[0] += 0 * p.mass[0]; masses[len(nodes) // 2 :] = 0",
        "l10",
    ),
    Mutant(
        "accountant: a cell's mass put on its lower end",
        "accounting/pairs/atoms.py",
        "masses[1:] += up\n    masses[:-1] += p.mass[inner] - up",
        "masses[:-1] += p.mass[inner]",
        "l10",
    ),
    Mutant(
        "accountant: the kernel without its second factor",
        "accounting/engines/contour/inversion.py",
        "weights = t[1] / math.pi / (z * (z + 1))",
        "weights = t[1] / math.pi / (z * (z + 1.2))",
        "l10",
    ),
    Mutant(
        "accountant: a shared table read as that of the fewest steps",
        "accounting/engines/contour/inversion.py",
        "turn = np.multiply.outer(ratio, table.log_moment.imag)",
        "turn = np.multiply.outer(ratio**0, table.log_moment.imag)",
        "l10",
    ),
    Mutant(
        "accountant: a step forgotten",
        "accounting/engines/contour/line.py",
        "total = total + float(times) * one.log()",
        "total = total + float(times - 1) * one.log()",
        "l10",
    ),
    Mutant(
        "a mean over the batch taken for a sum",
        "engine/gathering.py",
        "scale = float(microbatch.size) if self._is_mean else 1.0",
        "scale = 1.0",
        "l11",
    ),
    Mutant(
        "a microbatch forgotten",
        "engine/gathering.py",
        "for other in self._parts[1:]:",
        "for other in self._parts[2:]:",
        "l11",
    ),
    Mutant(
        "the sample that fills an empty batch counts",
        "engine/batches.py",
        "len(part) > 0),",
        "True),",
        "l11",
    ),
    Mutant(
        "an epoch draws the batches of the one before",
        "engine/privacy_engine.py",
        "            first_step=lambda: self._steps,",
        "            first_step=lambda: self._steps % self.budget.steps_per_epoch,",
        "l11",
    ),
    Mutant(
        "one step beyond the budget",
        "engine/privacy_engine.py",
        "if self.remaining_steps() >= 1:",
        "if self.remaining_steps() >= 0:",
        "l11",
    ),
    Mutant(
        "losses that mix samples let through",
        "engine/separable.py",
        "if not close(added, grad, tolerance, floor=tolerance * scale):",
        "if False:",
        "l11",
    ),
    Mutant(
        "ordinary gradients beside the private ones let through",
        "engine/checks.py",
        "        not escaped,",
        "        True,",
        "l11",
    ),
    Mutant(
        "buffers that change in forward let through",
        "engine/forward.py",
        "        if changed:",
        "        if False:",
        "l11",
    ),
    Mutant(
        "numbers of the batch in the loss let through",
        "engine/separable.py",
        "if known is not None and known != numbers:",
        "if False:",
        "l11",
    ),
    Mutant(
        "a loader's own choice of samples dropped",
        "engine/given_loader.py",
        "own is None or _takes_every_sample(own, dataset.dataset),",
        "True,",
        "l11b::test_a_loader_with_a_sampler_of_its_own_is_refused",
    ),
    Mutant(
        "fresh public data taken for a constant",
        "engine/separable.py",
        "key=lambda axes: sum(axis is None for axis in axes)",
        "key=lambda axes: -sum(axis is None for axis in axes)",
        "l11b::test_public_data_beside_private_data",
    ),
    Mutant(
        "chance drawn anew in a look",
        "persample/whole_batch/draws.py",
        "if draw is None or",
        "if True or",
        "l11b::test_a_loop_that_draws l11b::test_a_model_that_draws",
    ),
    Mutant(
        "draws with numbers of other samples let through",
        "persample/whole_batch/draws.py",
        "if not apart <= relative * float(there.double().norm()) + 1e-12:",
        "if False:",
        "l11b::test_a_draw_with_numbers_of_the_whole_batch_is_refused "
        "l7b::test_a_probability_of_the_whole_batch_is_refused",
    ),
    Mutant(
        "every sample given the same draws in a look",
        "persample/whole_batch/draws.py",
        "rows = (first + number * step) % 1.0",
        "rows = (first + 0 * number * step) % 1.0",
        "l7b::test_a_shuffle_by_chance_is_refused",
    ),
    Mutant(
        "a tensor drawn in place under vmap forgotten",
        "persample/watching/own_draws.py",
        "self._drawn[id(args[0])] = args[0], mapped",
        "self._drawn[0] = args[0], mapped",
        "l7b::test_every_sample_draws_for_itself_and_its_gradient_is_of_what_it_drew",
    ),
    Mutant(
        "gradients of another network let through",
        "engine/separable.py",
        "if leaf.requires_grad and id(leaf) in reached:",
        "if False:",
        "l11b::test_a_network_with_a_gradient_is_refused",
    ),
    Mutant(
        "a detached network taken for one that is trained",
        "engine/program.py",
        "made = [t for t in tensors_in(call.result) if t.requires_grad]",
        "made = tensors_in(call.result)",
        "l11b::test_outputs_of_another_network",
    ),
    Mutant(
        "a checkpointed part recomputed without its rules",
        "engine/passes.py",
        "return Recomputing(tape, recalled, [*params.values(), *derived.values()])",
        "return nullcontext()",
        "l11b::test_activation_checkpointing",
    ),
    Mutant(
        "a gradient that is not there yet read as none",
        "engine/gathering.py",
        "if self.guards:",
        "if not self.guards:",
        "l11b::test_a_gradient_that_is_read_before_the_step_is_refused",
    ),
    Mutant(
        "an ordinary gradient of a frozen parameter let through",
        "engine/checks.py",
        "        not moved,",
        "        True,",
        "l11b::test_frozen_parameters_with_a_gradient_and_thawed_ones_are_refused",
    ),
    Mutant(
        "thawed parameters let through",
        "engine/checks.py",
        "not thawed and not frozen,",
        "True,",
        "l11b::test_frozen_parameters_with_a_gradient_and_thawed_ones_are_refused",
    ),
    Mutant(
        "two engines on one model",
        "engine/attachment.py",
        "not any(other.holds(own) for other in _ATTACHED),",
        "True,",
        "l11b::test_an_engine_that_is_gone_lets_go_of_the_model_and_not_of_the_optimizer",
    ),
    Mutant(
        "an optimizer whose engine is gone steps without privacy",
        "engine/attachment.py",
        "Hook(engine.before_step, _refuse_without_engine)",
        "Hook(engine.before_step)",
        "l11b::test_an_engine_that_is_gone_lets_go_of_the_model_and_not_of_the_optimizer",
    ),
    Mutant(
        "a table's sparse gradient compared as it is",
        "persample/definition/dense.py",
        "return grad.to_dense() if grad is not None and grad.is_sparse else grad",
        "return grad",
        "l11b::test_a_sparse_embedding",
    ),
    Mutant(
        "taps inside of a derivative",
        "persample/watching/capture.py",
        "if mentioned and (self.saw_derivative or not self.samples.mapped):",
        "if False:",
        "l7c::test_a_loss_of_one_sample",
    ),
    Mutant(
        "processes that each add noise of their own let through",
        "step/one_process.py",
        "        size == 1,",
        "        True,",
        "l11c::test_two_processes l11c::test_real_processes",
    ),
    Mutant(
        "a module wrapped for several processes let through",
        "step/one_process.py",
        "        not wrapped,",
        "        True,",
        "l11c::test_wrapped_modules",
    ),
    Mutant(
        "all slices but the last left out of a sum",
        "persample/factors/outer.py",
        "total.addmm_(*clean(where))",
        "total = torch.matmul(*clean(where))",
        "l7_slices",
    ),
    Mutant(
        "slices joined in an order that is not undone",
        "persample/factors/cost.py",
        "joined.permute([order.index(axis) for axis in range(len(order))])",
        "joined.permute(order)",
        "l7_slices",
    ),
    Mutant(
        "a copy in another order taken for a transpose",
        "persample/factors/views.py",
        "        alias\n        and param.dim() == 2",
        "        param.dim() == 2",
        "l7_views",
    ),
    Mutant(
        "the scale of attention ignored",
        "persample/rules/attention.py",
        "q, k, v, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa",
        "q, k, v, mask, dropout_p, is_causal, enable_gqa=enable_gqa",
        "l7_keywords",
    ),
    Mutant(
        "a table that a lookup rescales by the data let through",
        "persample/rules/lookup.py",
        "        max_norm is None,",
        "        True,",
        "l7_keywords",
    ),
    Mutant(
        "keys that are the queries taken for the values, too",
        "persample/rules/attention.py",
        "elif query is key and key is value:",
        "elif query is key:",
        "l7_oracle",
    ),
    Mutant(
        "looks that end after the second batch",
        "persample/whole_batch/verify.py",
        "return times & (times - 1) == 0",
        "return times < 2",
        "l7_looks",
    ),
    Mutant(
        "always the first samples looked at",
        "persample/whole_batch/verify.py",
        "chosen = permutation(key(), batch_size(batch))[:different]",
        "chosen = torch.arange(different)",
        "l7_looks",
    ),
    Mutant(
        "mixing a hundred times as large taken for rounding",
        "persample/whole_batch/verify.py",
        "return math.sqrt(rounding), min(100",
        "return rounding**0.15, min(100",
        "l7_looks",
    ),
    Mutant(
        "samples moved by a spelling that is not looked at",
        "persample/whole_batch/order.py",
        '_spelt(("index_put",), _put)',
        "_spelt((), _put)",
        "l7_looks",
    ),
    Mutant(
        "two terms taken for one that nothing can cancel",
        "persample/factors/outer.py",
        "one_term = self.left.shape[1] == 1",
        "one_term = self.left.shape[1] <= 2",
        "l1_cancellation",
    ),
    Mutant(
        "the sizes of a lookup taken for its norm",
        "persample/factors/scatter.py",
        "row_norm_sq(rows).sqrt().view(self.rows.shape[:2]).sum(1)",
        "row_norm_sq(rows).view(self.rows.shape[:2]).sum(1).sqrt()",
        "l1_cancellation",
    ),
    Mutant(
        "a sum of forms without its floor",
        "persample/factors/combine.py",
        "    return at_least_rounding(norm_sq, sizes)\n",
        "    return norm_sq\n",
        "l1_cancellation",
    ),
    Mutant(
        "convolutions of another library left in low precision",
        "persample/factors/precision.py",
        "    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]  # made at run time\n",
        "",
        "l1_precision",
    ),
    Mutant(
        "the clip rule learns from padding",
        "step/private_grad.py",
        'self.clip.update(part.norms, mask, state["clip"])',
        'self.clip.update(part.norms, mask | True, state["clip"])',
        "l6_state",
    ),
    Mutant(
        "planned steps go on beyond the target",
        "engine/budget.py",
        "most = within if steps is None else min(steps, within)",
        "most = within if steps is None else max(steps, within)",
        "l6_state",
    ),
    Mutant(
        "a fresh key of half the bits",
        "random/keys.py",
        "Key(secrets.token_bytes(_KEY_BYTES))",
        "Key(secrets.token_bytes(_KEY_BYTES // 2) * 2)",
        "l2_keys",
    ),
    Mutant(
        "names folded in without their lengths",
        "random/keys.py",
        'tag + len(payload).to_bytes(8, "little") + payload',
        "tag + payload",
        "l2_keys",
    ),
    Mutant(
        "a bound on the error of a logarithm that is too small",
        "random/discrete.py",
        "_LOG_ERROR = 2.0**-42",
        "_LOG_ERROR = 2.0**-58",
        "l2_keys",
    ),
    Mutant(
        "a row that one of two tables has not used left out of a look",
        "persample/whole_batch/verify.py",
        "(table.amin(1) != 0) for table in tables]).any(0)",
        "(table.amin(1) != 0) for table in tables]).all(0)",
        "l7d::test_a_row_that_is_zero_in_one_of_two_tables_counts",
    ),
    Mutant(
        "samples that are compared refused for another reason",
        "engine/replaying.py",
        "    if compares:",
        "    if False:",
        "l11d::test_samples_that_are_compared",
    ),
    Mutant(
        "frequencies of the whole batch in a table's gradient",
        "persample/rules/lookup.py",
        "not scale_grad_by_freq or tape.samples.mapped,",
        "True,",
        "l11d::test_lookups",
    ),
    Mutant(
        "a stream taken for a dataset that can be sampled",
        "engine/checks.py",
        "not isinstance(dataset, IterableDataset),",
        "True,",
        "l11d::test_a_stream_with_a_length",
    ),
    Mutant(
        "an error of vmap passed on as it is",
        "persample/definition/own_words.py",
        "if _OWN.match(said) or not found:",
        "if True:",
        "l11d::test_a_checkpoint_under_vmap",
    ),
]


def run() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.laws.mutants")
    parser.add_argument("--file", type=Path, help="mutants from outside, Python or JSON")
    parser.add_argument("--workers", type=int, default=1, help="mutants at a time, of a file")
    options = parser.parse_args()
    if options.file is not None:
        return outside.main(options.file, workers=options.workers)
    return main(MUTANTS, "tests/laws/test_{}_*.py")


if __name__ == "__main__":
    sys.exit(run())
