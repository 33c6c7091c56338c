"""Hypothesis strategies: any mechanism, any sampled mechanism, any event."""

from hypothesis import strategies as st

from dpfunc.accounting import (
    ZCDP,
    ApproxDP,
    Compose,
    DiscreteGaussian,
    DiscreteLaplace,
    ExponentialMechanism,
    Gaussian,
    Group,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    Pair,
    Poisson,
    PureDP,
    RandomAllocation,
    RandomizedResponse,
    Repeat,
    Shuffled,
    TruncatedPoisson,
    WithoutReplacement,
    WithReplacement,
)

NUMBER = st.one_of(st.floats(0, 1e6), st.just(float("inf")), st.integers(0, 9))
SHIFT = st.floats(0, 9)
PROBABILITY = st.floats(0, 1)


def is_mass(x):
    """What a pair takes as a probability."""
    return x == 0 or x >= 1e-300


COUNT = st.integers(1, 1000)
MECHANISMS = st.one_of(
    st.builds(Gaussian, NUMBER),
    st.builds(MixtureOfGaussians, NUMBER, st.tuples(SHIFT, SHIFT), st.just((0.25, 0.75))),
    st.builds(Laplace, NUMBER),
    st.builds(DiscreteGaussian, NUMBER, COUNT),
    st.builds(DiscreteLaplace, NUMBER, COUNT),
    st.builds(RandomizedResponse, PROBABILITY, COUNT),
    st.builds(ExponentialMechanism, NUMBER),
    st.builds(PureDP, NUMBER),
    st.builds(ApproxDP, NUMBER, PROBABILITY),
    st.builds(ZCDP, NUMBER, NUMBER),
    st.just(NonPrivate()),
    st.builds(lambda x: Pair((x, 1 - x), (0.25, 0.75)), PROBABILITY.filter(is_mass)),
)
SAMPLED = st.one_of(
    st.builds(Poisson, PROBABILITY, MECHANISMS),
    st.builds(TruncatedPoisson, PROBABILITY, COUNT, COUNT, MECHANISMS),
    st.builds(WithoutReplacement, COUNT, st.just(1000), MECHANISMS),
    st.builds(WithReplacement, COUNT, COUNT, MECHANISMS),
    st.builds(RandomAllocation, COUNT, st.just(1000), MECHANISMS),
    st.builds(Shuffled, MECHANISMS),
)
EVENTS = st.recursive(
    MECHANISMS | SAMPLED,
    lambda inner: st.one_of(
        st.builds(Repeat, inner, st.integers(0, 1000)),
        st.builds(Compose, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Group, COUNT, inner),
    ),
    max_leaves=6,
)
