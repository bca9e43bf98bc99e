"""Models as people have them: what would fail inside every trial is refused before anything starts, in one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.data.tokens import load_tokenizer
from trainable.hub.model_checks import model_problems, tokenizer_problems
from trainable.train.run import FineTuningRun


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "a model"))


def configure(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def told(folder: Path) -> list[str]:
    return [problem.removeprefix(f"--model {folder}: ") for problem in model_problems(folder)]


def test_a_whole_model_has_no_problem(folder: Path) -> None:
    assert model_problems(folder) == []
    for has_pairs in (True, False, None):
        assert tokenizer_problems(folder, load_tokenizer(str(folder)), has_pairs) == []


def test_tokens_that_were_added_without_rows_in_the_embedding(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder))
    rows = len(tokenizer)
    tokenizer.add_tokens(["<user>", "<url>"])
    tokenizer.save_pretrained(folder)
    assert model_problems(folder) == []
    (problem,) = tokenizer_problems(folder, load_tokenizer(str(folder)), False)
    assert f"has ids up to {rows + 1}, but the embedding has {rows} rows" in problem
    assert "resize_token_embeddings(len(tokenizer))" in problem


def test_an_embedding_with_rows_to_spare_is_right(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith("word_embeddings.weight")]
    tensors[name] = torch.cat([tensors[name], torch.zeros(64, tensors[name].shape[1])])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert tokenizer_problems(folder, load_tokenizer(str(folder)), True) == []


@pytest.mark.parametrize(
    ("types", "has_pairs", "is_told"), [(1, True, True), (1, False, False), (1, None, False), (0, True, False)]
)
def test_token_types_that_the_model_has_not(types: int, has_pairs: bool | None, is_told: bool, folder: Path) -> None:
    """RoBERTa's configuration has one token type, and BERT's tokenizer gives pairs two."""
    configure(folder, type_vocab_size=types)
    problems = tokenizer_problems(folder, load_tokenizer(str(folder)), has_pairs)
    assert len(problems) == is_told
    assert all("token type 1, but the model has 1 token type: the tokenizer is another model's" in p for p in problems)


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
def test_a_quantized_configuration(method: str, folder: Path) -> None:
    configure(folder, quantization_config={"quant_method": method})
    advice = "can't be fine-tuned; use the model it was made from"
    assert told(folder) == [f"its weights are quantized ({method}) and {advice}"]


@pytest.mark.parametrize(("kind", "name"), [("int8", "I8"), ("uint8", "U8"), ("int32", "I32")])
def test_quantized_weights_without_a_word_in_the_configuration(kind: str, name: str, folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    chosen = next(each for each in tensors if each.endswith("dense.weight"))
    save_file({**tensors, chosen: tensors[chosen].astype(kind)}, folder / "model.safetensors")
    (problem,) = told(folder)
    assert problem.startswith(f"model.safetensors holds weights of type {name}: its weights are quantized")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt", "config.json"])
def test_a_pointer_of_git_lfs(name: str, folder: Path) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    fetch = "fetch the files with: git lfs pull"
    assert told(folder) == [f"{name} is a pointer of git LFS, not the file itself; {fetch}"]


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_file_that_is_somebody_elses(name: str, tiny_model: Path) -> None:
    """It is not damaged: its owner has closed it."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)
        (folder / name).chmod(0)
        owner = (folder / name).owner()
        root = os.geteuid() == 0  # who can read everything
        if root:
            os.seteuid(65534)
        try:
            problems = told(folder)
        finally:
            if root:
                os.seteuid(0)
        assert problems == [f"{name} can't be read: permission denied; it is {owner}'s"]
    finally:
        shutil.rmtree(folder)


# Tokenizers that are a sentencepiece model alone

SPECIAL = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]",
           "eos_piece": "[SEP]", "unk_piece": "[UNK]"}  # fmt: skip
TEXTS = ["river lamp window good", "ticket pencil kettle bad", "drawer basket good", "curtain bicycle bad movie"] * 8


def sentencepiece_model(path: Path) -> None:
    import sentencepiece

    rng = random.Random(0)
    words = sorted({word for text in TEXTS for word in text.split()})
    sentences = iter([" ".join(rng.choices(words, k=8)) for _ in range(500)])
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences,
            model_writer=file,
            vocab_size=80,
            hard_vocab_limit=False,
            minloglevel=2,
            **SPECIAL,
        )


@pytest.fixture
def deberta(tmp_path: Path) -> Path:
    """A DeBERTa-v3 of two layers as the hub has it: spm.model without tokenizer.json, and a generator beside it."""
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    folder = tmp_path / "deberta"
    config = DebertaV2Config(
        vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, relative_attention=True, position_buckets=16, pos_att_type="p2c|c2p",
        norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False, type_vocab_size=0,
    )  # fmt: skip
    DebertaV2ForSequenceClassification(config).save_pretrained(folder)
    sentencepiece_model(folder / "spm.model")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    (folder / "pytorch_model.generator.bin").write_bytes(b"never opened")
    return folder


def test_a_tokenizer_that_is_spm_model_alone_is_trained_with_and_written(deberta: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    assert model_problems(deberta) == []
    tokenizer = load_tokenizer(str(deberta))
    assert tokenizer_problems(deberta, tokenizer, True) == []
    assert tokenizer.tokenize("good river") == ["▁good", "▁river"]
    run = FineTuningRun(make_job(deberta, 16))
    run.reset(TrialConfig(learning_rate=1e-3, epochs=1, batch_size=8), seed=1)
    run.next_epoch()
    best = tmp_path / "best"
    run.write_best(best)
    again = load_tokenizer(str(best))
    assert again("good river", "bad movie")["input_ids"] == tokenizer("good river", "bad movie")["input_ids"]
    (answer,) = pipeline("text-classification", str(best), device="cpu")("good river")
    assert 0 < answer["score"] < 1


def test_a_package_that_a_tokenizer_needs_is_named(deberta: Path) -> None:
    """transformers asks for tiktoken where sentencepiece is missing."""
    code = (
        "import sys; from pathlib import Path; from tune.prepare.inputs import find_tokenizer\n"
        "sys.modules['sentencepiece'] = None; problems = []\n"
        "assert find_tokenizer(Path(sys.argv[1]), problems) is None; print(*problems)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(deberta)], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith("its tokenizer can't be loaded: it needs sentencepiece; pip install sentencepiece")


def test_the_tokenizer_of_best_says_how_long_the_rows_were(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    run = FineTuningRun(make_job(tiny_model, max_length=48))
    run.reset(TrialConfig(epochs=1), seed=0)
    run.next_epoch()
    run.write_best(tmp_path / "best")
    assert load_tokenizer(str(tmp_path / "best")).model_max_length == 48
    classify = pipeline("text-classification", str(tmp_path / "best"), truncation=True, device="cpu")
    assert classify("word " * 3000)[0]["label"] in ("different", "same")
    assert load_tokenizer(str(tiny_model)).model_max_length != 48
