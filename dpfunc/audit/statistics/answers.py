"""The three questions of an audit. Their answers mean different things: do not mix them."""

from dpfunc.accounting import Event, Gaussian
from dpfunc.accounting import epsilon as epsilon_of
from dpfunc.accounting.domination.release import Relation
from dpfunc.audit.statistics import path_test, rank_test, whole_curve
from dpfunc.audit.statistics.claims import (
    Claim,
    GaussianClaim,
    approximate_claim,
    claim_of,
    require_both_orders,
)
from dpfunc.audit.statistics.scores import (
    Result,
    Scores,
    Setting,
    require_confidence,
    require_fair_coins,
)
from dpfunc.checks import is_count, is_real, plain, require

_INDEPENDENT = (
    "the scores of canaries that were in are independent draws of one law, and so are those of "
    "canaries that were out, independent of the first",
)
_ONE_RUN = (
    "each canary was in or out by a fair coin of its own, tossed before the run",
    "scores depend on the coins only through what was released",
)
_FIXED = "the number of guesses was fixed before the scores were seen"
_MOST_DELTA = 0.5  # of alpha, that m delta may take


def epsilon_lower_bound(
    scores: Scores,
    *,
    delta: float,
    confidence: float,
    setting: Setting = "independent",
    guesses: int | None = None,
    relation: Relation = "add_or_remove",
) -> Result:
    """An epsilon below which the mechanism is, at this confidence, not (epsilon, delta)-DP.

    Guarantee: if the mechanism is (e, delta)-DP under ``relation``, ``value > e`` has probability
    at most ``1 - confidence``, whatever the mechanism. ``setting`` says what the scores are:

    - ``"independent"``: of many runs, or of canaries that do not touch one another: an exact test
      of ranks (`dpfunc.audit.statistics.rank_test`);
    - ``"one_run"``: of canaries in one run, each in by a fair coin of its own: Steinke, Nasr and
      Jagielski 2023 (arXiv:2305.08846), for all numbers of guesses at once
      (`dpfunc.audit.statistics.path_test`), or for a number of ``guesses`` fixed before the run.

    An audit can refute a claim; it never proves one. The bound is far below the truth where epsilon
    is large: 1,000 scores cannot see rates below 1 / 1,000, which is about epsilon 7.

    | case | result |
    |---|---|
    | scores that tell nothing | 0 |
    | too few scores to refute even epsilon 0 | ValueError |
    | one run: ``m delta`` above half of ``1 - confidence`` | ValueError |
    | one run: exactly half in, without ``fair_coins`` | ValueError |

    >>> scores = Scores([i / 100 + 0.5 for i in range(200)], [i / 100 for i in range(200)])
    >>> round(epsilon_lower_bound(scores, delta=1e-5, confidence=0.95).value, 2)
    2.07
    """
    subject = "epsilon_lower_bound"
    require_both_orders(subject, relation)
    delta, guesses = plain(delta), plain(guesses)
    alpha = 1 - require_confidence(subject, confidence)
    require(
        is_real(delta) and 0 <= delta < 1,
        subject,
        "a probability 0 <= delta < 1",
        delta,
        "use the delta of the claim, about 1 / (10 * size)",
    )
    if setting == "independent":
        _require_no_guesses(subject, guesses)
        _require_enough(subject, scores, approximate_claim(0.0, delta), alpha)
        tests = rank_test.rank_tests(scores)
        value = rank_test.largest_refuted(tests, lambda e: approximate_claim(e, delta), alpha)
        return _result(scores, value, confidence, relation, f"epsilon, {_ranks(tests)}")
    found = _one_run(subject, scores, setting, guesses)
    canaries = len(found.turns)
    if guesses is not None:
        right = found.turns[guesses - 1]
        value = path_test.largest_refuted(
            lambda e: path_test.fixed_p(canaries, guesses, right, e, delta), alpha
        )
        method = f"epsilon, one run, {guesses} guesses"
        return _result(scores, value, confidence, relation, method, (*_ONE_RUN, _FIXED))
    require(
        canaries * delta <= _MOST_DELTA * alpha,
        subject,
        f"canaries times delta of at most half of 1 - confidence, {_MOST_DELTA * alpha:g}",
        canaries * delta,
        "audit fewer canaries, a smaller delta, or with guesses= fixed before the run",
    )
    value = path_test.largest_refuted(
        lambda e: 0.0 if path_test.is_refuted(found, e, delta, alpha) else 1.0, alpha
    )
    return _result(scores, value, confidence, relation, "epsilon, one run, path", _ONE_RUN)


