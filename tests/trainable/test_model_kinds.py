"""Kinds of models beside BERT: decoders, models that read the last token, half-precision folders, position tables."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conformance.families import make_model
from tests.trainable.runs import make_job
from trainable.config import TrialConfig
from trainable.data.tokens import borrowed_pad_token, load_tokenizer
from trainable.errors import WeightsMissing
from trainable.hub.model_folder import OFFSET_POSITIONS, longest_row
from trainable.train.run import FineTuningRun

MODEL_TYPES = ("gpt2", "llama", "qwen2", "roberta", "xlnet")  # tests/conformance tries all that there are


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_each_kind_is_trained_and_opened_and_no_row_depends_on_its_neighbours(
    model_type: str, tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = make_model(model_type, tiny_model, tmp_path / model_type)
    run = FineTuningRun(make_job(folder, 16))
    run.reset(TrialConfig(learning_rate=1e-3, epochs=1, batch_size=8), seed=1)
    run.next_epoch()

    model = run.classifier.module.eval()
    rows = np.argsort(run.validation.lengths)[[0, -1]]
    assert run.validation.lengths[rows[0]] < run.validation.lengths[rows[1]]
    with torch.inference_mode():
        together = model(**run.validation.take(rows).inputs).logits[0]
        alone = model(**run.validation.take(rows[:1]).inputs).logits[0]
    assert torch.allclose(together, alone, atol=1e-5), "the logits of a row depend on the rows beside it"

    run.write_best(tmp_path / "best")
    best = AutoModelForSequenceClassification.from_pretrained(tmp_path / "best")
    assert best.dtype == torch.float32
    assert best.config.pad_token_id is not None


def test_a_tokenizer_without_padding_token_pads_with_its_end_token(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    folder = make_model("gpt2", tiny_model, tmp_path / "gpt2")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            fields = json.loads((folder / name).read_text())
            fields.pop("pad_token", None)
            (folder / name).write_text(json.dumps({**fields, "eos_token": "[SEP]"}))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**config, "eos_token": "[SEP]", "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": None})
    )
    tokenizer = load_tokenizer(str(folder))
    assert borrowed_pad_token(tokenizer) == "[SEP]"
    job = replace(make_job(folder, 16), pad_id=tokenizer.pad_token_id, pad_token=borrowed_pad_token(tokenizer))
    run = FineTuningRun(job)
    run.reset(TrialConfig(epochs=1, batch_size=8), seed=1)
    run.next_epoch()
    run.write_best(tmp_path / "best")
    answers = pipeline("text-classification", str(tmp_path / "best"), device="cpu")(["a b", "a b c d e"], batch_size=2)
    assert len(answers) == 2


def test_a_tokenizer_with_a_padding_token_borrows_none(tiny_model: Path) -> None:
    assert borrowed_pad_token(load_tokenizer(str(tiny_model))) is None


def test_best_opens_in_float32_with_the_very_weights_whatever_the_base_says(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = Path(shutil.copytree(tiny_model, tmp_path / "half"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    run = FineTuningRun(make_job(folder))
    run.reset(TrialConfig(epochs=1), seed=1)
    run.next_epoch()
    run.write_best(tmp_path / "best")
    best = AutoModelForSequenceClassification.from_pretrained(tmp_path / "best")
    assert best.dtype == torch.float32
    own = run.classifier.whole_weights(run.best_weights.tensors, 1.0)
    name = "classifier.weight"
    assert torch.equal(best.state_dict()[name], own[name])


def test_positions_are_those_of_the_table_behind_the_padding_token(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_model("roberta", tiny_model, tmp_path / "roberta")
    assert longest_row(folder) == 127, "the padding token has id 0"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 514}))
    assert longest_row(folder) == 127, "the table has 128 rows, whatever the configuration says"
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 1}))
    assert longest_row(folder) == 126
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 0, "model_type": "mpnet"}))
    assert longest_row(folder) == 126, "MPNet counts from behind id 1 whatever its configuration says"


def test_every_model_that_counts_positions_from_behind_the_padding_token_is_known() -> None:
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KNOWN

    models = Path(transformers.__file__).parent / "models"
    found = set()
    for model_type in KNOWN:
        module = model_type.replace("-", "_")
        folder = {"data2vec_text": "data2vec"}.get(module, module)
        for source in (models / folder).glob(f"modeling_{module}.py"):
            if re.search(r"def create_position_ids_from_input_ids", source.read_text()):
                found.add(model_type)
    assert found == set(OFFSET_POSITIONS)


def rewritten(tiny_model: Path, folder: Path, change: Any) -> Path:
    """The model with other weights: `change` gets name and tensor, and returns both, or None to leave it out."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, folder)
    changed = [change(name, tensor) for name, tensor in load_file(folder / "model.safetensors").items()]
    save_file(dict(pair for pair in changed if pair is not None), folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda name, tensor: ("student_" + name, tensor), "lacks bert.embeddings.LayerNorm.bias"),
        (lambda name, tensor: None if ".layer.0.output." in name else (name, tensor), "lacks bert.encoder.layer.0"),
        (
            lambda name, tensor: (name, tensor[..., : tensor.shape[-1] // 2].contiguous()) if "bert." in name else None,
            "has other shapes for bert.",
        ),
    ],
    ids=["another prefix", "a layer is gone", "another width"],
)
def test_weights_of_the_encoder_that_do_not_load_are_told_by_name(
    tiny_model: Path, tmp_path: Path, change: Any, says: str
) -> None:
    folder = rewritten(tiny_model, tmp_path / "model", change)
    with pytest.raises(WeightsMissing, match=re.escape(says)):
        FineTuningRun(make_job(folder))


@pytest.mark.parametrize("part", ["classifier", "pooler"])
def test_a_head_and_a_pooler_may_be_new(tiny_model: Path, tmp_path: Path, part: str) -> None:
    folder = rewritten(tiny_model, tmp_path / "model", lambda name, tensor: None if part in name else (name, tensor))
    run = FineTuningRun(make_job(folder))
    name = next(name for name in run.classifier.weights() if part in name and name.endswith("weight"))
    drawn = []
    for seed in (1, 2, 1):
        run.reset(TrialConfig(epochs=1), seed=seed)
        drawn.append(run.classifier.weights()[name].clone())
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1]), "what is new is drawn from the trial's seed"
    assert run.next_epoch().epoch == 1
