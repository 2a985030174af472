"""The model and the tokenizer of SAM 3, from a folder of weights or small and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from actors.foundation.pretrained import Size, byte_tokenizer, library, load_part, load_pretrained, random_network
from sc3d.errors import WeightsError

FILES = ("*.json", "*.safetensors")
"""What is needed of the published repository. It also holds the weights in another format, of the same size."""

# The published weights are those of the video model, whose detector is the image model.
_VIDEO = "sam3_video"


def load_model(folder: Path) -> nn.Module:
    """The ``Sam3Model`` of a folder with ``config.json`` and safetensors, float32, on the CPU.

    Raises:
        WeightsError: files are missing or damaged, or they are another model's.
        PreflightError: transformers is not installed.
    """
    return load_pretrained("transformers", "Sam3Model", folder, also=(_VIDEO,))


def load_tokenizer(folder: Path, vocabulary: int) -> Any:
    """The tokenizer of a folder with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt``.

    Raises:
        WeightsError: it is not there, or not the one of a model with so many words in its ``vocabulary``.
    """
    # Without files the library makes a tokenizer of three words.
    if not (folder / "tokenizer.json").is_file() and not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise WeightsError(f"{folder} has neither tokenizer.json nor vocab.json and merges.txt; fetch SAM 3's folder as a whole")
    made_by = library("transformers")
    tokenizer = load_part(lambda f: made_by.CLIPTokenizer.from_pretrained(f, local_files_only=True), folder, "SAM 3's tokenizer")
    if len(tokenizer) != vocabulary:
        raise WeightsError(f"the tokenizer in {folder} knows {len(tokenizer)} words and the model {vocabulary}; fetch both again")
    return tokenizer


def random_model(size: Size = "tiny") -> tuple[nn.Module, Any]:
    """A model of the published architecture, or a small one like it, with reproducible random weights, and a tokenizer of bytes."""
    made_by, tokenizer = library("transformers"), byte_tokenizer()
    config = made_by.Sam3Config(**({} if size == "full" else _tiny_config(tokenizer)))
    return random_network(lambda: made_by.Sam3Model(config)), tokenizer


def _tiny_config(tokenizer: Any) -> dict[str, Any]:
    part = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    return {
        "vision_config": {
            "backbone_config": {
                "model_type": "sam3_vit_model",
                **part,
                "num_hidden_layers": 2,
                "image_size": 112,
                "patch_size": 14,
                "window_size": 4,
                "global_attn_indexes": [1],
                "pretrain_image_size": 56,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        "text_config": {
            "model_type": "clip_text_model",
            **part,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "projection_dim": 16,
            "num_hidden_layers": 2,
            "max_position_embeddings": 32,
            "hidden_act": "gelu",
        },
        "geometry_encoder_config": {**part, "num_layers": 1},
        "detr_encoder_config": {**part, "num_layers": 1},
        "detr_decoder_config": {**part, "num_layers": 2, "num_queries": 10},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 4},
    }
