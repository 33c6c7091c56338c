"""An unmodified Lightning Trainer with the callback takes the steps of an ordinary loop."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("lightning", reason="needs lightning")

import lightning

import dpfunc as dp
from dpfunc import accounting
from dpfunc.engine.separable import MixedSamplesError
from dpfunc.integrations.lightning import PrivacyCallback

pytestmark = pytest.mark.filterwarnings("ignore:You defined a .validation_step")
SIZE = 24
KEY = dp.key(3)


def data():
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(torch.randn(SIZE, 3, generator=generator), torch.arange(SIZE) % 2)


class Module(lightning.LightningModule):
    """What a user writes: a net, the loss of a batch, an optimizer and a schedule."""

    through_self = False

    def __init__(self, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x) if self.through_self else self.net(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("validation_loss", nn.functional.cross_entropy(self(x), y))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class ThroughSelf(Module):
    through_self = True


class Manual(Module):
    """Manual optimization: the user's own lines."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(nn.functional.cross_entropy(self.net(x), y))
        optimizer.step()
        self.lr_schedulers().step()


def engine_for(model, *, noise_multiplier=0.0, steps=8, batch_size=6, key=KEY, **options):
    return dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=batch_size,
        steps=steps,
        noise_multiplier=noise_multiplier,
        **({"max_grad_norm": 1.1} | options),
        delta=1e-3,
        key=key,
    )


def trainer_for(path, callback, *, parts=1, checkpoints=(), **options):
    options = {"max_epochs": 2, "accelerator": "cpu", "logger": False, **options}
    return lightning.Trainer(
        callbacks=[callback, *checkpoints],
        accumulate_grad_batches=parts,
        default_root_dir=str(path),
        enable_checkpointing=bool(checkpoints),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def trained(path, module, engine, *, parts=1, validate=False, loading=None, **options):
    callback = PrivacyCallback(engine, accumulate_grad_batches=parts)
    trainer = trainer_for(path, callback, parts=parts, **options)
    validation = DataLoader(data(), batch_size=12) if validate else None
    trainer.fit(module, callback.loader(data(), **(loading or {})), validation)
    return trainer


def parameters(module):
    return {name: param.detach().clone() for name, param in module.net.named_parameters()}


def trained_in_a_loop(**options):
    """The parameters after an ordinary loop of two epochs with ``engine.loader``."""
    module = Module()
    [optimizer], [schedule] = module.configure_optimizers()
    engine = engine_for(module.net, **options).attach(optimizer)
    for _ in range(2):
        for x, y in engine.loader(data()):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module.net(x), y).backward()
            optimizer.step()
            schedule["scheduler"].step()
    return parameters(module)


def assert_close(got, expected):
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6, msg=name)


def assert_same(got, expected):
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("kind", [Module, ThroughSelf])
def test_the_steps_are_those_of_an_ordinary_loop(tmp_path, kind, parts):
    module = kind()
    engine = engine_for(module if kind.through_self else module.net)
    trainer = trained(tmp_path, module, engine, parts=parts, validate=True)
    assert engine.steps_taken == trainer.global_step == 8
    assert 0 < engine.clipped_share() < 1  # so that a wrong scale would show
    assert_close(parameters(module), trained_in_a_loop())


def test_manual_optimization(tmp_path):
    module = Manual()
    engine = engine_for(module.net)
    trained(tmp_path, module, engine)
    assert engine.steps_taken == 8
    assert_close(parameters(module), trained_in_a_loop())


def test_a_loader_with_workers_that_run_ahead(tmp_path):
    module = Module()
    trained(tmp_path, module, engine_for(module.net), loading={"num_workers": 1})
    assert_close(parameters(module), trained_in_a_loop())


@pytest.mark.parametrize("parts", [1, 3])
def test_batches_and_parts_without_samples(tmp_path, parts):
    module = Module()
    engine = engine_for(module.net, batch_size=8 / 3, steps=18)
    sizes = [sum(map(sum, (p.mask.tolist() for p in engine.parts().of(k)))) for k in range(18)]
    assert 0 in sizes
    trained(tmp_path, module, engine, parts=parts)
    assert_close(parameters(module), trained_in_a_loop(batch_size=8 / 3, steps=18))


def test_the_noise_is_that_of_the_loop(tmp_path):
    module = Module()
    options = {"noise_multiplier": 1.0, "batch_size": SIZE, "steps": 2}
    trained(tmp_path, module, engine_for(module.net, **options))
    assert_close(parameters(module), trained_in_a_loop(**options))


