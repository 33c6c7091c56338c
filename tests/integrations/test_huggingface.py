"""An unmodified Trainer with the callback takes the steps of an ordinary loop with the engine."""

import io
import json
import warnings

import pytest
import torch

pytest.importorskip("transformers", reason="needs transformers")
pytest.importorskip("accelerate", reason="needs accelerate")

from transformers import Trainer, TrainerCallback, TrainingArguments

import dpfunc as dp
from dpfunc import accounting
from dpfunc.engine.separable import MixedSamplesError
from dpfunc.integrations.huggingface import PrivacyCallback
from dpfunc.integrations.token_loss import next_token_losses
from tests.integrations.models import (
    Classifier,
    assert_close,
    assert_same,
    bert,
    classified,
    engine_for,
    gpt2,
    parameters,
    sentences,
    texts,
    trained_in_a_loop,
)


def settings(path, callback, **options):
    """Plain SGD without a schedule, on the CPU, without reports."""
    options = {
        "max_steps": 4,
        "optim": "sgd",
        "learning_rate": 0.5,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        **callback.arguments,
        **options,
    }
    return TrainingArguments(str(path), **options)


def trainer_for(path, model, data, engine, *, parts=1, losses=None, others=(), **options):
    callback = PrivacyCallback(engine, gradient_accumulation_steps=parts)
    own = {} if losses is None else {"compute_loss_func": callback.loss(losses)}
    return Trainer(
        model,
        settings(path, callback, **options),
        train_dataset=callback.dataset(data),
        eval_dataset=data,
        data_collator=callback.collator(),
        callbacks=[callback, *others],
        **own,
    )


def own_loss(model, batch):
    return model(**batch)["loss"]


def losses_of_texts(model, batch):
    return next_token_losses(model(input_ids=batch["input_ids"]), batch["labels"]).mean()


@pytest.mark.parametrize("parts", [1, 3])
def test_bert_takes_the_steps_of_an_ordinary_loop(tmp_path, parts):
    expected = trained_in_a_loop(bert(), sentences(), own_loss)
    model = bert()
    engine = engine_for(model)
    trainer_for(tmp_path, model, sentences(), engine, parts=parts).train()
    assert engine.steps_taken == 4
    assert_close(parameters(model), expected)


@pytest.mark.parametrize("parts", [1, 2])
def test_gpt2_takes_the_steps_of_an_ordinary_loop(tmp_path, parts):
    data = texts(padded=True)
    expected = trained_in_a_loop(gpt2(), data, losses_of_texts)
    model = gpt2()
    trainer = trainer_for(
        tmp_path, model, data, engine_for(model), parts=parts, losses=next_token_losses
    )
    trainer.train()
    assert_close(parameters(model), expected)


def test_gpt2_may_use_its_own_loss_where_all_samples_have_as_many_tokens(tmp_path):
    data = texts(padded=False)
    expected = trained_in_a_loop(gpt2(), data, losses_of_texts)
    model = gpt2()
    trainer_for(tmp_path, model, data, engine_for(model)).train()
    assert_close(parameters(model), expected)


def test_a_mean_over_the_tokens_of_a_batch_is_refused(tmp_path):
    model = gpt2()
    trainer = trainer_for(tmp_path, model, texts(padded=True), engine_for(model))
    with pytest.raises(MixedSamplesError, match="the loss mixes samples"):
        trainer.train()


@pytest.mark.parametrize("parts", [1, 3])
def test_batches_and_parts_without_samples(tmp_path, parts):
    expected = trained_in_a_loop(Classifier(), classified(), own_loss, batch_size=1.0)
    model = Classifier()
    engine = engine_for(model, batch_size=1.0)
    trainer_for(tmp_path, model, classified(), engine, parts=parts).train()
    drawn = [dp.sampling.poisson(dp.key(3), step, size=24, rate=1 / 24)[0] for step in range(4)]
    assert min(map(len, drawn)) == 0 < max(map(len, drawn))
    assert_close(parameters(model), expected)


def test_the_noise_is_that_of_the_loop(tmp_path):
    expected = trained_in_a_loop(Classifier(), classified(), own_loss, noise_multiplier=1.0)
    model = Classifier()
    engine = engine_for(model, noise_multiplier=1.0)
    trainer_for(tmp_path, model, classified(), engine).train()
    assert_close(parameters(model), expected)


def test_epochs_evaluations_and_workers_change_nothing(tmp_path):
    model = Classifier()
    trainer = trainer_for(
        tmp_path,
        model,
        classified(),
        engine_for(model, batch_size=12, steps=4),
        max_steps=-1,
        num_train_epochs=2,
        eval_strategy="epoch",
        dataloader_num_workers=1,
    )
    expected = trained_in_a_loop_over_epochs()
    trainer.train()
    evaluations = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert [log["epoch"] for log in evaluations] == [1.0, 2.0]
    assert_close(parameters(model), expected)