def mu_lower_bound(
    scores: Scores,
    *,
    confidence: float,
    setting: Setting = "independent",
    guesses: int | None = None,
    relation: Relation = "add_or_remove",
) -> Result:
    """A mu below which the mechanism is, at this confidence, not mu-Gaussian-DP.

    Guarantee: if the mechanism is m-GDP, ``value > m`` has probability at most ``1 - confidence``.
    It uses the whole curve, and so sees far more than `epsilon_lower_bound`; but it says nothing
    about epsilon: an (epsilon, delta)-DP mechanism may well violate the mu-GDP that a Gaussian of
    the same (epsilon, delta) has. `gaussian_epsilon` converts it, with that restriction. Settings
    are those of `epsilon_lower_bound`; in one run by Mahloujifar, Melis and Chaudhuri 2024
    (arXiv:2410.22235), for several numbers of guesses or the one that is given.

    | case | result |
    |---|---|
    | scores that tell nothing | 0 |
    | too few scores to refute even mu 0 | ValueError |

    >>> scores = Scores([i / 100 + 0.5 for i in range(200)], [i / 100 for i in range(200)])
    >>> round(mu_lower_bound(scores, confidence=0.95).value, 2)
    1.15
    """
    subject = "mu_lower_bound"
    require_both_orders(subject, relation)
    guesses = plain(guesses)
    alpha = 1 - require_confidence(subject, confidence)
    if setting == "independent":
        _require_no_guesses(subject, guesses)
        _require_enough(subject, scores, GaussianClaim(0.0), alpha)
        tests = rank_test.rank_tests(scores)
        value = rank_test.largest_refuted(tests, GaussianClaim, alpha)
        return _result(scores, value, confidence, relation, f"mu, {_ranks(tests)}")
    found = _one_run(subject, scores, setting, guesses)
    value = whole_curve.mu_refuted(found, alpha, guesses)
    words = _curve_assumptions(guesses)
    return _result(scores, value, confidence, relation, "mu, one run, whole curve", words)


def test_claim(
    scores: Scores,
    event: Event,
    *,
    confidence: float = 0.95,
    setting: Setting = "independent",
    guesses: int | None = None,
    relation: Relation = "add_or_remove",
) -> Result:
    """A p-value of what the accountant says: small where ``event`` does not describe the run.

    Guarantee: if every attack on the mechanism stays below the trade-off curve of ``event`` under
    ``relation``, the p-value is at most alpha with probability at most alpha. The one to use in a
    test suite: the whole curve at once, no shape assumed, nothing inverted. A large p-value proves
    nothing. ``confidence`` only says what is refused: scores that could not give a p-value of
    ``1 - confidence`` however well they told the canaries apart. For (epsilon, delta)-DP pass
    ``accounting.ApproxDP(epsilon, delta)``.

    >>> from dpfunc.accounting import Gaussian
    >>> scores = Scores([3.0 + i / 100 for i in range(200)], [i / 100 for i in range(200)])
    >>> test_claim(scores, Gaussian(1.0)).value < 1e-3
    True
    """
    subject, guesses = "test_claim", plain(guesses)
    alpha = 1 - require_confidence(subject, confidence)
    claim = claim_of(subject, event, relation)
    if setting == "independent":
        _require_no_guesses(subject, guesses)
        _require_enough(subject, scores, claim, alpha)
        tests = rank_test.rank_tests(scores)
        value = rank_test.combined(tests, claim)
        return _result(scores, value, None, relation, f"p-value, {_ranks(tests)}")
    found = _one_run(subject, scores, setting, guesses)
    require(
        whole_curve.can_refute(len(found.turns), claim, alpha, guesses),
        subject,
        "enough canaries to refute the claim",
        len(found.turns),
        "all guesses right would not refute it: audit with more canaries or a smaller claim",
    )
    value = whole_curve.p_value(found, claim, guesses)
    words = _curve_assumptions(guesses)
    return _result(scores, value, None, relation, "p-value, one run, whole curve", words)


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """The epsilon of mu-GDP at ``delta``: of a Gaussian-shaped claim only.

    A mu from `mu_lower_bound` refutes every claim of a smaller mu. It does not refute
    (epsilon, delta)-DP: other mechanisms of that epsilon and delta violate the mu.

    >>> round(gaussian_epsilon(1.0, delta=1e-5), 3)
    4.377
    """
    mu = plain(mu)
    require(is_real(mu) and mu >= 0, "gaussian_epsilon", "a mu >= 0", mu, "pass a .value")
    return 0.0 if mu == 0 else epsilon_of(Gaussian(1 / mu), delta=delta)


def _one_run(
    subject: str, scores: Scores, setting: Setting, guesses: int | None
) -> path_test.Paths:
    require(
        setting == "one_run",
        subject,
        'the setting "independent" or "one_run"',
        setting,
        "say how the scores came about",
    )
    require_fair_coins(subject, scores)
    canaries = len(scores.inside) + len(scores.outside)
    require(
        guesses is None or (is_count(guesses) and 1 <= guesses <= canaries),
        subject,
        f"a number of guesses from 1 to {canaries}",
        guesses,
        "fix it before the run, or leave it out",
    )
    return path_test.paths(scores)


def _require_no_guesses(subject: str, guesses: int | None) -> None:
    require(
        guesses is None,
        subject,
        "guesses only in the setting one_run",
        guesses,
        "leave it out: thresholds are chosen by the scores",
    )


def _require_enough(subject: str, scores: Scores, claim: Claim, alpha: float) -> None:
    n_in, n_out = len(scores.inside), len(scores.outside)
    require(
        rank_test.can_refute(n_in, n_out, claim, alpha),
        subject,
        "enough scores to refute the claim at this confidence",
        f"{n_in} in and {n_out} out",
        "even perfect ones would not: collect more scores",
    )


def _curve_assumptions(guesses: int | None) -> tuple[str, ...]:
    return _ONE_RUN if guesses is None else (*_ONE_RUN, _FIXED)


def _ranks(tests: list[rank_test.RankTest]) -> str:
    return f"rank test at {len(tests)} thresholds"


def _result(
    scores: Scores,
    value: float,
    confidence: float | None,
    relation: Relation,
    method: str,
    assumptions: tuple[str, ...] = _INDEPENDENT,
) -> Result:
    return Result(
        value, confidence, relation, method, len(scores.inside), len(scores.outside), assumptions
    )
