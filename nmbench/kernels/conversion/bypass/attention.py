"""torch.nn.MultiheadAttention with projections that are layers, so that they can run sparse. For inference.

torch's own multiplies with the weights of its projections by name, in a function; here each projection is called.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: name -> which of (query, key, value) it makes, in this order
PROJECTIONS: dict[str, str] = {"in_proj": "qkv", "q_proj": "q", "kv_proj": "kv", "k_proj": "k", "v_proj": "v"}
_KINDS = "qkv"
_SEPARATE = ("q_proj", "k_proj", "v_proj")
#: parameters of torch's, which the projections have here; the others are None where all three have one width
_OF_PROJECTIONS = ("in_proj_weight", "in_proj_bias")


def taken(query: Tensor, key: Tensor, value: Tensor) -> tuple[str, ...]:
    """The fewest products that make query, key and value of these inputs."""
    if query is key and key is value:
        return ("in_proj",)
    return ("q_proj", "kv_proj") if key is value else _SEPARATE


def form(names: Iterable[str]) -> tuple[str, ...]:
    """The fewest projections that serve all of `names` (of `PROJECTIONS`; others do not count)."""
    wanted = {*names}
    if wanted & {"k_proj", "v_proj"}:
        return _SEPARATE
    return ("q_proj", "kv_proj") if wanted & {"q_proj", "kv_proj"} else ("in_proj",)


def layers(attention: nn.MultiheadAttention, names: Iterable[str]) -> dict[str, nn.Linear]:
    """Name -> a linear layer over that part of the attention's weights and biases, without a copy.

    names: a result of `form` for it.
    """
    return {name: _linear(*_part(attention, name)) for name in names}


def _part(attention: nn.MultiheadAttention, name: str) -> tuple[Tensor, Tensor | None]:
    if PROJECTIONS[name] == _KINDS:
        return attention.in_proj_weight, attention.in_proj_bias
    rows = _rows(name, attention.embed_dim)
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias.detach()[rows]
    return attention.in_proj_weight.detach()[rows], bias


def _rows(name: str, width: int) -> slice:
    """Those of a projection in the weight of all three."""
    first = _KINDS.index(PROJECTIONS[name][0]) * width
    return slice(first, first + len(PROJECTIONS[name]) * width)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = _parameter(weight)
    made.bias = None if bias is None else _parameter(bias)  # type: ignore[assignment]
    return made


def _parameter(tensor: Tensor) -> nn.Parameter:
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)


class LayeredAttention(nn.MultiheadAttention):
    """What `attention` computes, through its projections. Their names are keys of `PROJECTIONS`, and `out_proj`.

    It loads its own state dict, and that of the attention it stands for.
    """

    def __init__(self, attention: nn.MultiheadAttention, projections: Mapping[str, nn.Module]) -> None:
        """projections: a `form` of it, and "out_proj" if that is not to be the attention's own; dense or sparse.

        Dense ones over a part of a weight get memory of their own, so that the rest can be freed.
        """
        nn.Module.__init__(self)
        # all that it has besides the projections, what a user added too
        taken = {*self.__dict__, *PROJECTIONS, "_compiled_call_impl"}  # what was compiled is the attention's own pass
        self.__dict__.update({name: value for name, value in attention.__dict__.items() if name not in taken})
        self._parameters.update({n: p for n, p in attention._parameters.items() if n not in _OF_PROJECTIONS})
        self._buffers.update(attention._buffers)
        self._non_persistent_buffers_set.update(attention._non_persistent_buffers_set)
        self._modules.update(attention._modules)
        given = {"out_proj": attention.out_proj, **projections}
        self.form = tuple(name for name in PROJECTIONS if name in given)
        for name in self.form:
            self.add_module(name, _apart(given[name]))
        self.out_proj = given["out_proj"]  # type: ignore[assignment]
        self.train(attention.training)

    # -- for those who read weights by name -------------------------------------------------------------------------
    @property
    def in_proj_weight(self) -> Tensor | None:  # type: ignore[override]
        """(3 embed_dim, embed_dim), made anew at each access."""
        return self._joined("weight")

    @property
    def in_proj_bias(self) -> Tensor | None:  # type: ignore[override]
        """(3 embed_dim,) or None."""
        return self._joined("bias")

    def _joined(self, kind: str) -> Tensor | None:
        parts = [getattr(self.get_submodule(name), kind) for name in self.form]
        return parts[0] if len(parts) == 1 or parts[0] is None else torch.cat(parts)

    # -- the forward pass -------------------------------------------------------------------------------------------
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch.nn.MultiheadAttention: (output, attention weights or None); nested tensors aside."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask, which has to be given with it")
        batched = query.dim() == 3
        q, k, v = (self._heads(x, batched) for x in self._projected(query, key, value))
        causal = is_causal and key_padding_mask is None and not need_weights  # torch takes the hint only then
        mask = None if causal else self._mask(attn_mask, key_padding_mask, q, k.shape[2], batched)
        weights: Tensor | None = None
        dropped = self.dropout if self.training else 0.0
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.mT  # in this order float16 does not overflow
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, dropped) if dropped else weights
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropped, causal)
        # (batch, heads, length, head_dim) -> the layout of the query
        y = (y.transpose(1, 2) if self.batch_first or not batched else y.permute(2, 0, 1, 3)).flatten(2)
        return self.out_proj(y if batched else y.squeeze(0)), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """(..., embed_dim) each, in the order query, key, value."""
        if self.form == ("in_proj",) and taken(query, key, value) != self.form:
            # converted for self-attention, but called otherwise: right, and slow
            weight, bias = self.in_proj_weight, self.in_proj_bias
            shifts = [None] * 3 if bias is None else list(bias.chunk(3))
            parts = zip((query, key, value), weight.chunk(3), shifts, strict=True)  # type: ignore[union-attr]
            return [F.linear(x, w.to(x.dtype), None if b is None else b.to(x.dtype)) for x, w, b in parts]
        if self.form == ("q_proj", "kv_proj") and key is not value:
            q_proj, kv_proj = self.get_submodule("q_proj"), self.get_submodule("kv_proj")
            return [q_proj(query), kv_proj(key).chunk(2, -1)[0], kv_proj(value).chunk(2, -1)[1]]
        given = {"q": query, "k": key, "v": value}
        made: list[Tensor] = []
        for name in self.form:
            kinds = PROJECTIONS[name]
            made += getattr(self, name)(given[kinds[0]]).chunk(len(kinds), -1)
        return made

    def _heads(self, x: Tensor, batched: bool) -> Tensor:
        """(length, batch, embed_dim), or as batch_first says, or (length, embed_dim) -> (batch, heads, length, ...)."""
        x = x if batched else x.unsqueeze(0)
        x = x.view(*x.shape[:-1], self.num_heads, self.head_dim)
        return x.transpose(1, 2) if self.batch_first or not batched else x.permute(1, 2, 0, 3)

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int, batched: bool
    ) -> Tensor | None:
        """What is added to the scores: (batch or 1, heads or 1, length or 1, keys).

        Raises RuntimeError for what torch's refuses: another shape could be read as something else.
        """
        batch, heads, length, _ = q.shape
        # pairs, not a mapping: sizes may be symbols when the model is exported
        shapes: dict[str, tuple[Tensor | None, list[tuple[tuple[int, ...], tuple[int, ...]]]]] = {
            "attn_mask": (
                attn_mask,
                [((length, keys), (length, keys)), ((batch * heads, length, keys), (batch, heads, length, keys))],
            ),
            "key_padding_mask": (padding, [((batch, keys) if batched else (keys,), (batch, 1, 1, keys))]),
        }
        total: Tensor | None = None
        for name, (mask, views) in shapes.items():
            if mask is not None:
                view = next((view for shape, view in views if mask.shape == shape), None)
                if view is None or not (mask.dtype == torch.bool or mask.is_floating_point()):
                    given = f"{mask.dtype} {tuple(mask.shape)}"
                    taken = " or ".join(str(shape) for shape, _ in views)
                    raise RuntimeError(f"{name}: {given}; use bool or floats, {taken}")
                part = _additive(mask.reshape(view), q.dtype)
                total = part if total is None else total + part
        return total

    # -- files ------------------------------------------------------------------------------------------------------
    def _load_from_state_dict(  # type: ignore[no-untyped-def]
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ) -> None:
        """The dense attention's tensors are handed on to the projections; this dict is torch's own copy."""
        for kind in ("weight", "bias"):
            whole = state_dict.pop(f"{prefix}in_proj_{kind}", None)
            if whole is not None and len(whole) != 3 * self.embed_dim:
                error_msgs.append(
                    f"size mismatch for {prefix}in_proj_{kind}: {tuple(whole.shape)}, not {3 * self.embed_dim} rows"
                )
                whole = None
            for name in self.form if whole is not None else ():
                state_dict[f"{prefix}{name}.{kind}"] = whole[_rows(name, self.embed_dim)]
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _apart(module: nn.Module) -> nn.Module:
    """A dense layer over a part of a larger tensor -> the same with its own memory."""
    with torch.inference_mode(False):  # else they could never be loaded again
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.untyped_storage().nbytes() > parameter.nbytes:
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
    return module


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """True, where nothing may be seen, becomes minus infinity."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
