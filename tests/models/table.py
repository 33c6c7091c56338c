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


def fallen_back(loss_fn, case) -> str:
    """How many parameters fall back, and the operations that have no rule."""
    rows = dp.explain(loss_fn, dp.named_params(case.model), case.batch).rows
    operations = [row.operations for row in rows if row.fell_back]
    return f"{len(operations)}: {', '.join(sorted(set(operations)))}" if operations else "0"


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
        columns = [name, "yes" if by_vmap else "no", "yes" if by_batch else "no", str(len(params))]
        loss_fn = case.loss if by_vmap else whole
        fallen = fallen_back(loss_fn, case) if by_vmap or by_batch else "-"
        print(f"| {' | '.join(columns)} | {fallen} |")


if __name__ == "__main__":
    main()
