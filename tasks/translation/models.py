"""fairseq's Transformers by name, always with fresh weights.

NARROW       the two-and-two-layer model of the quick scale, registered with fairseq as an architecture of its own
build        a Transformer for a fairseq task (its dictionaries give the size of the embeddings)
candidates   the weights that may become sparse
dictionary   a dictionary of a given size, for building without data
"""

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.task import DataError
from nmbench_tasks._shared.settings import unknown_name
from nmbench_tasks.translation import compat
from nmbench_tasks.translation.scales import Settings

# isort: split
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_REGISTRY, register_model_architecture
from fairseq.models.transformer import TransformerModel, base_architecture
from fairseq.tasks.translation import TranslationTask

NARROW = "transformer_narrow"
#: what every dictionary of fairseq pads with, at its place
PAD: int = Dictionary().pad()
#: the ends of the names of what is sparse: the four projections of every attention, and both feed-forward layers
_SPARSE = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_FROM_SETTINGS = {"dropout", "attention_dropout", "activation_dropout"}
_TIED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "decoder.output_projection.weight")
#: a buffer that fairseq only asks for its type, and in which it leaves what the memory held, at each load too: two
#: equal models would be saved as different files
_UNSET = "embed_positions._float_tensor"


def _narrow(args: Namespace) -> None:
    """2 + 2 layers of 128 units, 256 in the feed-forward layers, 4 heads. 16 divides every one of these."""
    small = {"layers": 2, "embed_dim": 128, "ffn_embed_dim": 256, "attention_heads": 4}
    for name, value in small.items():
        for side in ("encoder", "decoder"):
            setattr(args, f"{side}_{name}", getattr(args, f"{side}_{name}", value))
    args.encoder_normalize_before = args.decoder_normalize_before = True
    base_architecture(args)


if NARROW not in ARCH_MODEL_REGISTRY:
    register_model_architecture("transformer", NARROW)(_narrow)


def build(name: str, task: TranslationTask, settings: Settings) -> nn.Module:
    """The Transformer `name` of fairseq for the dictionaries of `task`.

    With one dictionary for both sides, the two embeddings and the output projection are one weight, with two only
    the decoder's embedding and the output projection are. Raises ValueError if fairseq knows no such Transformer.
    """
    known = sorted(arch for arch, model in ARCH_MODEL_REGISTRY.items() if model is TransformerModel)
    if name not in known:
        raise ValueError(unknown_name("Transformer of fairseq", name, known))
    args = Namespace(
        arch=name,
        share_all_embeddings=task.source_dictionary == task.target_dictionary,
        share_decoder_input_output_embed=True,
        max_source_positions=settings.max_length,
        max_target_positions=settings.max_length,
        **settings.model_dump(include=_FROM_SETTINGS),
    )
    model: nn.Module = task.build_model(args)
    for name, buffer in model.named_buffers():
        if name.endswith(_UNSET):
            buffer.zero_()
    model.register_load_state_dict_pre_hook(_adopt)  # type: ignore[no-untyped-call]  # torch's own
    return model


def candidates(model: nn.Module) -> list[str]:
    """Weights of all attention projections and feed-forward layers, of the encoder and of the decoder."""
    return [f"{name}.weight" for name, _ in model.named_modules() if name.rpartition(".")[2] in _SPARSE]


def dictionary(entries: int) -> Dictionary:
    """A dictionary with `entries` entries, the four of fairseq included."""
    made = Dictionary()
    for index in range(entries - len(made)):
        made.add_symbol(f"piece{index}")
    return made


def _adopt(model: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before weights are loaded into `model`: complete them, and say in words what cannot fit.

    A safetensors file holds a weight that has several names once; weights that unmodified fairseq saved hold shadows.
    Raises DataError if they were made for dictionaries of another size.
    """
    own = model.state_dict()
    for name in _TIED:
        if prefix + name not in state:
            twin = next((t for t in _TIED if prefix + t in state and own[t].data_ptr() == own[name].data_ptr()), None)
            if twin is not None:
                state[prefix + name] = state[prefix + twin]
        given = state.get(prefix + name)
        if given is not None and given.shape[0] != own[name].shape[0]:
            raise DataError(
                f"these weights are for a dictionary of {given.shape[0]} entries, this corpus has one of "
                f"{own[name].shape[0]} ({name})\ntake the dictionary and the subwords that they were trained with"
            )
    for key in [key for key in state if key.endswith(_UNSET)]:
        state[key] = torch.zeros_like(state[key])
    for key in [key for key in state if ".layers." in key and key.rpartition(".")[2] in compat.SHADOWS]:
        del state[key]
