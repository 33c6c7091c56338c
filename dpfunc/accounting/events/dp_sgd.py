"""DP-SGD as an event, and any composition of subsampled Gaussians as a list of phases."""

from typing import NamedTuple

from dpfunc.accounting.events.algebra import Event, Repeat
from dpfunc.accounting.events.leaves import leaves
from dpfunc.accounting.events.mechanisms import Gaussian
from dpfunc.accounting.events.schemes import Poisson
from dpfunc.naming import in_name_of, own_arguments


@own_arguments("dp_sgd")
@in_name_of("dp_sgd", times="steps")
def dp_sgd(*, noise_multiplier: float, sample_rate: float, steps: int) -> Repeat:
    """DP-SGD: ``steps`` Gaussian releases, each on a fresh Poisson sample at ``sample_rate``.

    ``noise_multiplier`` is the standard deviation of the noise over the L2 clipping norm.

    >>> dp_sgd(noise_multiplier=1.0, sample_rate=0.01, steps=100)
    Poisson(0.01, Gaussian(1.0)) * 100
    """
    return Repeat(Poisson(sample_rate, Gaussian(noise_multiplier)), steps)


class Phase(NamedTuple):
    """``times`` Poisson-subsampled Gaussian releases with the same parameters."""

    noise_multiplier: float
    sample_rate: float
    times: int


def phases(event: Event) -> list[Phase]:
    """The `leaves` of an event of Gaussian releases, as numbers; TypeError for other releases."""
    return [_phase(leaf, times) for leaf, times in leaves(event)]


def _phase(leaf: Event, times: int) -> Phase:
    match leaf:
        case Gaussian(sigma):
            return Phase(sigma, 1.0, times)
        case Poisson(rate, Gaussian(sigma)):
            return Phase(sigma, rate, times)
    raise TypeError(
        f"accounting: expected Gaussian releases, Poisson-sampled or not, but got {leaf}."
    )