def trained_in_a_loop_over_epochs():
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    engine = engine_for(model, batch_size=12).attach(optimizer)
    for _ in range(2):
        for batch in engine.loader(classified()):
            own_loss(model, batch).backward()
            optimizer.step()
    return parameters(model)


def test_epsilon_is_the_accountants_and_is_logged(tmp_path):
    model = Classifier()
    engine = engine_for(model, noise_multiplier=1.0)
    trainer = trainer_for(
        tmp_path, model, classified(), engine, logging_strategy="steps", logging_steps=2
    )
    trainer.train()
    event = accounting.dp_sgd(noise_multiplier=1.0, sample_rate=6 / 24, steps=4)
    assert engine.event() == event
    logged = {log["step"]: log["epsilon"] for log in trainer.state.log_history}
    bounds = accounting.epsilon_bounds(event, delta=1e-3)
    assert logged[4] == engine.epsilon()
    assert bounds.lower <= engine.epsilon() <= bounds.upper * (1 + 2e-5)
    assert 0 < logged[2] < logged[4]


def test_training_stops_at_the_budget(tmp_path):
    model = Classifier()
    engine = engine_for(model, steps=3, noise_multiplier=1.0)
    trainer = trainer_for(tmp_path, model, classified(), engine, max_steps=10)
    trainer.train()
    assert engine.steps_taken == trainer.state.global_step == 3
    with pytest.raises(dp.BudgetSpentError, match="it is spent"):
        trainer.train()


def test_max_grad_norm_of_the_arguments_has_no_effect(tmp_path):
    found = []
    for max_grad_norm in (0.0, 1e-6):
        model = Classifier()
        trainer = trainer_for(
            tmp_path, model, classified(), engine_for(model), max_grad_norm=max_grad_norm
        )
        trainer.train()
        found.append(parameters(model))
    assert_same(*found)


def test_columns_that_the_model_does_not_take_are_left_out(tmp_path):
    model = Classifier()
    data = [{**sample, "text": "unused"} for sample in classified()]
    trainer_for(tmp_path, model, data, engine_for(model)).train()


def test_bfloat16_autocast(tmp_path):
    model = bert()
    engine = engine_for(model)
    trainer_for(tmp_path, model, sentences(), engine, bf16=True).train()
    assert engine.steps_taken == 4
    assert {param.dtype for param in model.parameters()} == {torch.float32}


def test_lora_trains_the_adapters_alone(tmp_path):
    peft = pytest.importorskip("peft", reason="needs peft")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])

    def adapted():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return peft.get_peft_model(bert(), config)

    before = parameters(adapted())
    expected = trained_in_a_loop(adapted(), sentences(), own_loss)
    model = adapted()
    trainer_for(tmp_path, model, sentences(), engine_for(model)).train()
    assert_close(parameters(model), expected)
    changed = {name for name, value in parameters(model).items() if (value != before[name]).any()}
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert {name for name in trained if "lora_B" in name} <= changed <= trained


class Stopped(TrainerCallback):
    """Ends the run after two steps, as a crash would, right after the checkpoint."""

    def on_save(self, args, state, control, **_):
        control.should_training_stop = True


def dropping(seed):
    model = Classifier(dropout=0.5)
    return model, engine_for(model, noise_multiplier=1.0, key=dp.key(seed))


class Generators(TrainerCallback):
    """What torch's generator has in store when a forward pass may begin."""

    def __init__(self):
        self.found = []

    def on_step_begin(self, *_, **__):
        self.found.append(torch.get_rng_state())


def generators(path, key, **options):
    noted, model = Generators(), Classifier(dropout=0.5)
    engine = engine_for(model, noise_multiplier=1.0, key=key)
    trainer_for(path, model, classified(), engine, others=[noted], **options).train()
    return noted.found


