"""Models of images and of sound."""

from functools import partial

from torch import Tensor

from tests.models.case import SAMPLES, WORDS, Entry, images, masked_text, numbers, text, tokens

_VIT = {
    "image_size": 8, "patch_size": 4, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_VIT_CLASSIFIER = {**_VIT, **_NO_DROPOUT, "num_labels": 5}
_NO_PATH_DROPPED = {"drop_path_rate": 0.0, "num_labels": 5}
_DINO = {**_VIT, **_NO_DROPOUT, **_NO_PATH_DROPPED, "mlp_ratio": 2}
_SWIN = {
    "image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
    "window_size": 2, **_NO_DROPOUT, **_NO_PATH_DROPPED,
}  # fmt: skip
_CONVNEXT = {
    "num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "patch_size": 2, "image_size": 16,
    **_NO_PATH_DROPPED,
}  # fmt: skip
_SEGFORMER = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16],
    "num_attention_heads": [1, 2], "patch_sizes": [3, 3], "strides": [2, 2], "mlp_ratios": [2, 2],
    "classifier_dropout_prob": 0.0, **_NO_DROPOUT, **_NO_PATH_DROPPED,
}  # fmt: skip
_CLIP_TEXT = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 16, "projection_dim": 8,
    "bos_token_id": 0, "eos_token_id": WORDS - 1,
}  # fmt: skip
_CLIP = {"text_config": _CLIP_TEXT, "vision_config": _VIT, "projection_dim": 8}
_WHISPER = {
    "vocab_size": WORDS, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "num_mel_bins": 5, "max_source_positions": 8, "max_target_positions": 8,
    "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip
_WAV2VEC2 = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 24, "conv_dim": [8, 8], "conv_kernel": [4, 4], "conv_stride": [2, 2],
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0,
    "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "activation_dropout": 0.0,
    "final_dropout": 0.0, "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip


def _disagreement(output: dict[str, Tensor]) -> Tensor:
    return -(output["text_embeds"] * output["image_embeds"]).sum(-1)


def _size_of_embedding(output: dict[str, Tensor]) -> Tensor:
    return output["text_embeds"].square().sum(-1)


def _texts_and_images() -> dict[str, Tensor]:
    return {**text(), **images(8)}


def _speech_and_text() -> dict[str, Tensor]:
    return {"input_features": numbers(3, SAMPLES, 5, 16), "decoder_input_ids": tokens()}


def _waves() -> dict[str, Tensor]:
    return {"input_values": numbers(4, SAMPLES, 64)}


def _classifier(name: str, options: dict, size: int) -> Entry:
    model = f"{name}ForImageClassification"
    return Entry(model, f"{name}Config", options, partial(images, size), by_vmap=True)


OTHER_MEDIA: dict[str, Entry] = {
    "ViT": _classifier("ViT", _VIT_CLASSIFIER, 8),
    "BEiT": _classifier(
        "Beit", {**_VIT_CLASSIFIER, **_NO_PATH_DROPPED, "use_relative_position_bias": True}, 8
    ),
    "DINOv2": _classifier("Dinov2", _DINO, 8),
    "Swin": _classifier("Swin", _SWIN, 16),
    "ConvNeXt": _classifier("ConvNext", _CONVNEXT, 16),
    "SegFormer": _classifier("Segformer", _SEGFORMER, 16),
    "CLIP": Entry("CLIPModel", "CLIPConfig", _CLIP, _texts_and_images, True, _disagreement),
    "CLIP's text tower, masked": Entry(
        "CLIPTextModelWithProjection",
        "CLIPTextConfig",
        _CLIP_TEXT,
        masked_text,
        score=_size_of_embedding,
    ),
    "Whisper": Entry(
        "WhisperForConditionalGeneration", "WhisperConfig", _WHISPER, _speech_and_text, True
    ),
    "Wav2Vec2": Entry("Wav2Vec2ForCTC", "Wav2Vec2Config", _WAV2VEC2, _waves, True),
}
