"""What a denoiser call may have or lack and still share a model call with others, such as an image's LoRAs."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, repeat
from typing import Self

import torch

Widths = tuple[int, ...]  # of a call's extras, in their order; those at the end that are 0 are left out


@dataclass(frozen=True, eq=False)
class Extra:
    """Rows, of which `width` columns say something.

    `tensors` are (rows, most, ...) each, as wide in all calls. Of several calls' rows the widest counts: the module is
    given so many columns of each tensor, or all of what is `whole`, or None where no call has any. So what is beyond a
    call's own width must say nothing.
    """

    tensors: tuple[torch.Tensor, ...]
    width: int = 0
    whole: bool = False

    @cached_property
    def form(self) -> Hashable:
        """What has to be equal in all calls of a group. An image brings the same extra to all of its calls."""
        return self.whole, tuple([(tensor.shape[1:], tensor.dtype, tensor.device) for tensor in self.tensors])

    def columns(self, width: int) -> tuple[torch.Tensor, ...] | None:
        """What the module is given of it in a call of this width."""
        if not width or self.whole:
            return self.tensors if width else None
        return tuple(tensor[:, :width] for tensor in self.tensors)

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        """With other tensors."""
        return replace(self, tensors=tuple(map(change, self.tensors)))


def in_columns(extras: Sequence[Extra], widths: Widths) -> list[tuple[torch.Tensor, ...] | None]:
    """What the module is given of each."""
    return [extra.columns(width) for extra, width in zip(extras, chain(widths, repeat(0)), strict=False)]


def shortest(widths: Sequence[int]) -> Widths:
    """Without what is 0 at the end: a call without extras says nothing of them."""
    last = max((place for place, width in enumerate(widths, 1) if width), default=0)
    return tuple(widths[:last])
