"""Layers that add a LoRA to each row of what they compute, in place of the plain ones of a model.

The class of a layer is changed once, after loading: names, weights and everything that asks for a Linear or a Conv2d
stay as they were. What a call adds is set before it and taken away after it, on the one thread that runs model calls.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as nnf

#: The parts of a denoiser that a call adds to, each for itself: many LoRAs have only the first.
PARTS = ("attention", "linear", "convolution")

#: Up to this rank a CPU takes a third less time for the first product with the rank as its rows, not its columns.
NARROW = 8


class Delta(NamedTuple):
    """What a layer adds to each row: `up`ᵀ · (`weight` * `down` · x).

    `down` (rows, rank, in), `weight` (rows, rank), `up` (rows, rank, out); a convolution's `in` is channels times the
    pixels of its kernel. One row stands for all rows of the call.
    """

    down: torch.Tensor
    weight: torch.Tensor
    up: torch.Tensor


class _Adaptable:
    """`delta` is None where nothing is to be added: then the layer has the bits of the plain one."""

    delta: Delta | None


class LoraLinear(nn.Linear, _Adaptable):
    """A Linear; its input is (rows, ..., in)."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """As torch's, and the delta."""
        plain = nnf.linear(given, self.weight, self.bias)
        return plain if self.delta is None else _onto_tokens(plain, given, *self.delta)


class LoraPointwise(nn.Conv2d, _Adaptable):
    """A convolution of single pixels, which is a Linear over them; its input is (rows, in, h, w)."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """As torch's, and the delta."""
        plain = super().forward(given)
        if self.delta is None:
            return plain
        down, weight, up = self.delta
        return _onto_pixels(plain, torch.bmm(_for_rows(down, len(given)), given.flatten(2)), weight, up)


class LoraConvolution(nn.Conv2d, _Adaptable):
    """Any other convolution: all rows' first matrices in one grouped convolution, each row a group."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """As torch's, and the delta."""
        plain = super().forward(given)
        if self.delta is None:
            return plain
        down, weight, up = self.delta
        rows, rank = len(given), down.shape[1]
        kernels = _for_rows(down, rows).reshape(rows * rank, self.in_channels, *self.kernel_size)
        in_one = given.reshape(1, -1, *given.shape[2:])
        inner = nnf.conv2d(in_one, kernels, None, self.stride, self.padding, self.dilation, groups=rows)
        return _onto_pixels(plain, inner.reshape(rows, rank, -1), weight, up)


def _onto_tokens(
    plain: torch.Tensor, given: torch.Tensor, down: torch.Tensor, weight: torch.Tensor, up: torch.Tensor
) -> torch.Tensor:
    rows = len(given)
    tokens, matrices = given.reshape(rows, -1, given.shape[-1]), _for_rows(down, rows)
    if matrices.shape[1] <= NARROW:
        inner = torch.bmm(matrices, tokens.mT).mul_(weight[:, :, None]).mT
    else:
        inner = torch.bmm(tokens, matrices.mT).mul_(weight[:, None])
    return plain.view(rows, -1, plain.shape[-1]).baddbmm_(inner, _for_rows(up, rows)).view(plain.shape)


def _onto_pixels(plain: torch.Tensor, inner: torch.Tensor, weight: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`inner` (rows, rank, pixels)."""
    weighed = inner.mul_(weight[:, :, None])
    return torch.baddbmm(plain.flatten(2), _for_rows(up, len(plain)).mT, weighed).view(plain.shape)


def _for_rows(matrices: torch.Tensor, rows: int) -> torch.Tensor:
    return matrices if len(matrices) == rows else matrices.expand(rows, *matrices.shape[1:])


class Slot(NamedTuple):
    """One layer of a module that can add: its path, the part of `PARTS` it counts to, the widths of its matrices."""

    path: str
    part: str
    layer: Any
    wide_in: int
    wide_out: int


def adapt(module: nn.Module) -> list[Slot]:
    """Makes all Linears and convolutions of the module able to add; the slots, in the order of `named_modules`.

    To be called before hooks are put on the layers: these keep the way to the plain ones. Layers of other classes, and
    convolutions that are grouped or padded with other than zeros, stay as they are.
    """
    return list(_adapted(module))


def plain(module: nn.Module) -> None:
    """Makes plain layers again of those that `adapt` made able to add."""
    for layer in module.modules():
        if type(layer) in (LoraLinear, LoraPointwise, LoraConvolution):
            layer.__class__ = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
            del layer.__dict__["delta"]


@contextmanager
def adding(deltas: Sequence[tuple[Slot, Delta]]) -> Iterator[None]:
    """These layers add so in the context. For the thread that runs model calls."""
    try:
        for slot, delta in deltas:
            slot.layer.__dict__["delta"] = delta  # past nn.Module, which would look whether it is a parameter
        yield
    finally:
        for slot, _ in deltas:
            slot.layer.__dict__["delta"] = None


def _adapted(module: nn.Module) -> Iterator[Slot]:
    for path, layer in module.named_modules():
        kind = _KINDS.get(type(layer))
        if kind is None:
            continue
        if isinstance(layer, nn.Linear):
            layer.__class__ = LoraLinear
            part = "attention" if ".attn1." in path or ".attn2." in path else "linear"
            wide = layer.in_features, layer.out_features
        elif isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
            pointwise = layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0)
            layer.__class__ = LoraPointwise if pointwise else LoraConvolution
            part = "linear" if pointwise else "convolution"
            wide = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1], layer.out_channels
        else:
            continue
        layer.__dict__["delta"] = None
        yield Slot(path, part, layer, *wide)


_KINDS: Mapping[type[nn.Module], str] = {nn.Linear: "linear", nn.Conv2d: "convolution"}
