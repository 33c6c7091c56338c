"""Mistakes around a step that no law is about; run by `tests.laws.mutants`."""

from tests.mutation import Mutant

PATTERN = "tests/**/test_{}.py"

MUTANTS = [
    Mutant(
        "a run of noise alone passes in silence",
        "engine/noise_alone.py",
        "if total - count <= _NEAR * math.sqrt(2 * count):",
        "if total - count <= -_NEAR * math.sqrt(2 * count):",
        "noise_alone::test_what_is_called_noise",
    ),
    Mutant(
        "a captured step replayed without what it writes",
        "step/replay.py",
        "return schema is not None and bool(schema.is_mutable)",
        "return False",
        "replay::test_what_is_written_in_place_is_written",
    ),
    Mutant(
        "another layout taken for the same",
        "step/replay.py",
        "node.target in _RESHAPED and _layout(node) == _layout(node.args[0])",
        "node.target in _RESHAPED",
        "replay::test_a_view_of_other_strides_stays",
    ),
    Mutant(
        "a step inside a transform",
        "persample/watching/under_vmap.py",
        "not around,",
        "True,",
        "l11d_causes::test_steps_inside_a_transform",
    ),
    Mutant(
        "weights of one parameter for all",
        "clipping/weights.py",
        "if id(value) not in changed:",
        "if not changed:",
        "weights::test_each_parameter_keeps_the_weights_of_its_own",
    ),
    Mutant(
        "a key that others can read",
        "random/key_files.py",
        "        not others,",
        "        True,",
        "key_files::test_what_others_may_touch_is_refused",
    ),
    Mutant(
        "what a norm calls after itself forgotten",
        "modules/mending/norm_then.py",
        "            x = child(x)\n        return x",
        "            child(x)\n        return x",
        "norm_then::test_submodules_are_kept_and_called_after_the_norm",
    ),
    Mutant(
        "noise for the real parts of complex sums",
        "noise/lattice.py",
        "if not v.is_floating_point()}",
        "if not v.is_floating_point() and not v.is_complex()}",
        "gaussian::test_sums_of_other_than_real_floats_are_refused",
    ),
    Mutant(
        "a negative size passed on to torch",
        "random/shapes.py",
        'require(is_count(size), subject, "a shape of ints >= 0", shape, "pass how many to draw")',
        "pass",
        "arguments::test_a_size_that_is_none_is_refused_in_the_samplers_own_name",
    ),
    Mutant(
        "a Triton kernel that gave other numbers is used",
        "noise/kernels/by_triton.py",
        "    return wrong\n",
        "    return None\n",
        "by_triton::test_where_the_kernel_fails_torch_operations_release_and_the_user_is_told",
    ),
    Mutant(
        "a release that waits for the device twice",
        "noise/kernels/by_triton.py",
        "_finish(int(count), listed",
        "_finish(max(int(count), int(count)), listed",
        "launches::test_a_release_is_one_launch_for_each_dtype_and_one_wait",
    ),
    Mutant(
        "half of the bound that is proven for single precision",
        "noise/kernels/by_triton.py",
        "(2.0**-24 * scale * factor for",
        "(2.0**-25 * scale * factor for",
        "launches::test_the_kernel_gets_the_bound_that_is_proven",
    ),
]
