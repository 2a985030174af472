"""What a model of the published size computes and holds, counted on the meta device: nothing is computed, and nothing needs a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from actors.foundation.pretrained import Size
from benchmarks.models.subjects import Subject

_HALF = torch.bfloat16
_VALUES = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default, torch.ops.aten.is_nonzero.default)


@dataclass(frozen=True)
class Count:
    """What one model takes.

    ``operations``: floating-point operations of one record, two a multiplication and addition. ``parameters``: of what is kept of the
    networks on the device. ``weights``: their bytes in half precision. ``peak``: bytes of weights and live tensors when the tensors of
    one batch of the actor are most; libraries' workspaces and what the allocator keeps come on top.
    """

    operations: int
    parameters: int
    weights: int
    peak: int


def count(subject: Subject, size: Size = "full") -> Count:
    """Count a model, at its published size unless told otherwise."""
    work = subject.build(size, torch.device("meta"), _HALF)
    parameters = [p for module in work.modules for p in module.parameters()]
    weights = sum(p.numel() * p.element_size() for p in parameters)
    with _Unknown(), FlopCounterMode(display=False) as counter, _FusedAttention():
        work.step(1)
    with _Unknown(), _Memory() as memory, _FusedAttention():
        work.step(subject.batch)
    return Count(int(counter.get_total_flops()), sum(p.numel() for p in parameters), weights, weights + memory.peak)


class _Unknown(TorchDispatchMode):
    """Answers what depends on values: where a library looks whether a mask has holes, it has."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func in _VALUES:
            return 0
        return func(*args, **(kwargs or {}))


class _FusedAttention(TorchFunctionMode):
    """Attention as GPUs run it, without its matrix of all pairs."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _fused(*args, **(kwargs or {}))


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    # Masks count as none: they change neither the operations nor the memory of the output.
    fused = torch.ops.aten._scaled_dot_product_flash_attention
    output: torch.Tensor = fused(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    return output


class _Memory(TorchDispatchMode):
    """Bytes of the tensors that live at once, at most; those that were there before do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        before = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _storage(leaf) not in before:
                self._add(leaf.untyped_storage())
        self.peak = max(self.peak, sum(self._live.values()))
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._live:
            self._live[key] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, key, None)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
