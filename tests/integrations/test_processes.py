"""Trainers on several processes release what one process does, bit for bit."""

import os

import pytest
import torch
from torch import distributed as dist
from torch import nn

import dpfunc as dp
from tests.distributed.processes import run

SIZE, SHARDS, KEY = 48, 2, dp.key(11)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def problem():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank, world = dist.get_rank(), dist.get_world_size()
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29511", TORCHELASTIC_RUN_ID="1")
    return Classifier(), dp.normal(dp.key(1), (SIZE, 6)), torch.arange(SIZE) % 3


def engine_for(model):
    return dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=12,
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        delta=1e-3,
        key=KEY,
        steps=6,
        group=dist.group.WORLD,
        shards=SHARDS,
    )


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def by_hand():
    model, x, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    engine = engine_for(model).attach(optimizer)
    while engine.remaining_steps() > 0:
        for inputs, targets in engine.loader(torch.utils.data.TensorDataset(x, labels)):
            optimizer.zero_grad()
            model(inputs, targets)["loss"].backward()
            optimizer.step()
            if engine.remaining_steps() < 1:
                break
    return weights(model)


def by_trainer(folder):
    from transformers import Trainer, TrainingArguments

    from dpfunc.integrations.huggingface import PrivacyCallback

    model, x, labels = problem()
    engine = engine_for(model)
    parts = SHARDS // dist.get_world_size()
    callback = PrivacyCallback(engine, gradient_accumulation_steps=parts)
    arguments = TrainingArguments(
        folder,
        max_steps=6,
        optim="sgd",
        learning_rate=0.3,
        lr_scheduler_type="constant",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        **callback.arguments,
    )
    data = [{"x": row, "labels": label} for row, label in zip(x, labels, strict=True)]
    Trainer(
        model,
        arguments,
        callbacks=[callback],
        train_dataset=callback.dataset(data),
        data_collator=callback.collator(),
    ).train()
    assert engine.steps_taken == 6
    return weights(model)


def by_lightning(folder):
    import lightning

    from dpfunc.integrations.lightning import PrivacyCallback

    model, x, labels = problem()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = model

        def training_step(self, batch, _):
            return self.model(*batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.3)

    world = dist.get_world_size()
    engine = engine_for(model)
    callback = PrivacyCallback(engine, accumulate_grad_batches=SHARDS // world)
    trainer = lightning.Trainer(
        max_steps=6,
        callbacks=[callback],
        accelerator="cpu",
        devices=world,
        logger=False,
        strategy="ddp" if world > 1 else "auto",
        use_distributed_sampler=False,
        accumulate_grad_batches=SHARDS // world,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Module(), callback.loader(torch.utils.data.TensorDataset(x, labels)))
    assert engine.steps_taken == 6
    return weights(model)


@pytest.fixture(scope="module")
def expected():
    (alone,) = run(by_hand, 1)
    assert isinstance(alone, torch.Tensor), alone
    return alone


def require_all_equal(by_rank, expected):
    for rank in by_rank:
        assert isinstance(rank, torch.Tensor), rank
        assert torch.equal(rank, expected)


def test_the_trainer_of_hugging_face_on_two_processes(tmp_path, expected):
    pytest.importorskip("transformers", reason="needs transformers")
    require_all_equal(run(by_trainer, 2, str(tmp_path)), expected)


def test_lightning_on_two_processes(tmp_path, expected):
    pytest.importorskip("lightning", reason="needs lightning")
    require_all_equal(run(by_lightning, 2, str(tmp_path)), expected)


@pytest.mark.nightly
@pytest.mark.parametrize("trainer", [by_trainer, by_lightning])
def test_one_process_with_a_group_accumulates_shards(tmp_path, trainer, expected):
    require_all_equal(run(trainer, 1, str(tmp_path)), expected)
