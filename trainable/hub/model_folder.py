"""The files of a pretrained model's folder: their names and sizes, a fingerprint, the model's dimensions.

Nothing here runs code from the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")  # transformers takes the first that is there
WEIGHT_PARTS = ("model-*-of-*.safetensors",)
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_MARKS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
TOKENIZER_FILES = (
    *TOKENIZER_MARKS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt",
    "bpe.codes",
)  # fmt: skip
# Model types that number positions from behind the padding token's id, as RoBERTa does: the first ones stay unused.
OFFSET_POSITIONS = (
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip


# What the word embedding is called in the weights of the models that classify sequences.
EMBEDDINGS = (
    "word_embeddings.weight", "embed_tokens.weight", "wte.weight", "word_embedding.weight", "shared.weight",
    "tok_embeddings.weight", "word_embedding.weight", "embed_in.weight", "token_embedding.weight",
)  # fmt: skip


def embedding_rows(folder: Path) -> int | None:
    """How many token ids the model's word embedding has rows for, from its weights; None if it is not recognised."""
    from safetensors import safe_open

    for name in (WEIGHT_FILES[0], *WEIGHT_PARTS):
        for path in folder.glob(name):
            with safe_open(path, framework="numpy") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118
                    if tensor.endswith(EMBEDDINGS):
                        return int(tensors.get_slice(tensor).get_shape()[0])
    return None


def model_bytes(folder: Path) -> int:
    """The bytes that the model takes on disk after fine-tuning, in float32.

    Weights that are stored in half precision therefore count double.
    """
    from safetensors import safe_open

    count = 0
    paths = sorted({path for name in (WEIGHT_FILES[0], *WEIGHT_PARTS) for path in folder.glob(name)})
    for path in paths:
        with safe_open(path, framework="numpy") as tensors:
            count += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return 4 * count


def longest_row(folder: Path) -> int | None:
    """The number of tokens that the model has positions for; None if its configuration sets no limit."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    rows = _position_rows(folder)
    positions = positions if rows is None else min(positions, rows)
    if config.get("model_type") not in OFFSET_POSITIONS or config.get("position_embedding_type") == "rotary":
        return positions
    padding = config.get("pad_token_id")
    # MPNet counts from behind id 1 whatever its configuration says.
    counts_from = padding if isinstance(padding, int) and config.get("model_type") != "mpnet" else 1
    return positions - 1 - counts_from


def _position_rows(folder: Path) -> int | None:
    """How many positions the model's table of positions has, from its weights; None if there is no such table."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(path for name in (WEIGHT_FILES[0], *WEIGHT_PARTS) for path in folder.glob(name)):
        try:
            with safe_open(path, framework="numpy") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118
                    if tensor.endswith("embeddings.position_embeddings.weight"):
                        return int(tensors.get_slice(tensor).get_shape()[0])
        except SafetensorError:  # `model_checks` tells of it
            return None
    return None


def model_files(folder: Path) -> list[Path]:
    """The files of configuration, weights and tokenizer that are there. Other files don't change the model."""
    parts = sorted(path.name for pattern in WEIGHT_PARTS for path in folder.glob(pattern))
    paths = [folder / name for name in ("config.json", *WEIGHT_FILES, *parts, *TOKENIZER_FILES)]
    return [path for path in paths if path.is_file()]


def model_fingerprint(folder: Path) -> str:
    """SHA-256 of the names and contents of `model_files`."""
    digest = hashlib.sha256()
    for path in model_files(folder):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
