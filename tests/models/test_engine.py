"""The two-line engine around models as they come, in ordinary loops."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import dpfunc as dp
from tests.modules.checking.networks import ResNet18

KEY = dp.key(5)
SIZE, BATCH = 24, 8
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 4)

    def forward(self, tokens):
        return self.head(self.lstm(self.words(tokens))[0].mean(1))


class Encoder(nn.Module):
    """With a padding mask, and logits of the shape [T, B, C]."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        hidden = self.words(tokens).transpose(0, 1)
        return self.head(self.encoder(hidden, src_key_padding_mask=tokens == 0))


def tokens(length=10, words=30):
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, words, (SIZE, length), generator=generator)
    lengths = torch.randint(3, length + 1, (SIZE, 1), generator=generator)
    return torch.where(torch.arange(length) < lengths, ids, 0)


def labels(classes=4):
    return torch.randint(classes, (SIZE,), generator=torch.Generator().manual_seed(3))


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=12,
        num_labels=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config)


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=30,
        n_positions=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def gpt2_lora():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    model = peft.get_peft_model(gpt2(), config)
    with torch.no_grad():  # lora_B is zero at first, so that lora_A would have no gradient
        for name, param in model.named_parameters():
            if "lora_B" in name:
                param.normal_(std=0.1)
    return model


def classify(model, batch):
    return F.cross_entropy(model(batch["x"]), batch["labels"])


def classify_positions(model, batch):
    logits = model(batch["x"]).transpose(0, 1)  # [B, T, C]
    targets = (batch["x"] % 4).flatten()
    return F.cross_entropy(logits.flatten(0, 1), targets)


def own_loss(model, batch):
    """The loss that a model of Hugging Face computes itself."""
    return model(**batch).loss


def loss_of_each(model, batch):
    """The mean over the words of each sample, from the logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    targets = torch.where(batch["attention_mask"] == 1, batch["input_ids"], -100)[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")
    return (losses.sum(1) / (targets != -100).sum(1)).mean()


def masked_batch():
    x = tokens()
    return {"input_ids": x, "attention_mask": (x != 0).long()}


CASES = {
    "ResNet-18": (
        lambda: dp.fix_module(ResNet18(width=8)),
        lambda: {"x": torch.randn(SIZE, 3, 16, 16), "labels": labels(10)},
        classify,
    ),
    "LSTM": (Recurrent, lambda: {"x": tokens(), "labels": labels()}, classify),
    "encoder": (Encoder, lambda: {"x": tokens()}, classify_positions),
    "BERT": (bert, lambda: masked_batch() | {"labels": labels()}, own_loss),
    "GPT-2": (gpt2, lambda: {"input_ids": tokens(), "labels": tokens()}, own_loss),
    "GPT-2, masked": (gpt2, masked_batch, loss_of_each),
    "GPT-2 with LoRA": (gpt2_lora, masked_batch, loss_of_each),
}


@pytest.mark.parametrize("name", CASES)
def test_the_loop_releases_what_private_grad_does(name):
    make, make_batch, loss_of = CASES[name]
    torch.manual_seed(0)
    model = make().double().train()
    columns = {k: v.double() if v.is_floating_point() else v for k, v in make_batch().items()}
    dataset = [{key: column[i] for key, column in columns.items()} for i in range(SIZE)]
    plain = copy.deepcopy(model)

    def one_by_one(params):
        """The clipped sum of a Python loop, of the batch of step 0."""
        chosen, _ = dp.sampling.poisson(KEY, 0, size=SIZE, rate=BATCH / SIZE)
        total = {key: torch.zeros_like(value) for key, value in params.items()}
        for i in chosen.tolist():
            leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
            sample = {key: column[i : i + 1] for key, column in columns.items()}
            call = lambda *args, p=leaves, **kwargs: functional_call(plain, p, args, kwargs)  # noqa: E731
            grads = torch.autograd.grad(
                loss_of(call, sample), list(leaves.values()), allow_unused=True
            )
            found = {k: g for k, g in zip(leaves, grads, strict=True) if g is not None}
            norm = torch.stack([g.norm() for g in found.values()]).norm()
            for key, grad in found.items():
                total[key] += grad * min(1.0, 0.5 / norm.item()) / BATCH
        return total

    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=BATCH,
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        delta=1e-5,
        key=KEY,
    ).attach(optimizer)
    expected = one_by_one(dp.named_params(plain))
    for batch in engine.loader(dataset):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()
        if engine.steps_taken == 1:
            for key, param in model.named_parameters():
                if param.requires_grad:
                    # transformers computes the loss of a language model in float32.
                    torch.testing.assert_close(param.grad, expected[key], rtol=1e-4, atol=1e-8)
    assert engine.steps_taken == 3


def test_a_mean_over_all_words_of_padded_texts_is_refused():
    model = gpt2().train()
    x = tokens()
    columns = {"input_ids": x, "attention_mask": (x != 0).long(), "labels": x.where(x != 0, -100)}
    dataset = [{key: column[i] for key, column in columns.items()} for i in range(SIZE)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = dp.PrivacyEngine(
        model,
        sample_size=SIZE,
        batch_size=BATCH,
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        delta=1e-5,
        key=KEY,
    ).attach(optimizer)
    model(**next(iter(engine.loader(dataset)))).loss.backward()
    with pytest.raises(RuntimeError, match="a mean over the tokens of the whole batch"):
        optimizer.step()
