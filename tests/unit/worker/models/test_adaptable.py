"""Layers that add to each row: what a row's bits depend on, at the sizes of SDXL's layers.

At the sizes of small models a row keeps its bits where at these it does not.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from darkroom.worker.models.adaptable import Delta, LoraConvolution, LoraLinear, LoraPointwise, adapt, adding

ROWS = 4
RANK = 8

#: in, out, tokens: attention at 640 and at 1280, the text's keys, the feed-forward's two, the time's.
LINEARS = [(640, 640, 1024), (1280, 1280, 256), (2048, 1280, 77), (1280, 10240, 64), (5120, 1280, 64), (1280, 640, 1)]
DTYPES = [torch.float32, torch.bfloat16]


class Layer:
    """A layer with rows, and a delta for each of them."""

    def __init__(self, layer: nn.Module, given: torch.Tensor, wide_in: int, wide_out: int, rank: int) -> None:
        self.module = nn.Sequential(layer.to(given.dtype))
        (self.slot,) = adapt(self.module)
        self.given, draw = given, torch.Generator().manual_seed(1)

        def drawn(*shape: int) -> torch.Tensor:
            return (torch.randn(*shape, generator=draw) / 8).to(given.dtype)

        self.delta = Delta(drawn(ROWS, rank, wide_in), drawn(ROWS, rank), drawn(ROWS, rank, wide_out))

    @torch.inference_mode()
    def run(self, delta: Delta | None, given: torch.Tensor | None = None) -> torch.Tensor:
        deltas = [] if delta is None else [(self.slot, delta)]
        with adding(deltas):
            found: torch.Tensor = self.module(self.given if given is None else given)
            return found


def linear(wide_in: int, wide_out: int, tokens: int, dtype: torch.dtype, rank: int = RANK) -> Layer:
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(ROWS, tokens, wide_in, generator=draw).to(dtype)
    return Layer(nn.Linear(wide_in, wide_out), given, wide_in, wide_out, rank)


def convolution(kernel: int, dtype: torch.dtype, rank: int = RANK) -> Layer:
    draw = torch.Generator().manual_seed(0)
    given = torch.randn(ROWS, 320, 32, 32, generator=draw).to(dtype)
    return Layer(nn.Conv2d(320, 320, kernel, padding=kernel // 2), given, 320 * kernel**2, 320, rank)


def cases(dtype: torch.dtype) -> list[Layer]:
    return [*(linear(*size, dtype) for size in LINEARS), *(convolution(kernel, dtype) for kernel in (1, 3))]


def each() -> list[Any]:
    """All of them; where bfloat16 is emulated the large ones of it take a minute, and are for the thorough run."""
    small, found = (1280, 640, 1), list[Any]()
    for dtype, size in product(DTYPES, LINEARS):
        marks = [pytest.mark.thorough] if dtype == torch.bfloat16 and size != small else []
        found.append(pytest.param(partial(linear, *size, dtype), id=f"{'-'.join(map(str, size))}-{dtype}", marks=marks))
    for dtype, kernel in product(DTYPES, (1, 3)):
        marks = [pytest.mark.thorough] if dtype == torch.bfloat16 and kernel != 1 else []
        found.append(pytest.param(partial(convolution, kernel, dtype), id=f"kernel {kernel}-{dtype}", marks=marks))
    return found


def wider(delta: Delta, pages: int) -> Delta:
    """The same, and pages of zeros behind."""
    more = (pages - 1) * RANK
    return Delta(
        nn.functional.pad(delta.down, (0, 0, 0, more)),
        nn.functional.pad(delta.weight, (0, more)),
        nn.functional.pad(delta.up, (0, 0, 0, more)),
    )


def test_what_is_added_is_the_product() -> None:
    for layer in cases(torch.float64):
        plain, found = layer.run(None), layer.run(layer.delta)
        down, weight, up = layer.delta
        for row in range(ROWS):
            matrix = torch.einsum("ro,r,ri->oi", up[row], weight[row], down[row])
            alone = layer.module[0]
            changed = alone.weight + matrix.view(alone.weight.shape)
            if isinstance(alone, nn.Linear):
                wanted = nn.functional.linear(layer.given[row : row + 1], changed, alone.bias)
            else:
                wanted = nn.functional.conv2d(layer.given[row : row + 1], changed, alone.bias, padding=alone.padding)
            torch.testing.assert_close(found[row : row + 1], wanted, rtol=1e-9, atol=1e-9)
        assert (found - plain).abs().max() > 0.1


@pytest.mark.parametrize("made", each())
def test_a_row_of_the_empty_page_has_the_bits_of_the_plain_layer(made: Callable[[], Layer]) -> None:
    layer = made()
    for pages in (1, 4):
        nothing = Delta(*(torch.zeros_like(one) for one in wider(layer.delta, pages)))
        assert torch.equal(layer.run(nothing), layer.run(None)), layer.slot


@pytest.mark.parametrize("made", each())
def test_a_row_does_not_depend_on_the_others_nor_on_its_place(made: Callable[[], Layer]) -> None:
    layer = made()
    for pages in (1, 4):
        delta = wider(layer.delta, pages)
        found = layer.run(delta)
        others = Delta(*(torch.cat([one[:1], one[1:].flip(1) * 2]) for one in delta))
        beside = torch.cat([layer.given[:1], layer.given[1:].flip(1)])
        assert torch.equal(layer.run(others, beside)[0], found[0]), layer.slot
        rolled = layer.run(Delta(*(one.roll(1, 0) for one in delta)), layer.given.roll(1, 0))
        assert torch.equal(rolled, found.roll(1, 0)), layer.slot


def test_how_wide_the_call_is_and_the_order_of_pages_may_count() -> None:
    """So both belong to what is recorded; were this ever to fail, records would say more than they need."""
    apart, turned = [], []
    for layer in [linear(*size, torch.float32, 4 * RANK) for size in LINEARS]:
        found = layer.run(layer.delta)
        torch.testing.assert_close(layer.run(wider(layer.delta, 4)), found, rtol=1e-3, atol=1e-3)
        apart.append(not torch.equal(layer.run(wider(layer.delta, 4)), found))
        other = Delta(*(one.roll(RANK, 1) for one in layer.delta))
        turned.append(not torch.equal(layer.run(other), found))
    assert any(turned)
    narrow = [linear(*size, torch.float32) for size in LINEARS]
    apart += [not torch.equal(one.run(wider(one.delta, 2)), one.run(one.delta)) for one in narrow]
    assert any(apart)


def test_one_row_stands_for_all() -> None:
    for layer in cases(torch.float32):
        one = Delta(layer.delta.down[:1], layer.delta.weight[:1], layer.delta.up[:1])
        same = Delta(*(part.expand(ROWS, *part.shape[1:]) for part in one))
        assert torch.equal(layer.run(one), layer.run(same))


def test_only_plain_layers_are_made_able() -> None:
    module = nn.Sequential(
        nn.Linear(4, 4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 4, 1, stride=2), nn.LayerNorm(4),
    )  # fmt: skip
    names = list(module.state_dict())
    found = {slot.path: (type(slot.layer), slot.part) for slot in adapt(module)}
    assert found == {
        "0": (LoraLinear, "linear"),
        "1": (LoraPointwise, "linear"),
        "2": (LoraConvolution, "convolution"),
        "5": (LoraConvolution, "convolution"),
    }
    assert list(module.state_dict()) == names


def test_nothing_is_added_after_the_call_whatever_became_of_it() -> None:
    layer = linear(8, 8, 1, torch.float32)
    with pytest.raises(ZeroDivisionError), adding([(layer.slot, layer.delta)]):
        raise ZeroDivisionError
    assert layer.slot.layer.delta is None
