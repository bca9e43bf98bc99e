"""The ways in which people have a model's folder: each works from end to end, or is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conformance.families import make_model, tiny_config
from tests.conformance.verdicts import try_model
from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.data.tokens import load_tokenizer
from trainable.hub.model_checks import model_problems
from trainable.train.run import FineTuningRun

pytestmark = pytest.mark.conformance


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return make_model("bert", tiny_model, tmp_path / "model")


def test_weights_in_several_files(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    opened = AutoModelForSequenceClassification.from_pretrained(model)
    (model / "model.safetensors").unlink()
    opened.save_pretrained(model, max_shard_size="20KB")
    assert len(list(model.glob("model-*-of-*.safetensors"))) > 1
    assert try_model("bert", model, tmp_path).verdict == "works"


def test_a_checkpoint_that_was_fine_tuned_for_other_classes(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    names = {i: f"topic {i}" for i in range(7)}
    opened = AutoModelForSequenceClassification.from_pretrained(
        model,
        num_labels=7,
        id2label=names,
        label2id={name: i for i, name in names.items()},
        ignore_mismatched_sizes=True,
    )
    opened.save_pretrained(model)
    assert len(load_file(model / "model.safetensors")["classifier.bias"]) == 7
    assert try_model("bert", model, tmp_path).verdict == "works"
    assert json.loads((tmp_path / "best" / "config.json").read_text())["id2label"] == {"0": "different", "1": "same"}


def test_a_folder_of_sentence_transformers(model: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(model).save_pretrained(model)  # without a head
    (model / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},'
        ' {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    )
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}'
    )
    (model / "sentence_bert_config.json").write_text('{"max_seq_length": 128, "do_lower_case": false}')
    assert try_model("bert", model, tmp_path).verdict == "works"


def test_an_adapter_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "bert-base-uncased"}')
    (problem,) = model_problems(model)
    assert problem.endswith("holds an adapter (adapter_config.json); merge it into its model first")


def test_a_vocabulary_without_a_fast_tokenizers_file(model: Path, tmp_path: Path) -> None:
    words = load_tokenizer(str(model)).get_vocab()
    (model / "tokenizer.json").unlink()
    (model / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.__getitem__)))
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    assert try_model("bert", model, tmp_path).verdict == "works"
    assert (tmp_path / "best" / "vocab.txt").is_file()


@pytest.mark.parametrize(("kind", "family"), [("CanineTokenizer", "canine"), ("ByT5Tokenizer", "t5")])
def test_a_tokenizer_that_reads_letters_needs_no_vocabulary(
    kind: str, family: str, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    special_ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
    config = tiny_config(family, 400, special_ids)
    config.max_position_embeddings = 16384
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    assert model_problems(tmp_path / "model") == []
    assert try_model(family, tmp_path / "model", tmp_path).verdict == "works"
    (tmp_path / "model" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    assert "has no tokenizer" in model_problems(tmp_path / "model")[0]


@pytest.mark.parametrize("family", ["bart", "t5", "gpt2", "albert"])
def test_weights_that_are_tied_are_written_once_and_open_tied(family: str, tiny_model: Path, tmp_path: Path) -> None:
    model = make_model(family, tiny_model, tmp_path / "model")
    before = load_file(model / "model.safetensors")
    run = FineTuningRun(make_job(model, train_rows=16))
    run.reset(TrialConfig(batch_size=8, epochs=1), seed=1)
    run.next_epoch()
    run.write_best(tmp_path / "best")
    after = load_file(tmp_path / "best" / "model.safetensors")
    assert after.keys() == before.keys()
