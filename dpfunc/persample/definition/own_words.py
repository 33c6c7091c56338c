"""What PyTorch says where it cannot run a loss, in words that tell what to do.

An error of vmap or of a kernel names neither the cause nor the way out. Its first line is kept.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_OWN = re.compile(r"[\w.]+: expected ")
_FUNCTIONAL = "a loss without changes of what all samples share"
_WHOLE = "or mark a loss of the whole batch with batched"

# What is said, what was expected of the loss, and what to do.
_SAID = [
    (
        r"calling \.item\(\)|data-dependent control flow",
        "a loss of one sample whose Python code does not read the data",
        f"use torch.where, {_WHOLE}",
    ),
    (
        "dynamic shape|nonzero",
        "a loss of one sample whose shapes do not depend on the data",
        f"mask with torch.where instead of picking entries, {_WHOLE}",
    ),
    (
        "randomness error mode",
        "a loss that draws nothing at random",
        'pass randomness="different": each sample then draws for itself',
    ),
    (
        "tensor may have escaped|saved tensor hooks",
        "a loss of one sample without activation checkpointing",
        "mark a loss of the whole batch with batched, and checkpoint with use_reentrant=False",
    ),
    (
        r"use_reentrant=True|incompatible with \.grad\(\)",
        "activation checkpointing that runs again where it is watched",
        "pass use_reentrant=False to torch.utils.checkpoint",
    ),
    (
        "setup_context",
        "functions of autograd that vmap can run",
        "give a custom autograd.Function a setup_context and a rule for vmap; leave out full "
        f"backward hooks and reentrant checkpoints, {_WHOLE}",
    ),
    (
        r"requires_grad_\(\)",
        "derivatives inside of a loss of one sample to be those of torch.func",
        "write torch.func.grad in the place of torch.autograd.grad",
    ),
    (
        "cannot register a hook",
        "a loss without hooks on tensors, which have no gradient of their own here",
        "multiply by what the hook multiplies with, or leave it out",
    ),
    (
        "stateless API",
        "the plain module in functional_call",
        "unwrap it: functional_call(model.module, ...)",
    ),
    (
        "more than 1 value per channel|running_mean",
        "layers that look at one sample alone",
        "use fix_module, which puts GroupNorm in the place of BatchNorm, or model.eval()",
    ),
    ("[Nn]ested|jagged", "plain tensors, and no nested ones", "pad, and mask the loss"),
    (
        r"out=|single memory location|inplace arithmetic|modified by an inplace",
        _FUNCTIONAL,
        "work on a copy; put layers that write to their buffers, such as spectral norm, into eval "
        "mode",
    ),
    ("accessing `data`", "a loss of one sample without .data", "use detach()"),
    ("[Ss]parse", "dense parameters and data", "leave them dense, with zeros"),
    (
        "must implement the jvp",
        "a loss without forward-mode derivatives",
        'use engine="dense"',
    ),
    (
        "[Bb]atching rule|do not yet support|vmap|functorch|INTERNAL ASSERT|'NoneType' object",
        "operations that torch.func.vmap can run",
        f"write them in others, {_WHOLE}",
    ),
]


@contextmanager
def in_own_words(subject: str) -> Iterator[None]:
    """Inside, an error of PyTorch's own about ``subject`` becomes one that says what to do.

    An error that is not known, such as one about the shapes of a user's own code, stays as it is.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        said = str(error)
        found = [(expected, do) for words, expected, do in _SAID if re.search(words, said)]
        if _OWN.match(said) or not found:
            raise
        expected, remedy = found[0]
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        first = said.strip().splitlines()[0].rstrip(".")
        raise kind(f"{subject}: expected {expected} but got {first!r}; {remedy}.") from error
