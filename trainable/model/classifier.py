"""A classifier that is loaded once and put back to its start, in place, each time that its worker gets a new trial."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainable.data.tokens import TokenizedSplit
from trainable.errors import WeightsMissing
from trainable.hub.model_folder import OFFSET_POSITIONS
from trainable.model.fast_layers import attention_for, install
from trainable.model.first_token import compute_first_token_only
from trainable.model.sliced_embedding import SlicedEmbedding, can_slice
from trainable.tasks import DEFAULT_TASK, TASKS
from trainable.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Models that classify by the last place of a row, whatever stands there, so that a row has to end with its text.
LAST_TOKEN_AT_THE_END = ("xlnet",)
# Models that change their attention for good at the first short batch: what they compute would depend on the order.
CHANGE_THEIR_ATTENTION = ("big_bird", "bigbird_pegasus")


class Classifier:
    """A sequence classifier that remembers its start.

    Loading a model takes seconds, copying its weights back takes milliseconds: a worker loads once and resets for each
    trial. `reset(seed)` gives bit for bit what a fresh process gets from the same folder and seed.
    """

    def __init__(
        self,
        folder: str,
        label_names: tuple[str, ...],
        device: torch.device,
        slice_to: Sequence[TokenizedSplit] = (),
        pad_id: int = 0,
        task: Task = TASKS[DEFAULT_TASK],
    ) -> None:
        """Load the model.

        Args:
            folder: A local folder in Hugging Face's format. A head for other classes is replaced by a new one.
            label_names: The classes' names by id.
            device: Where the model computes.
            slice_to: Cut the word embedding down to the rows that these splits use, if the model allows it.
            pad_id: The token id that fills short rows; its embedding row is kept.
            task: Decides what head the model gets.

        Raises:
            WeightsMissing: The folder lacks weights of the encoder, which would be drawn at random.
        """
        from transformers import AutoConfig, AutoModelForSequenceClassification

        with _quiet_transformers():
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **task.head(label_names)
            )
        _settle(config, pad_id)
        own_attention = attention_for(config.model_type)
        with _quiet_transformers():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                **({"attn_implementation": own_attention} if own_attention is not None else {}),
                # A head for another number of classes is replaced, as a missing one is.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        mismatched = {str(item[0] if isinstance(item, tuple) else item) for item in loading["mismatched_keys"]}
        self._new = set(loading["missing_keys"]) | mismatched
        if strangers := _not_of_the_head(self._new, model.base_model_prefix):
            raise WeightsMissing(weights_missing(folder, strangers, mismatched))
        install(model)
        self.first_token_only = compute_first_token_only(model)
        self.sliced = SlicedEmbedding(model, slice_to, pad_id) if slice_to and can_slice(model, pad_id) else None
        self.module: nn.Module = model.to(device)
        self.device = device
        self._start = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
        # A dropout module holds its rate as `p`; some models hold rates as numbers and call the function.
        self._dropouts = [
            (module, name, value)
            for module in self.module.modules()
            for name, value in vars(module).items()
            if (isinstance(module, nn.Dropout) and name == "p") or ("dropout" in name and isinstance(value, float))
        ]
        self.pads_left = config.model_type in LAST_TOKEN_AT_THE_END
        self.architecture = type(model).__name__
        self.config_json: str = config.to_json_string()

    def reset(self, seed: int, dropout: float | None) -> None:
        """Restore every weight, draw new ones for the head from `seed`, and seed torch for what follows.

        Args:
            seed: Of the head and of all later draws, of dropout above all.
            dropout: The rate in hidden layers and attention, in [0, 1); None restores the model's own rates.
        """
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
        """The live weights by name. Training changes them in place, so clone what you keep."""
        return dict(self.module.state_dict())

    def whole_weights(self, weights: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
        """The weights with every row of the word embedding.

        Args:
            weights: As `weights` gave them.
            decay: The factor by which weight decay would have shrunk the rows that were left out of training.
        """
        return weights if self.sliced is None else self.sliced.whole(weights, decay)

    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy weights into the model, in place. Of tied weights a file holds only the first name."""
        own = self.module.state_dict()
        with torch.no_grad():
            for name, tensor in weights.items():
                own[name].copy_(tensor)


def _settle(config: PretrainedConfig, pad_id: int) -> None:
    """Change what a classifier must not leave open. The folder of the best model has it, too."""
    for part in (config, config.get_text_config()):  # of models that read more than texts, a part reads those
        if getattr(part, "pad_token_id", None) is None or config.model_type not in OFFSET_POSITIONS:
            part.pad_token_id = pad_id  # decoders look for the last token before the padding
        if getattr(part, "use_cache", None):
            part.use_cache = False  # it is for the next token of a text that is written
    if config.model_type in CHANGE_THEIR_ATTENTION:
        config.attention_type = "original_full"


def import_code_of(folder: str) -> None:
    """Import the code of a folder's classifier, which takes two seconds; what is wrong shows when it is loaded."""
    with contextlib.suppress(Exception):
        from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSES
        from transformers import AutoConfig

        CLASSES[type(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))]


def _not_of_the_head(names: Collection[str], base: str) -> list[str]:
    """Those of these weights that belong to the encoder: a head and a pooler may be new, nothing else."""
    return sorted(name for name in names if name.startswith(f"{base}.") and "pooler" not in name)


def weights_missing(folder: str, names: Sequence[str], mismatched: Collection[str]) -> str:
    """Say which weights of the encoder the folder has not, or has in another shape."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    what = "has other shapes for" if set(names) <= set(mismatched) else "lacks"
    return (
        f"--model {folder}: its file of weights {what} {shown}, so that they would be drawn at random; the weights are "
        "another model's than config.json says, or were saved under other names"
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence transformers' loading bar and report, then restore its settings: this may be a notebook's process."""
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
