"""A tiny random model of every family that transformers has a sequence classifier for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from trainable.data.tokens import load_tokenizer

FAMILIES = tuple(sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES))

# By the names that configurations have for them. A family has some of these fields; the others are left out.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim", "entity_emb_size"), 32),
    **dict.fromkeys(("intermediate_size", "d_ff", "n_inner", "hidden_dim", "d_inner", "ffn_dim", "dff"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size", "ffn_hidden_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_seq_length"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "v_head_dim", "qk_nope_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim",), 8),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank"), 16),
}  # fmt: skip


def tiny_config(family: str, vocabulary: int, special_ids: Mapping[str, int]) -> Any:
    """A configuration of this family with two narrow layers.

    Args:
        family: A model type.
        vocabulary: Rows of the word embedding.
        special_ids: Of the tokenizer: pad_token_id and the like.
    """
    known = AutoConfig.for_model(family).to_dict()
    return AutoConfig.for_model(family, **{**_tiny_fields(known, vocabulary, special_ids), **OWN.get(family, {})})


def _tiny_fields(known: dict[str, Any], vocabulary: int, special_ids: Mapping[str, int]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: size for name, size in SIZES.items() if isinstance(known.get(name), int)}
    for name, value in known.items():
        if name == "vocab_size":
            fields[name] = vocabulary
        elif name in special_ids:
            fields[name] = special_ids[name]
        elif name.endswith("_token_id") and isinstance(value, int) and value >= vocabulary:
            fields[name] = 0
        elif isinstance(value, dict) and "model_type" in value:  # a model of several parts
            fields[name] = {"model_type": value["model_type"], **_tiny_fields(value, vocabulary, special_ids)}
    return fields


# What a family needs beside narrow layers, mostly because its defaults describe one large model.
_LATENT_HEADS = {"head_dim": 8}  # as wide as the part of a head that is rotated
_HEADS_OF_OWN_WIDTH = {"head_dim": 16}
_MIXED = ["linear_attention", "linear_attention", "hybrid", "hybrid"]
_ZAMBA = {"num_hidden_layers": 4, "layers_block_type": _MIXED}
OWN: dict[str, dict[str, Any]] = {
    "axk1": {**_LATENT_HEADS, "n_group": 1, "topk_group": 1},
    "cohere_compass_text": {
        "layer_types": ["full_attention"] * 2,
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, **_LATENT_HEADS},
    "deepseek_v3": _LATENT_HEADS,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 8},
    "hunyuan_v1_dense": _HEADS_OF_OWN_WIDTH,
    "hunyuan_v1_moe": _HEADS_OF_OWN_WIDTH,
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "lilt": {"hidden_size": 48},
    "luke": {"entity_vocab_size": 16},
    "ministral": {**_HEADS_OF_OWN_WIDTH, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral4": {
        **_LATENT_HEADS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 64,
        },
    },
    "nemotron": {"num_key_value_heads": 2},
    "perceiver": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 1, "num_self_attention_heads": 2},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 16), "attn_layers": ["local", "lsh"]},
    "roc_bert": {"pronunciation_vocab_size": 16, "shape_vocab_size": 16},
    "t5": {"decoder_start_token_id": 0},
    "zamba": {**_ZAMBA, "attention_head_dim": 32},
    "zamba2": _ZAMBA,
}


def make_model(family: str, tokenizer_of: Path, folder: Path) -> Path:
    """Write a random model of this family with a given model's tokenizer."""
    torch.manual_seed(1)
    tokenizer = load_tokenizer(str(tokenizer_of))
    first, last, padding = (tokenizer.convert_tokens_to_ids(token) for token in ("[CLS]", "[SEP]", "[PAD]"))
    special_ids = {"bos_token_id": first, "eos_token_id": last, "pad_token_id": padding}
    config = tiny_config(family, len(tokenizer) + 16, {**special_ids, "decoder_start_token_id": first})
    folder.mkdir()
    try:
        model = AutoModelForSequenceClassification.from_config(config)
    except ImportError:  # the family needs a package that we don't have: its weights are never looked at
        model = AutoModelForSequenceClassification.from_config(tiny_config("bert", 16, special_ids))
    model.save_pretrained(folder)
    config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        if (tokenizer_of / name).exists():
            shutil.copyfile(tokenizer_of / name, folder / name)
    fields = json.loads((folder / "tokenizer_config.json").read_text())
    fields["tokenizer_class"] = "PreTrainedTokenizerFast"  # not the class that the family usually has
    fields |= {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return folder
