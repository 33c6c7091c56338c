"""What the program of a batch keeps of a loop, and what it leaves alone."""

import copy
import io

import torch
import torch.nn.functional as F
from torch.utils.data import TensorDataset

import dpfunc as dp


def run(loop):
    """Five steps without noise, with ``loop(loss)`` between backward and step: the parameters."""
    torch.manual_seed(0)
    model, data = torch.nn.Linear(3, 2), TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = dp.PrivacyEngine(
        model,
        sample_size=40,
        batch_size=8,
        noise_multiplier=0.0,
        max_grad_norm=1.0,
        delta=1e-3,
        key=dp.key(2),
    ).attach(optimizer)
    for x, y in engine.loader(data):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        loop(loss)
        optimizer.step()
    return model.weight.detach().clone()


def test_a_running_total_of_losses_is_no_part_of_them():
    total, losses = torch.zeros(()), []

    def loop(loss):
        nonlocal total
        total += loss.detach()
        losses.append(loss.item())

    assert torch.equal(run(loop), run(lambda loss: None))
    assert torch.allclose(total, torch.tensor(losses).sum())


def test_losses_are_copied_and_saved_as_plain_tensors():
    found = []

    def loop(loss):
        torch.save(loss.detach(), buffer := io.BytesIO())
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=True)
        found.append((loss.item(), copy.deepcopy(loss.detach()), loaded))

    run(loop)
    for value, copied, loaded in found:
        assert type(copied) is type(loaded) is torch.Tensor
        assert value == copied == loaded


def test_what_is_written_into_the_way_to_the_loss_is_a_part_of_it():
    model, data = torch.nn.Linear(3, 2), TensorDataset(torch.randn(9, 3), torch.arange(9) % 2)
    results = []
    for in_place in (False, True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        engine = dp.PrivacyEngine(
            model,
            sample_size=9,
            batch_size=9,
            noise_multiplier=0.0,
            max_grad_norm=1e-3,
            delta=1e-3,
            key=dp.key(2),
        ).attach(optimizer)
        for x, y in engine.loader(data):
            logits = model(x)
            if in_place:
                logits.view(-1).mul_(3)
            else:
                logits = logits * 3
            F.cross_entropy(logits, y).backward()
            optimizer.step()
        results.append(model.weight.grad.clone())
        engine.detach()
    assert torch.allclose(*results, rtol=1e-6)
