"""Random questions to the accountant, of every documented kind, and what an answer has to be.

    python -m tests.accounting.questions_at_random --count 3000 --seed 1

prints how long the answers took, and every question whose answer is not what it has to be.
"""

import argparse
import math
import random
import re
import sys
import time
import warnings

from dpfunc import accounting as A  # read out loud below

SLOW = 20.0  # CPU seconds that no answer may take
RELATIONS = ("add_or_remove", "remove", "add", "zero_out", "replace_one")


def log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def mechanism(rng):
    sigma, epsilon = log_uniform(rng, 0.2, 50), log_uniform(rng, 1e-3, 5)
    return rng.choice(
        [
            lambda: A.Gaussian(sigma),
            lambda: A.Gaussian(sigma),
            lambda: A.Laplace(log_uniform(rng, 0.2, 50)),
            lambda: A.DiscreteGaussian(log_uniform(rng, 0.5, 100), rng.choice([1, 1, 2, 5])),
            lambda: A.DiscreteLaplace(log_uniform(rng, 0.01, 3), rng.choice([1, 1, 2, 5])),
            lambda: A.RandomizedResponse(rng.uniform(0.05, 0.99), rng.choice([2, 3, 10])),
            lambda: A.ExponentialMechanism(epsilon),
            lambda: A.PureDP(epsilon),
            lambda: A.ApproxDP(rng.choice([0.0, epsilon]), log_uniform(rng, 1e-12, 1e-3)),
            lambda: A.MixtureOfGaussians(sigma, (1.0, 3.0), (0.4, 0.6)),
            lambda: A.ZCDP(log_uniform(rng, 1e-4, 2), rng.choice([0.0, 0.1])),
        ]
    )()


def release(rng):
    one = mechanism(rng)
    rate = log_uniform(rng, 1e-5, 0.9)
    size = rng.choice([10, 100, 10_000])
    batch = rng.randint(1, size)
    return rng.choice(
        [
            lambda: one,
            lambda: A.Poisson(rate, A.Gaussian(log_uniform(rng, 0.3, 30))),
            lambda: A.Poisson(rate, A.Gaussian(log_uniform(rng, 0.3, 30))),
            lambda: A.Poisson(rate, one),
            lambda: A.TruncatedPoisson(rate, batch, size, one),
            lambda: A.WithoutReplacement(batch, size, one),
            lambda: A.WithReplacement(min(batch, 50), size, one),
            lambda: A.RandomAllocation(
                1, rng.randint(2, 200), A.Gaussian(log_uniform(rng, 0.3, 9))
            ),
            lambda: A.Group(rng.randint(2, 8), A.Poisson(rate, one)),
            lambda: A.Group(rng.randint(2, 8), one),
            lambda: A.Shuffled(one),
        ]
    )()


def event(rng):
    times = rng.choice([1, 2, 3, 5, 20, 100, 1000, 10_000])
    found = release(rng) * times
    if rng.random() < 0.15:
        found = found + release(rng) * rng.choice([1, 2, 10])
    return found


def question(rng):
    """A function that asks, and one that checks the answer; with words for both."""
    asked, relation = event(rng), rng.choice(RELATIONS)
    tol, delta = rng.choice([1e-5, 1e-5, 1e-3, 1e-2]), log_uniform(rng, 1e-12, 0.1)
    epsilon = rng.choice([0.0, log_uniform(rng, 1e-3, 20)])
    options = {"relation": relation, "tol": tol}
    if rng.random() < 0.6:
        words = f"epsilon_bounds({asked!r}, delta={delta!r}, relation={relation!r}, tol={tol!r})"
        return (
            words,
            lambda: A.epsilon_bounds(asked, delta=delta, **options),
            _is_interval(lambda found: _agrees(asked, delta, found, options)),
        )
    words = f"delta_bounds({asked!r}, epsilon={epsilon!r}, relation={relation!r}, tol={tol!r})"
    return (
        words,
        lambda: A.delta_bounds(asked, epsilon=epsilon, **options),
        _is_interval(lambda found: found.upper <= 1),
    )


def _is_interval(also):
    return lambda found: 0 <= found.lower <= found.upper and also(found)


def _agrees(asked, delta, found, options):
    """Delta at either end of epsilon does not contradict what epsilon was asked at."""
    if not 0 < found.upper < math.inf:
        return True
    above = A.delta_bounds(asked, epsilon=found.upper, **options)
    below = A.delta_bounds(asked, epsilon=found.lower, **options)
    slack = 1 + 1e-9
    return above.lower <= delta * slack and (found.lower == 0 or delta <= below.upper * slack)


def fault(words, ask, is_right):
    """What is wrong with the answer, or None; and the CPU seconds it took."""
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = ask()
            took = time.process_time() - start
            wrong = None if is_right(found) else f"{found}"
    except ValueError as error:
        took = time.process_time() - start
        text = str(error)
        known = ": expected " in text or "no bound is proven" in text
        wrong = None if known else f"ValueError: {text}"
    except Exception as error:  # whatever it is, it is not ours
        took, wrong = time.process_time() - start, f"{type(error).__name__}: {error}"
    if took > SLOW:
        wrong = f"took {took:.1f} s"
    return (f"{words}: {wrong}" if wrong else None), took


def is_slow(words):
    """Several random allocations: tables of their own for each range, 4 to 15 s of CPU."""
    return re.search(r"RandomAllocation\([^*]*\)\) \* [1-9]\d+|RandomAllocation.*\* [2-9]", words)


def faults(count, seed, *, with_slow=True):
    """Every question with something wrong, as text, and the times of all, with the questions."""
    rng = random.Random(seed)
    wrong, times = [], []
    for _ in range(count):
        words, ask, is_right = question(rng)
        if not with_slow and is_slow(words):
            continue
        text, took = fault(words, ask, is_right)
        times.append((took, words))
        if text:
            wrong.append(text)
            print("WRONG", text, file=sys.stderr, flush=True)
    return wrong, times


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    wrong, times = faults(given.count, given.seed)
    took = sorted(seconds for seconds, _ in times)
    quick = sum(seconds < 0.5 for seconds in took) / len(took)
    print(f"{len(took)} questions, {len(wrong)} wrong, {100 * quick:.1f} % below 0.5 s of CPU")
    print(f"median {took[len(took) // 2]:.3f} s, 99 % {took[int(0.99 * len(took))]:.2f} s")
    for seconds, words in sorted(times, reverse=True)[:12]:
        print(f"{seconds:7.2f} s  {words}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
