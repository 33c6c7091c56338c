"""Language models: decoders, encoders, and pairs of both."""

from tests.models.case import WORDS, Entry, masked_text, text, tokens

_BASE = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
_SHAPE = {**_BASE, "intermediate_size": 24, "max_position_embeddings": 16}
_GROUPED = {**_SHAPE, "num_key_value_heads": 1}
_WIDE_HEADS = {**_GROUPED, "head_dim": 8}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_BERT = {**_SHAPE, **_NO_DROPOUT}
_GPT = {
    "vocab_size": WORDS, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
_DISTILBERT = {
    "vocab_size": WORDS, "max_position_embeddings": 16, "n_layers": 2, "n_heads": 2, "dim": 16,
    "hidden_dim": 24, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
}  # fmt: skip
_DEBERTA = {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c"]}
_T5 = {
    "vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2,
    "dropout_rate": 0.0,
}  # fmt: skip
_BART = {
    "vocab_size": WORDS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 16, "dropout": 0.0,
}  # fmt: skip
_XLNET = {
    "vocab_size": WORDS, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24, "dropout": 0.0,
    "summary_last_dropout": 0.0,
}  # fmt: skip
_PLAIN = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
_OPT = {**_BASE, "ffn_dim": 24, "max_position_embeddings": 16, "dropout": 0.0}
_OPT["word_embed_proj_dim"] = 16
_MAMBA = {"vocab_size": WORDS, "hidden_size": 16, "state_size": 4, "num_hidden_layers": 2}
_MAMBA_2 = {**_MAMBA, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 4}
_RWKV = {"attention_hidden_size": 16, "intermediate_size": 24, "context_length": 16}
_RWKV |= {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2}
_EXPERTS = {"num_local_experts": 3, "num_experts_per_tok": 2}


def _translation() -> dict:
    return {**text(), "decoder_input_ids": tokens().flip(1)}


def _masked_translation() -> dict:
    mask = masked_text()["attention_mask"]
    return {**_translation(), "attention_mask": mask, "decoder_attention_mask": mask}


def _decoder(name: str, options: dict, by_vmap: bool = False, batch=masked_text) -> Entry:
    return Entry(f"{name}ForCausalLM", f"{name}Config", options, batch, by_vmap)


def _classifier(name: str, options: dict, by_vmap: bool = False) -> Entry:
    model = f"{name}ForSequenceClassification"
    return Entry(model, f"{name}Config", options, masked_text, by_vmap)


def _filler(name: str, options: dict) -> Entry:
    return Entry(f"{name}ForMaskedLM", f"{name}Config", options, masked_text)


LANGUAGE: dict[str, Entry] = {
    "GPT-2": Entry("GPT2LMHeadModel", "GPT2Config", _GPT, text, by_vmap=True),
    "GPT-2, masked": Entry("GPT2LMHeadModel", "GPT2Config", _GPT, masked_text),
    "GPT-J, masked": _decoder("GPTJ", {**_GPT, "rotary_dim": 4}, by_vmap=True),
    "GPT-NeoX, masked": _decoder("GPTNeoX", {**_SHAPE, **_PLAIN}),
    "OPT, masked": _decoder("OPT", _OPT),
    "Bloom, masked": _decoder(
        "Bloom", {"vocab_size": WORDS, "hidden_size": 16, "n_layer": 2, "n_head": 2, **_PLAIN}
    ),
    "Falcon, masked": _decoder("Falcon", {**_BASE, **_PLAIN}, by_vmap=True),
    "Llama": _decoder("Llama", _GROUPED, True, text),
    "Llama, masked": _decoder("Llama", _GROUPED),
    "Mistral, masked": _decoder("Mistral", {**_GROUPED, "sliding_window": 4}, by_vmap=True),
    "Mixtral, masked": _decoder(
        "Mixtral", {**_GROUPED, **_EXPERTS, "experts_implementation": "batched_mm"}
    ),
    "Qwen2, masked": _decoder("Qwen2", _GROUPED),
    "Qwen3, masked": _decoder("Qwen3", _WIDE_HEADS),
    "Phi-3, masked": _decoder("Phi3", {**_GROUPED, "pad_token_id": 0}),
    "Gemma, masked": _decoder("Gemma", _WIDE_HEADS),
    "Gemma 2, masked": _decoder("Gemma2", _WIDE_HEADS, by_vmap=True),
    "Gemma 3, masked": Entry("Gemma3ForCausalLM", "Gemma3TextConfig", _WIDE_HEADS, masked_text),
    "Mamba, masked": _decoder("Mamba", {**_MAMBA, "use_mambapy": False}, by_vmap=True),
    "Mamba-2": _decoder("Mamba2", _MAMBA_2, True, text),
    "RWKV": _decoder("Rwkv", _RWKV, True, text),
    "BERT, masked": _filler("Bert", _BERT),
    "ALBERT, masked": _filler("Albert", {**_BERT, "embedding_size": 8}),
    "ModernBERT, masked": _filler("ModernBert", {**_SHAPE, "pad_token_id": 0}),
    "DistilBERT, masked": _classifier("DistilBert", _DISTILBERT),
    "RoBERTa, masked": _classifier("Roberta", _BERT),
    "ELECTRA, masked": _classifier("Electra", {**_BERT, "embedding_size": 8}),
    "DeBERTa-v2, masked": _classifier("DebertaV2", {**_BERT, **_DEBERTA}, by_vmap=True),
    "Longformer, masked": _classifier("Longformer", {**_BERT, "attention_window": 4}),
    "XLNet, masked": _classifier("XLNet", _XLNET, by_vmap=True),
    "T5": Entry("T5ForConditionalGeneration", "T5Config", _T5, _translation, by_vmap=True),
    "T5, masked": Entry("T5ForConditionalGeneration", "T5Config", _T5, _masked_translation),
    "BART, masked": Entry("BartForConditionalGeneration", "BartConfig", _BART, _masked_translation),
}
