"""What a model says about a record, as one number: the logit of its label's probability."""

import torch
from torch import Tensor

from dpfunc.checks import require


def loss_scores(logits: Tensor, labels: Tensor) -> Tensor:
    """``log p(y|x) - log(1 - p(y|x))`` of each record: float64, ``[..., records]``.

    ``logits``: ``[..., records, classes]``, of one model or of many; ``labels``: int64
    ``[records]``. Larger means a smaller loss, so it serves as a score on its own; and, unlike the
    loss, it is nearly normal over models, which the attacks of `dpfunc.audit.attacks` use. It is
    the label's logit minus the logarithm of the sum of the others' exponentials, in float64: of a
    softmax in float32, which is 1 from 17 on, nothing larger could be seen.

    | case | result |
    |---|---|
    | fewer than two classes; a label that is no class; logits that are not finite | ValueError |

    >>> loss_scores(torch.tensor([[40.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])).tolist()
    [40.0, -1.0]
    """
    require(
        logits.ndim >= 2
        and logits.shape[-1] >= 2
        and labels.shape == logits.shape[-2:-1]
        and not labels.is_floating_point(),
        "loss_scores",
        "logits [..., records, classes >= 2] and as many int labels as records",
        f"{tuple(logits.shape)} and {labels.dtype} {tuple(labels.shape)}",
        "pass what the model gives before the softmax",
    )
    classes = logits.shape[-1]
    require(
        bool(((labels >= 0) & (labels < classes)).all()) and bool(logits.isfinite().all()),
        "loss_scores",
        f"labels from 0 to {classes - 1} and finite logits",
        "others",
        "look for what went wrong in training: a model that is NaN scores nobody",
    )
    values = logits.detach().to(torch.float64)
    index = labels.to(values.device).expand(values.shape[:-1]).unsqueeze(-1)
    own = values.gather(-1, index).squeeze(-1)
    return own - values.scatter(-1, index, -torch.inf).logsumexp(-1)
