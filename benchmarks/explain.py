"""What the factored engine does with each parameter of ResNet-18 and of GPT-2.

python -m benchmarks.explain
"""

import argparse

from torch.func import functional_call

import dpfunc as dp
from benchmarks.workloads import WORKLOADS, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workload", nargs="*", default=["resnet18", "gpt2"], choices=list(WORKLOADS)
    )
    for name in parser.parse_args().workload:
        work = make(name)

        def loss_fn(params, x, y, work=work):
            return work.losses(functional_call(work.model, params, (x[None],)), y[None])[0]

        params = dp.named_params(work.model)
        print(f"{name}\n{dp.explain(loss_fn, params, work.inputs[:2], work.labels[:2])}\n")


if __name__ == "__main__":
    main()
