"""The table of models in docs/models.md.

python -m tests.models.table
"""

import logging
import warnings

import dpfunc as dp
from tests.models.case import hf
from tests.models.zoo import CASES, make


def runs(loss_fn, case) -> bool:
    """Whether the engine accepts the loss; that it is exact is what the tests show."""
    try:
        dp.factored_grad(loss_fn)(dp.named_params(case.model), case.batch)
    except RuntimeError:
        return False
    return True


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"transformers {hf.__version__}\n")
    print("| model | one sample (vmap) | whole batch (`dp.batched`) | parameters | falling back |")
    print("|---|---|---|---|---|")
    for name in CASES:
        case = make(name)
        params, whole = dp.named_params(case.model), dp.batched(case.losses)
        by_vmap, by_batch = runs(case.loss, case), runs(whole, case)
        explanation = dp.explain(case.loss if by_vmap else whole, params, case.batch)
        back = [row for row in explanation.rows if row.fell_back]
        operations = sorted({row.operations for row in back})
        columns = [
            name,
            *("yes" if good else "no" for good in (by_vmap, by_batch)),
            str(len(params)),
        ]
        print(f"| {' | '.join(columns)} | {len(back)}: {', '.join(operations) or '-'} |")


if __name__ == "__main__":
    main()
