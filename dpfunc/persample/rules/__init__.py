"""The rules: which operations the engine knows how to factor, and how.

In: an operation of torch that uses a parameter.
Out: its result, tapped, so that backward leaves factors behind.
Read first: `linear.py`.

Many files: one for each family of operations.
"""

from collections.abc import Mapping
from typing import Any

from dpfunc.persample.rules.attention import ATTENTION_RULES
from dpfunc.persample.rules.branches import BRANCH_RULES
from dpfunc.persample.rules.convolution import CONVOLUTION_RULES
from dpfunc.persample.rules.einsum import EINSUM_RULES
from dpfunc.persample.rules.linear import LINEAR_RULES
from dpfunc.persample.rules.lookup import LOOKUP_RULES
from dpfunc.persample.rules.masks import MASK_RULES
from dpfunc.persample.rules.norm import NORM_RULES
from dpfunc.persample.rules.properties import PROPERTY_RULES
from dpfunc.persample.rules.recurrent import RECURRENT_RULES
from dpfunc.persample.watching.capture import Rule

RULES: Mapping[Any, Rule] = {
    **LINEAR_RULES,
    **EINSUM_RULES,
    **CONVOLUTION_RULES,
    **LOOKUP_RULES,
    **ATTENTION_RULES,
    **RECURRENT_RULES,
    **NORM_RULES,
    **PROPERTY_RULES,
    **BRANCH_RULES,
    **MASK_RULES,
}
"""By torch function, as a `TorchFunctionMode` sees it."""