def test_nobody_who_knows_the_seed_of_the_arguments_knows_the_masks(tmp_path):
    first, second, third = (
        generators(tmp_path, dp.key(3)),
        generators(tmp_path, dp.key(3), seed=7),
        generators(tmp_path, dp.key(4)),
    )
    assert_same(dict(enumerate(first)), dict(enumerate(second)))
    assert not any(torch.equal(*two) for two in zip(first, third, strict=True))
    assert len({state.numpy().tobytes() for state in first}) == len(first) == 4


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "seed": 7, "optim": "adamw_torch"}
    model, engine = dropping(3)
    trainer_for(tmp_path / "whole", model, classified(), engine, **saving).train()

    first, crashed = dropping(3)
    path = tmp_path / "broken"
    trainer_for(path, first, classified(), crashed, others=[Stopped()], **saving).train()
    assert crashed.steps_taken == 2
    second, resumed = dropping(3)
    trainer = trainer_for(path, second, classified(), resumed, **saving)
    trainer.train(resume_from_checkpoint=True)
    assert resumed.steps_taken == engine.steps_taken == 4
    assert resumed.event() == engine.event()
    assert_same(parameters(second), parameters(model))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    model, engine = dropping(3)
    trainer = trainer_for(tmp_path, model, classified(), engine, **saving)
    trainer.train()
    with pytest.raises(ValueError, match="a step must not be released twice under one noise"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    model, engine = dropping(4)
    trainer = trainer_for(tmp_path, model, classified(), engine, **saving)
    with pytest.raises(ValueError, match="key"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    del state["stateful_callbacks"]["PrivacyCallback"]
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="expected a checkpoint of a run with this callback"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_after_training_the_model_is_a_plain_one(tmp_path):
    model = Classifier()
    attributes = set(vars(model))
    trainer = trainer_for(tmp_path, model, classified(), engine_for(model))
    assert set(vars(model)) == attributes
    trainer.train()
    assert set(vars(model)) - {"_is_accelerate_prepared"} == attributes
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not trainer.optimizer.optimizer._optimizer_step_pre_hooks
    assert all(param.grad is None for param in model.parameters())
    torch.save(model, buffer := io.BytesIO())
    buffer.seek(0)
    assert_same(parameters(torch.load(buffer, weights_only=False)), parameters(model))


def test_an_error_in_training_does_not_stop_the_next_run(tmp_path):
    class Fails(TrainerCallback):
        failed = False

        def on_step_end(self, args, state, control, **_):
            if not self.failed:
                self.failed = True
                raise KeyboardInterrupt

    model = Classifier()
    engine = engine_for(model)
    trainer = trainer_for(tmp_path, model, classified(), engine, others=[Fails()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.args.max_steps = 2
    trainer.train()
    assert engine.steps_taken == 3


def test_activation_checkpointing_changes_nothing_but_memory(tmp_path):
    expected = trained_in_a_loop(bert(), sentences(), own_loss)
    model = bert()
    options = {"activation_checkpointing_kwargs": {"use_reentrant": False}}
    trainer_for(
        tmp_path,
        model,
        sentences(),
        engine_for(model),
        activation_checkpointing=True,
        **options,
    ).train()
    assert_close(parameters(model), expected)


REFUSED = {
    "per_device_train_batch_size": 8,
    "train_sampling_strategy": "random",
    "dataloader_in_order": False,
    "gradient_accumulation_steps": 2,
    "ignore_data_skip": True,
    "restore_callback_states_from_checkpoint": True,
    "auto_find_batch_size": True,
    "label_smoothing_factor": 0.1,
    "activation_checkpointing": True,
    "neftune_noise_alpha": 5.0,
    "torch_compile": True,
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_that_break_the_promise_are_refused(tmp_path, name):
    model, keyword = bert(), {name: REFUSED[name]}
    with pytest.raises(ValueError, match=r"PrivacyCallback: expected .* but got"):
        trainer_for(tmp_path, model, sentences(), engine_for(model), **keyword)


def test_gradient_scaling_and_several_devices_are_refused(tmp_path):
    model = Classifier()
    callback = PrivacyCallback(engine_for(model))
    for name, value, message in (
        ("fp16", True, "fp16=False"),
        ("_n_gpu", 2, "DataParallel"),
        ("dataloader_persistent_workers", True, "where the next epoch begins"),
    ):
        arguments = settings(tmp_path, callback)
        setattr(arguments, name, value)
        with pytest.raises(ValueError, match=message):
            callback.on_init_end(arguments, None, None, model=model)


def test_other_data_and_models_are_refused(tmp_path):
    model = Classifier()
    engine = engine_for(model)
    callback = PrivacyCallback(engine)
    with pytest.raises(ValueError, match="expected a dataset of sample_size = 24 samples"):
        callback.dataset(classified(10))
    with pytest.raises(ValueError, match="expected a Trainer of the engine's model"):
        Trainer(Classifier(), settings(tmp_path, callback), callbacks=[callback])
    trainer = Trainer(
        model, settings(tmp_path, callback), callbacks=[callback], train_dataset=classified()
    )
    with pytest.raises(ValueError, match=r"expected train_dataset=callback.dataset"):
        trainer.train()
    trainer = Trainer(
        model,
        settings(tmp_path, callback),
        callbacks=[callback],
        train_dataset=callback.dataset(classified()),
    )
    with pytest.raises(ValueError, match=r"expected data_collator=callback.collator"):
        trainer.train()
    with pytest.raises(ValueError, match="the mean over the parts"):
        PrivacyCallback(engine_for(model, loss_reduction="sum"), gradient_accumulation_steps=2)


def test_a_loss_that_is_not_averaged_over_the_parts_is_refused(tmp_path):
    def loss(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs["logits"], labels)

    model = Classifier()
    trainer = trainer_for(tmp_path, model, classified(), engine_for(model), parts=2)
    trainer.compute_loss_func = loss
    with pytest.raises(ValueError, match="expected a compute_loss_func made by"):
        trainer.train()
