"""Users as entries: their own records alone, all of them in turn."""

import pytest
import torch

import dpfunc as dp
from dpfunc.sampling import UserRecords

OWNERS = torch.tensor([3, 0, 1, 1, 3, 2, 1, 3, 1, 1])


def test_an_entry_holds_records_of_its_user_alone():
    records = UserRecords(OWNERS)
    assert records.users == 4
    seen = {user: set() for user in range(4)}
    for step in range(5):
        users = torch.tensor([1, 3, 2])
        chosen = records.of(users, step=step, count=2)
        for user, own in zip(users.tolist(), chosen.tolist(), strict=True):
            assert OWNERS[own].tolist() == [user, user]
            seen[user] |= set(own)
    for user in (1, 2, 3):  # every record has its turn
        assert seen[user] == set((user == OWNERS).nonzero()[:, 0].tolist())


def test_a_user_more_changes_no_others_entries():
    fewer, more = UserRecords(OWNERS), UserRecords(torch.cat([OWNERS, torch.tensor([4, 4])]))
    users = torch.arange(4)
    for step in range(4):
        assert torch.equal(fewer.of(users, step=step, count=3), more.of(users, step=step, count=3))


def test_users_train_as_entries_whose_gradient_is_clipped_once():
    x, records = dp.normal(dp.key(1), (10, 3)), UserRecords(OWNERS)
    sampler = dp.sampling.Poisson(size=records.users, rate=1.0)
    private = dp.PrivateGrad(
        dp.views(lambda params, x: params["w"] @ x, 2),
        clip=dp.Clip(0.01),
        noise=dp.GaussianNoise(0.0, key=dp.key(2)),
        expected_batch_size=4,
        sampler=sampler,
    )
    params = {"w": torch.zeros(3)}
    users, mask = sampler.batch(dp.key(2), 0)
    chosen = records.of(users, step=0, count=2)
    grads, _, aux = private.update(params, x[chosen], private.init(params), mask)
    means = x[chosen].mean(1)
    assert torch.allclose(aux.norms, means.norm(dim=1), rtol=1e-5)
    clipped = means * (0.01 / means.norm(dim=1, keepdim=True)).clamp(max=1)
    assert torch.allclose(grads["w"], clipped.sum(0) / 4, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: UserRecords([0, 1]), "the owner of each record"),
        (lambda: UserRecords(torch.tensor([0.0])), "the owner of each record"),
        (lambda: UserRecords(torch.tensor([-1, 0])), "users from 0 on"),
        (lambda: UserRecords(torch.tensor([0, 2])), "a record of every user"),
        (lambda: UserRecords(OWNERS).of(torch.tensor([0]), step=-1, count=1), "step >= 0"),
        (lambda: UserRecords(OWNERS).of(torch.tensor([0]), step=0, count=0), "count >= 1"),
    ],
)
def test_what_is_refused(call, said):
    with pytest.raises((ValueError, TypeError), match=said):
        call()
