"""The records that flow between the stages of a step, and the two interfaces a stage can have.

Data flows one way; the sensitivity travels with the value it belongs to, so nobody multiplies
noise scales by hand::

    {name: [B]} norms --ClipRule--> Weights --weighted_sum--> Summed --NoiseMechanism--> Tensors
"""

from typing import Any, NamedTuple, Protocol

from torch import Tensor

from dpfunc.accounting import Event
from dpfunc.random.keys import Key

Tensors = dict[str, Tensor]
"""Tensors keyed by parameter name: parameters, gradients, norms."""

State = dict[str, Any]
"""Nested dicts, tuples, ints, floats and tensors: ``torch.load(weights_only=True)`` reads it."""


class Weights(NamedTuple):
    """One factor per sample and parameter, and the L2 bound they enforce.

    ``values``: ``{name: [B]}``. ``bound``: an upper bound on
    ``sqrt(sum_name (values[name][i] * norms[name][i])**2)`` for every sample ``i``.
    """

    values: Tensors
    bound: float


class Summed(NamedTuple):
    """The weighted sum over a batch, and how far one sample can move it.

    ``values``: ``{name: shape}``. ``bound``: the L2 sensitivity of ``values`` in real numbers, all
    parameters taken as one vector, under adding or removing one sample. What float arithmetic
    adds to it is `dpfunc.noise.lattice.widened`.
    """

    values: Tensors
    bound: float


class ClipRule(Protocol):
    """Turns per-sample norms into weights. It never sees a gradient.

    Contract: a sample whose norm is not finite gets weight zero; the weight of sample ``i`` depends
    on the norms of sample ``i`` and on the state alone. ``weights`` is called once per microbatch,
    ``update`` once per step with the norms of the whole batch.
    """

    def init(self) -> State:
        """The state before the first step."""
        ...

    def weights(self, norms: Tensors, state: State) -> Weights:
        """``norms`` is ``{name: [B]}``: the L2 norm of each parameter's per-sample gradient."""
        ...

    def update(self, norms: Tensors, mask: Tensor, state: State) -> State:
        """The state for the next step, from the norms and mask ``[B]`` of the whole batch."""
        ...


class NoiseMechanism(Protocol):
    """Turns a sum with a known sensitivity into a private release."""

    def init(self, params: Tensors) -> State:
        """The state before the first release; ``params`` give the shapes."""
        ...

    def add(self, summed: Summed, state: State) -> tuple[Tensors, State]:
        """The noisy sum and the state for the next release."""
        ...

    # A mechanism may also have ``add_``: the same in the memory of the sum. `PrivateGrad` then uses
    # that, which saves a copy of the gradient and leaves no sum behind.

    def event(self, state: State, *, sample_rate: float) -> Event:
        """What was released up to ``state``, each time on a Poisson sample: for the accountant."""
        ...

    def resume(self, state: State, *, key: Key) -> State:
        """The state to go on from: of the same run with its own key, of a branch with a new one.

        Only `PrivateGrad.resume` asks for it.
        """
        ...
