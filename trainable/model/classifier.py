"""A classifier that is loaded once and put back to its start in place, as often as a worker gets a new trial."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainable.data.tokens import TokenizedSplit
from trainable.hub.model_folder import TOKENIZER_FILES
from trainable.model.fast_layers import attention_for, install
from trainable.model.first_token import compute_first_token_only
from trainable.model.sliced_embedding import SlicedEmbedding, can_slice

CODE_FIELDS = ("auto_map", "custom_pipelines")  # which code of somebody else's a model would like to have run


class Classifier:
    """A sequence classifier, its pretrained weights, and which of its parameters are new (the head).

    `reset(seed)` gives bit for bit what a fresh process gets from the same folder and seed.
    With `slice_to` the word embedding is cut down to what those splits use, where the model allows it; `sliced` is
    then how, else None.
    """

    def __init__(
        self,
        folder: str,
        label_names: tuple[str, ...],
        device: torch.device,
        slice_to: Sequence[TokenizedSplit] = (),
        pad_id: int = 0,
    ) -> None:
        from transformers import AutoConfig, AutoModelForSequenceClassification

        config = AutoConfig.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            num_labels=len(label_names),
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            problem_type="single_label_classification",
        )
        with _quiet_transformers():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation=attention_for(config.model_type),
                # A head of another number of classes is replaced, as a missing one is.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        install(model)
        self.first_token_only = compute_first_token_only(model)
        self.sliced = SlicedEmbedding(model, slice_to, pad_id) if slice_to and can_slice(model, pad_id) else None
        self.module: nn.Module = model.to(device)
        self.device = device
        mismatched = {str(item[0] if isinstance(item, tuple) else item) for item in loading["mismatched_keys"]}
        self._new = set(loading["missing_keys"]) | mismatched
        self._start = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        # Dropout modules have their rate as `p`; some models keep it as a number and call the function.
        self._dropouts = [
            (module, name, value)
            for module in self.module.modules()
            for name, value in vars(module).items()
            if (isinstance(module, nn.Dropout) and name == "p") or ("dropout" in name and isinstance(value, float))
        ]
        self.architecture = type(model).__name__
        self.config_json: str = config.to_json_string()

    def reset(self, seed: int, dropout: float | None) -> None:
        """Put every weight back, draw new ones for the head from `seed`, and seed torch for what follows."""
        with torch.no_grad():
            for name, tensor in self.module.state_dict().items():
                tensor.copy_(self._start[name])
        self.module.zero_grad(set_to_none=True)
        for module, name, value in self._dropouts:
            setattr(module, name, value if dropout is None else dropout)
        torch.manual_seed(seed)
        self._draw_new_parameters()
        self.module.train()

    def _draw_new_parameters(self) -> None:
        for prefix, module in self.module.named_modules():
            own = {f"{prefix}.{name}": p for name, p in module.named_parameters(recurse=False)}
            new = [p for name, p in own.items() if name in self._new]
            if not new:
                continue
            for parameter in new:
                parameter._is_hf_initialized = False
            with torch.no_grad():
                self.module._init_weights(module)  # type: ignore[operator]

    def weights(self) -> dict[str, Tensor]:
        """The live weights by name; clone what is to be kept."""
        return dict(self.module.state_dict())

    def whole_weights(self, weights: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
        """`weights` as the pretrained model has them; `decay` is what embedding rows left out of training missed."""
        return weights if self.sliced is None else self.sliced.whole(weights, decay)

    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights in, in place; of tied ones a file has only the first."""
        own = self.module.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No loading bar and no load report; then as before, since this may be a notebook's process."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def write_model(
    folder: Path, weights: Mapping[str, Tensor], config_json: str, architecture: str, start_folder: str
) -> None:
    """Write weights, configuration and tokenizer so that `transformers.pipeline` opens the folder."""
    write_tensors(folder / "model.safetensors", weights, {"format": "pt"})
    _readable(folder / "model.safetensors")
    config = json.loads(config_json)
    for name in ("_name_or_path", *CODE_FIELDS):
        config.pop(name, None)
    config["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (Path(start_folder) / name).is_file():
            shutil.copyfile(Path(start_folder) / name, folder / name)
    _drop_code(folder / "tokenizer_config.json")


def _drop_code(path: Path) -> None:
    """Take out of a JSON file what names Python code: ours is a model of transformers' own classes."""
    if path.is_file():
        fields = json.loads(path.read_text(encoding="utf-8"))
        if named := [name for name in CODE_FIELDS if name in fields]:
            for name in named:
                del fields[name]
            path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _readable(path: Path) -> None:
    """Give a file the mode that new files have; safetensors makes its own for the owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


def _untied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each stored tensor once: safetensors refuses names that share memory, and loading ties them again."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in weights.items():
        pointer = tensor.data_ptr()
        if pointer in seen and tensor.numel():
            continue
        seen.add(pointer)
        kept[name] = tensor
    return kept


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write named tensors to one safetensors file. Raises OSError with the path."""
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in _untied(tensors).items()}, str(path), metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote."""
    return load_file(str(path))
