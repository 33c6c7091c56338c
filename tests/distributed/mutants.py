"""Mistakes that several processes make possible, planted one at a time, and what notices them.

python -m tests.distributed.mutants
"""

import sys

from tests.mutation import Mutant, main

_ANY_NUMBER = "l15_processes::test_any_number_of_processes_releases_what_one_does"
_RELEASE = "grads, after, _ = private.release(part, params, state, _everyone(norms))"
_FULLY = "l15e_fully_sharded::test_rows_of_fully_shard_are_the_release_of_the_plain_model"
_SHARED = "l15f_tensor_parallel::test_shared_samples_are_released_as_by_one_process"
_ADDED = "processes.add_up_([mine.total.values[name] for name in sorted(params)])"

MUTANTS = [
    Mutant(
        "rows are added up over other processes than share the records",
        "distributed/sharded.py",
        " or sorted(mesh.mesh.tolist()) != own",
        "",
        "l15c_sharded::test_rows_on_other_processes_than_the_records_are_refused "
        "l15e_fully_sharded::test_rows_on_other_processes_than_the_records_are_refused",
        nightly=True,
    ),
    Mutant(
        "rank 0 alone adds noise",
        "distributed/shared_release.py",
        _RELEASE,
        "sums = {n: v.to(params[n].dtype) + 0 for n, v in part.summed.values.items()}\n"
        f"    {_RELEASE}\n"
        "    grads = sums if processes.own > 0 else grads",
        "l15_processes::test_the_noise_is_that_of_one_release",
        nightly=True,
    ),
    Mutant(
        "every rank adds noise of its own",
        "distributed/shared_release.py",
        _ADDED,
        "for place, value in enumerate(mine.total.values.values()):\n"
        "        places = torch.arange(value.numel()).view_as(value) + 99 * processes.own + place\n"
        "        value += (torch.sin(7919.0 * places) / mine.total.grid).round()\n"
        f"    {_ADDED}",
        "l15_processes::test_the_noise_is_that_of_one_release",
    ),
    Mutant(
        "mean for sum",
        "distributed/processes.py",
        "part.copy_(summed.view_as(part))",
        "part.copy_(summed.view_as(part) / self.count)",
        _ANY_NUMBER,
    ),
    Mutant(
        "sums left where they were made",
        "distributed/shared_release.py",
        _ADDED,
        "pass",
        _ANY_NUMBER,
        nightly=True,
    ),
    Mutant(
        "records split by position",
        "distributed/records.py",
        "return [indices[shard == number] for number in own]",
        "return list(indices.tensor_split(len(own))) if shards else [shard]",
        "data_parallel::test_every_record_that_is_drawn_is_in_its_shard_on_one_process",
    ),
    Mutant(
        "a shard on two processes",
        "distributed/data_parallel.py",
        "return range(processes.own, self.shards, processes.count)",
        "return range(processes.own // 2, self.shards, processes.count)",
        "data_parallel::test_every_record_that_is_drawn_is_in_its_shard_on_one_process",
    ),
    Mutant(
        "a shard's records in the place of another's",
        "distributed/data_parallel.py",
        "sizes is None or found == sizes",
        "sizes is None or sum(found) >= 0",
        "data_parallel::test_wrong_batches",
    ),
    Mutant(
        "the grid of a single sum",
        "noise/exact_sums.py",
        "bound / (parts * math.sqrt(size))",
        "bound / math.sqrt(size)",
        "exact_sums::test_no_assignment_of_records_to_parts_moves_the_sum_by_more",
    ),
    Mutant(
        "the grid of one coordinate",
        "noise/exact_sums.py",
        "bound / (parts * math.sqrt(size))",
        "bound / parts",
        "exact_sums::test_no_assignment_of_records_to_parts_moves_the_sum_by_more",
    ),
    Mutant(
        "parts that are not rounded",
        "noise/exact_sums.py",
        ".div_(grid).round_()",
        ".div_(grid)",
        "exact_sums::test_any_order_gives_the_same_bits",
    ),
    Mutant(
        "a block of coins too far",
        "sampling/poisson.py",
        "start + (block * shards + shard) * _BLOCK + place",
        "start + (block * shards + shard + (shards > 1)) * _BLOCK + place",
        "shards::test_the_parts_are_the_sample_cut_by_shard",
    ),
    Mutant(
        "nobody compares keys",
        "distributed/shared_release.py",
        '        "key, noise multiplier and state of the noise": state["noise"],\n',
        "",
        "l15_processes::test_what_is_wrong_on_one_process_is_an_error_on_all_before_anything_is_released",
        nightly=True,
    ),
    Mutant(
        "an error that stays on its process",
        "distributed/agreement.py",
        'processes.tell({"failed": _reason(error)}, device)',
        'processes.tell({"facts": {}, "counts": {"samples": 0, "largest": 0}}, device)',
        "l15_processes::test_what_is_wrong_on_one_process_is_an_error_on_all_before_anything_is_released",
    ),
    Mutant(
        "a clip rule that learns from its own process",
        "distributed/shared_release.py",
        'if state["clip"]:',
        "if not norms:",
        _ANY_NUMBER,
        nightly=True,
    ),
    Mutant(
        "norms in the order of the processes",
        "distributed/norms.py",
        "everyone.transpose(0, 1).flatten(0, 1)",
        "everyone.flatten(0, 1)",
        _ANY_NUMBER,
        nightly=True,
    ),
    Mutant(
        "a shard's filler counted among its samples",
        "engine/gathering.py",
        "norms = {name: norm[self.mask] for",
        "norms = {name: norm[self.mask | True] for",
        "gathering::test_what_fills_up_does_not_count_and_shards_stay_apart",
    ),
    Mutant(
        "every process draws the whole batch",
        "engine/batches.py",
        "shards = records_of(key, step, sampler=sampler, own=own, shards=own.stop)",
        "shards = records_of(key, step, sampler=sampler, own=range(1), shards=1) * len(own)",
        "batches::test_each_record_of_the_batch_comes_once",
    ),
    Mutant(
        "a loop that fails alone",
        "engine/team.py",
        "if self.is_shared:\n                tell",
        "if not self.is_shared:\n                tell",
        "l15b_engine::test_what_each_wrong_use_says_and_that_nothing_is_released",
    ),
    Mutant(
        "an error of the loop that stays on its process",
        "engine/privacy_engine.py",
        "if error is not None and self._gathering.is_under_way:",
        "if error is None and self._gathering.is_under_way:",
        "l15b_engine::test_an_error_of_the_loop_itself_is_one_on_all_processes",
        nightly=True,
    ),
    Mutant(
        "the divisor is who answered",
        "step/users.py",
        "masked(clip.weights(norms, clip_state), mask), expected_users)",
        "masked(clip.weights(norms, clip_state), mask), users)",
        "users::test_the_mean_is_that_of_clipped_updates_over_a_constant",
    ),
    Mutant(
        "a round that leaves the state",
        "step/users.py",
        '"noise": noise_state}',
        '"noise": {**noise_state, "step": state["noise"]["step"]}}',
        "users::test_rounds_have_fresh_noise_and_the_accountant_counts_them",
    ),
    Mutant(
        "the noise of rows one place off",
        "distributed/sharded.py",
        "start = starts[name] + _first_row(param)",
        "start = starts[name] + bool(_first_row(param)) + _first_row(param)",
        "l15c_sharded::test_rows_on_many_processes_are_the_whole_release",
    ),
    Mutant(
        "every process has the noise of the first rows",
        "distributed/sharded.py",
        "return min(each * mesh.get_local_rank(), param.shape[axis])",
        "return min(each * 0, param.shape[axis])",
        "l15c_sharded::test_rows_on_many_processes_are_the_whole_release",
        nightly=True,
    ),
    Mutant(
        "what is whole on all processes counted by each",
        "distributed/sharded.py",
        "params[name]).mul_(total.grid)",
        "params[name]).mul_(total.grid * (2 if params[name].dim() == 0 else 1))",
        "l15c_sharded::test_rows_on_many_processes_are_the_whole_release",
        nightly=True,
    ),
    Mutant(
        "a collective that depends on the data",
        "distributed/processes.py",
        "        for bucket in _buckets(tensors):",
        "        for bucket in _buckets([part for part in tensors if part.any()]):",
        "data_parallel::test_the_sums_are_sent_whatever_is_in_them",
    ),
    Mutant(
        "the last shard of a process alone, in rows of fully_shard",
        "engine/fully_sharded.py",
        "            add_(self._total, own)",
        "            self._total = own",
        _FULLY,
        nightly=True,
    ),
    Mutant(
        "rows of fully_shard on the grid of one shard",
        "engine/fully_sharded.py",
        "parts=self._shards)",
        "parts=1)",
        _FULLY,
        nightly=True,
    ),
    Mutant(
        "rows of one process alone",
        "distributed/sharded.py",
        "    return parts.redistribute(placements=param.placements).to_local()",
        "    return distributed_tensor(part, param.device_mesh, param.placements).to_local()",
        _FULLY,
    ),
    Mutant(
        "a look that fails alone",
        "engine/fully_sharded.py",
        "            tell_failure(self._processes, self._device, error)\n            raise",
        "            error._dpfunc_is_known_to_all = True\n            raise",
        "l15e_fully_sharded::test_what_each_wrong_use_says_on_all_processes",
        nightly=True,
    ),
    Mutant(
        "what is whole counted on every process of a sample",
        "distributed/tensor_parallel.py",
        "                squares[place] = 0",
        "                squares[place] *= 1",
        "l15f_tensor_parallel::test_a_whole_parameter_counts_once_and_parts_add_up",
    ),
    Mutant(
        "a part of the gradient of what is whole",
        "distributed/tensor_parallel.py",
        "    off = (found - expected).abs() >",
        "    off = 0 * (found - expected).abs() >",
        "l15f_tensor_parallel::test_what_each_wrong_use_says",
        nightly=True,
    ),
    Mutant(
        "the norm of a process's own part",
        "distributed/tensor_parallel.py",
        "    tensor.add_up_([squares, first, alike])",
        "    tensor.add_up_([squares.clone(), first, alike])",
        _SHARED,
        nightly=True,
    ),
    Mutant(
        "the gradient of one process's part of the work",
        "distributed/fans.py",
        "return _FanIn.apply(grad, ctx.group), None",
        "return _FanOut.apply(grad, ctx.group), None",
        _SHARED,
        nightly=True,
    ),
    Mutant(
        "columns with the noise of the first columns",
        "distributed/sharded.py",
        "    whole.narrow(axis, first, width).copy_(own)",
        "    first = 0\n    whole.narrow(axis, first, width).copy_(own)",
        _SHARED,
    ),
    Mutant(
        "the grid of a process's own parts",
        "distributed/tensor_parallel.py",
        "contribution(_SUBJECT, map(part, batches), params, self.shards)",
        "contribution(_SUBJECT, map(part, batches), local, self.shards)",
        "l15f_tensor_parallel::test_the_grid_is_that_of_all_parameters_together",
        nightly=True,
    ),
    Mutant(
        "a count of users that nobody pays for",
        "step/users.py",
        "return event_of(self.sampler, self.noise, self.clip, state",
        "return event_of(self.sampler, self.noise, object(), state",
        "users::test_what_a_rule_learns_of_the_users_is_paid_for",
    ),
    Mutant(
        "a part of another process's shard in a trainer",
        "engine/parts.py",
        "microbatch_size=None, own=self.own)",
        "microbatch_size=None, own=range(0, *(self.own.stop, self.own.step)))",
        "processes::test_lightning_on_two_processes",
    ),
]

LISTS = [(MUTANTS, "tests/**/test_{}.py")]

if __name__ == "__main__":
    sys.exit(main(LISTS))
