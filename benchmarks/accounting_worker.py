"""One accountant, one question, in a process of its own: so no library can remember an answer.

    python -m benchmarks.accounting_worker "opake" 1.0 0.01 10000 1e-5

prints ``{"epsilon": ..., "seconds": ...}``: CPU seconds of the call alone, after one other question
that loads what is loaded lazily. Runs under the interpreter that has the library.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

Accountant = Callable[[float, float, int, float], float]


def dpfunc() -> Accountant:
    from dpfunc import accounting

    def epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
        event = accounting.dp_sgd(noise_multiplier=sigma, sample_rate=rate, steps=steps)
        return accounting.epsilon_bounds(event, delta=delta).upper

    return epsilon


def dp_accounting(kind: str) -> Accountant:
    import dp_accounting as dpa

    def epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
        accountant = dpa.pld.PLDAccountant() if kind == "pld" else dpa.rdp.RdpAccountant()
        event = dpa.PoissonSampledDpEvent(rate, dpa.GaussianDpEvent(sigma))
        return accountant.compose(event, steps).get_epsilon(delta)

    return epsilon


def opacus(kind: str) -> Accountant:
    from opacus.accountants import create_accountant

    def epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
        accountant = create_accountant(kind)
        accountant.history = [(sigma, rate, steps)]
        return accountant.get_epsilon(delta)

    return epsilon


def prv_accountant() -> Accountant:
    from prv_accountant import PoissonSubsampledGaussianMechanism, PRVAccountant

    def epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
        prv = PoissonSubsampledGaussianMechanism(noise_multiplier=sigma, sampling_probability=rate)
        accountant = PRVAccountant(
            prvs=[prv], max_self_compositions=[steps], eps_error=0.01, delta_error=delta / 1000
        )
        return accountant.compute_epsilon(delta, [steps])[2]

    return epsilon


def opake() -> Accountant:
    from opake.api.accounting import dpsgd  # what `opake.dpsgd.accounting` is, without torch

    def epsilon(sigma: float, rate: float, steps: int, delta: float) -> float:
        step = dpsgd.poisson(dpsgd.gaussian(sigma), sample_rate=rate)
        return (step * steps).epsilon_at(delta)

    return epsilon


ACCOUNTANTS: dict[str, Callable[[], Accountant]] = {
    "dpfunc": dpfunc,
    "dp-accounting PLD": lambda: dp_accounting("pld"),
    "dp-accounting RDP": lambda: dp_accounting("rdp"),
    "Opacus PRV": lambda: opacus("prv"),
    "Opacus RDP": lambda: opacus("rdp"),
    "Opacus GDP": lambda: opacus("gdp"),
    "prv-accountant": prv_accountant,
    "opake": opake,
}


def main() -> None:
    warnings.simplefilter("ignore")
    name, sigma, rate, steps, delta = sys.argv[1:]
    epsilon = ACCOUNTANTS[name]()
    epsilon(2.0, 0.5, 10, 1e-6)
    start = time.process_time()
    value = float(epsilon(float(sigma), float(rate), int(steps), float(delta)))
    print(json.dumps({"epsilon": value, "seconds": time.process_time() - start}))


if __name__ == "__main__":
    main()
