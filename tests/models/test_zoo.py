"""Models of transformers, as they come: factored gradients are those of a loop over samples."""

import pytest
import torch
from torch import Tensor

import dpfunc as dp
from dpfunc.types import Tensors
from tests.models.case import SAMPLES, Case
from tests.models.zoo import CASES, make

NAMES = list(CASES)
# Slow and exact: vmap runs some operations (weight norm) sample by sample.
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def used_params(case: Case) -> Tensors:
    """The parameters that the loss of the case depends on: DINOv2's mask token is none, say."""
    params = dp.named_params(case.model)
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    loss = case.loss(leaves, {name: part[0] for name, part in case.batch.items()})
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    used = [name for name, grad in zip(leaves, grads, strict=True) if grad is not None]
    return {name: params[name] for name in used}


def looped(case: Case, params: Tensors) -> tuple[Tensors, Tensor]:
    """The gradients and losses of every sample by plain autograd, one by one."""
    rows, losses = [], []
    for i in range(SAMPLES):
        leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
        loss = case.loss(leaves, {name: part[i] for name, part in case.batch.items()})
        inputs = list(leaves.values())
        rows.append(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
        losses.append(loss.detach())
    columns = map(torch.stack, zip(*rows, strict=True))
    return dict(zip(params, columns, strict=True)), torch.stack(losses)


def assert_exact(case: Case, loss_fn, *, rtol: float = 1e-9) -> None:
    def assert_equal(actual: Tensor, expected: Tensor, scale: float) -> None:
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=1e-3 * rtol * scale)

    params = used_params(case)
    expected, losses = looped(case, params)
    scale = max(rows.abs().max().item() for rows in expected.values())
    assert scale > 1e-3
    weights = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    grads, factored_losses = dp.factored_grad(loss_fn)(params, case.batch)
    assert_equal(factored_losses, losses, 1.0)
    assert grads.keys() == expected.keys()
    for name, rows in expected.items():
        norm_sq = rows.reshape(SAMPLES, -1).square().sum(1)
        assert_equal(grads[name].dense(), rows, scale)
        assert_equal(grads[name].norm_sq(), norm_sq, scale**2)
        summed = torch.einsum("b,b...->...", weights, rows)
        assert_equal(grads[name].weighted_sum(weights), summed, scale)


@pytest.mark.parametrize("name", NAMES)
def test_on_the_whole_batch(name):
    case = make(name)
    assert_exact(case, dp.batched(case.losses))


@pytest.mark.parametrize("name", NAMES)
def test_by_vmap(name):
    case = make(name)
    if case.by_vmap:
        assert_exact(case, case.loss)
    else:
        refusal = r"data-dependent control flow|calling .item\(\)|must override the setup_context"
        with pytest.raises(RuntimeError, match=refusal):
            dp.factored_grad(case.loss)(dp.named_params(case.model), case.batch)


def test_a_loss_of_what_clip_compares_is_refused():
    case = make("CLIP")._replace(score=lambda output: output["logits_per_image"].logsumexp(1))
    with pytest.raises(RuntimeError, match="a loss may not compare samples"):
        dp.factored_grad(dp.batched(case.losses))(dp.named_params(case.model), case.batch)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("name", ["GPT-2, masked", "T5, masked", "ViT", "Llama, masked"])
def test_gradient_checkpointing(name):
    case = make(name)
    case.model.train()
    for module in case.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    case.model.gradient_checkpointing_enable({"use_reentrant": False})
    assert_exact(case, dp.batched(case.losses))


def test_tied_embeddings_are_one_parameter():
    model = make("GPT-2").model
    assert model.lm_head.weight is model.transformer.wte.weight
    assert [name for name in dp.named_params(model) if "wte" in name or "lm_head" in name] == [
        "transformer.wte.weight"
    ]


def test_the_loss_that_the_model_itself_computes():
    """What users write: ``labels`` among the arguments, and the model's own ``loss``."""
    case = make("GPT-2")
    own = case._replace(
        batch=case.batch | {"labels": case.batch["input_ids"]},
        score=lambda output: output["loss"].reshape(1),
    )
    assert_exact(own, own.loss, rtol=1e-4)  # it computes in float32, whatever the model does
    with pytest.raises(ValueError, match=r"batched: expected the losses of \d+ samples"):
        dp.factored_grad(dp.batched(own.losses))(dp.named_params(own.model), own.batch)


def test_a_private_step_trains_a_masked_model():
    case = make("BERT, masked")
    params = dp.named_params(case.model)
    private = dp.PrivateGrad(
        dp.batched(case.losses),
        clip=dp.Clip(1.0),
        noise=dp.GaussianNoise(0.0, key=dp.key()),
        expected_batch_size=SAMPLES,
    )
    grads, _, aux = private.update(params, (case.batch,), private.init(params))
    rows, losses = looped(case, params)
    norms = sum(row.reshape(SAMPLES, -1).square().sum(1) for row in rows.values()).sqrt()
    torch.testing.assert_close(aux.norms, norms)
    torch.testing.assert_close(aux.losses, losses)
    scale = (1.0 / norms).clamp(max=1.0) / SAMPLES
    for name, row in rows.items():
        torch.testing.assert_close(grads[name], torch.einsum("b,b...->...", scale, row))