def test_epsilon_is_the_accountants_and_training_stops_at_the_budget(tmp_path):
    module = Module()
    engine = engine_for(module.net, noise_multiplier=1.0, steps=3, batch_size=SIZE)
    trainer = trained(tmp_path, module, engine, max_epochs=9)
    event = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=1.0, steps=3)
    assert engine.steps_taken == trainer.global_step == 3
    expected = accounting.epsilon(event, delta=1e-3)
    assert engine.epsilon() == expected
    assert trainer.callback_metrics["epsilon"].item() == pytest.approx(expected)
    assert trainer.callback_metrics["train_loss"].isfinite()


def test_bfloat16_autocast(tmp_path):
    module = Module()
    engine = engine_for(module.net)
    trained(tmp_path, module, engine, precision="bf16-mixed")
    assert engine.steps_taken == 8


@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory")
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    """From the middle of an epoch, and with a batch in two parts."""

    def saving(path):
        checkpoint = lightning.pytorch.callbacks.ModelCheckpoint(
            path, every_n_train_steps=1, save_top_k=-1, filename="{step}"
        )
        return {"checkpoints": [checkpoint], "parts": 2}

    whole = Module()
    engine = engine_for(whole.net, noise_multiplier=1.0)
    trained(tmp_path, whole, engine, **saving(tmp_path / "whole"))

    resumed = Module()
    second = engine_for(resumed.net, noise_multiplier=1.0)
    callback = PrivacyCallback(second, accumulate_grad_batches=2)
    trainer = trainer_for(tmp_path, callback, **saving(tmp_path / "resumed"))
    middle = str(tmp_path / "whole" / "step=3.ckpt")
    trainer.fit(resumed, callback.loader(data()), ckpt_path=middle)
    assert second.steps_taken == 8
    assert second.event() == engine.event()
    assert_same(parameters(resumed), parameters(whole))
    with pytest.raises(ValueError, match="a step must not be released twice under one noise"):
        trainer.fit(resumed, callback.loader(data()), ckpt_path=middle)


def test_after_training_the_module_is_a_plain_one(tmp_path):
    module = Module()
    trainer = trained(tmp_path, module, engine_for(module.net))
    assert not module.net._forward_pre_hooks
    assert not module.net._forward_hooks
    assert not trainer.optimizers[0]._optimizer_step_pre_hooks
    assert all(param.grad is None for param in module.parameters())


def test_an_error_in_training_leaves_a_plain_module(tmp_path):
    module = Module()
    engine = engine_for(module.net)
    module.on_before_zero_grad = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trained(tmp_path, module, engine)
    assert not module.net._forward_hooks
    assert engine.steps_taken == 0


def test_the_wrong_module_is_refused_with_a_reason(tmp_path):
    module = Module()
    with pytest.raises(RuntimeError, match="inside of the model's own forward"):
        trained(tmp_path, module, engine_for(module))  # but training_step calls self.net


def test_a_loss_that_mixes_samples_is_refused(tmp_path):
    class Contrastive(Module):
        def training_step(self, batch, batch_idx):
            out = self.net(batch[0])
            return (out - out.mean(0)).square().mean()

    module = Contrastive()
    with pytest.raises(MixedSamplesError):
        trained(tmp_path, module, engine_for(module.net))


def test_settings_that_break_the_promise_are_refused(tmp_path):
    module = Module()
    for options, message in (
        ({"gradient_clip_val": 1.0}, "gradient_clip_val=None"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=1"),
    ):
        callback = PrivacyCallback(engine_for(module.net))
        parts = options.pop("accumulate_grad_batches", 1)
        trainer = trainer_for(tmp_path, callback, parts=parts, **options)
        with pytest.raises(ValueError, match=message):
            trainer.fit(module, callback.loader(data()))


def test_gradient_scaling_is_refused(tmp_path):
    from lightning.pytorch.plugins import MixedPrecision

    module = Module()
    scaler = torch.amp.GradScaler("cpu")
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    with pytest.raises(ValueError, match="no gradient scaling"):
        trained(tmp_path, module, engine_for(module.net), plugins=[plugin])


def test_other_loaders_are_refused(tmp_path):
    module = Module()
    callback = PrivacyCallback(engine_for(module.net))
    with pytest.raises(ValueError, match="batches have to be Poisson samples"):
        trainer_for(tmp_path, callback).fit(module, DataLoader(data(), batch_size=6))
    with pytest.raises(ValueError, match="a dataset of sample_size = 24 samples"):
        callback.loader(TensorDataset(torch.zeros(5, 3)))
    with pytest.raises(ValueError, match="options that leave the sampling alone"):
        callback.loader(data(), shuffle=True)


def test_a_batch_that_is_left_halfway_is_refused(tmp_path):
    module = Module()
    callback = PrivacyCallback(engine_for(module.net), accumulate_grad_batches=2)
    trainer = trainer_for(tmp_path, callback, parts=2, limit_train_batches=3)
    with pytest.raises(RuntimeError, match="expected part 1 of the 2 parts of step 1"):
        trainer.fit(module, callback.loader(data()))
