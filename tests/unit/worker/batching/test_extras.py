"""Arguments that some calls of a model call have and others lack."""

from typing import Any

import pytest
import torch

from darkroom.worker.batching.extras import Extra, shortest
from darkroom.worker.batching.placements import Place, Placements, Script
from darkroom.worker.batching.stacking import Call, run_stacked, widest

MOST = 4


class Denoiser:
    """Adds up what each row names, and remembers how wide it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int | None, ...]] = []

    def __call__(self, sample: torch.Tensor, extras: tuple[Any, ...]) -> torch.Tensor:
        self.seen.append(tuple(None if extra is None else extra[0].shape[1] for extra in extras))
        for extra in extras:
            if extra is not None:
                sample = sample + extra[0].sum(1, keepdim=True)
        return sample


def call(module: Denoiser, value: float, *widths: int, rows: int = 2) -> Call:
    given = [torch.zeros(1, MOST), torch.zeros(1, MOST)]
    for tensor, width in zip(given, widths, strict=False):
        tensor[:, :width] = 1.0
    padded = (*widths, 0, 0)
    extras = tuple(
        Extra((tensor.expand(rows, -1),), width, whole)
        for tensor, width, whole in zip(given, padded, (False, True), strict=False)
    )
    return Call.of(module, (torch.full((rows, 1), value),), {}, extras)


def test_calls_with_and_without_are_of_one_group() -> None:
    module = Denoiser()
    groups = {call(module, 1.0, *widths).group for widths in ((), (1,), (4,), (0, 1), (2, 3))}
    assert len(groups) == 1


def test_the_widest_counts_and_whole_ones_are_given_whole() -> None:
    module = Denoiser()
    calls = [call(module, 10.0), call(module, 20.0, 1), call(module, 30.0, 2, 1)]
    first, second, third = run_stacked(calls, 8)
    assert module.seen == [(2, MOST)]
    assert first.unique().item() == 10.0
    assert second.unique().item() == 21.0
    assert third.unique().item() == 33.0


def test_nothing_is_given_where_no_call_has_any() -> None:
    module = Denoiser()
    run_stacked([call(module, 1.0), call(module, 2.0)], 4)
    call(module, 3.0).run()
    assert module.seen == [(None, None)] * 2


def test_a_record_may_ask_for_more_than_the_call_has() -> None:
    module = Denoiser()
    (found,) = run_stacked([call(module, 1.0, 1)], 2, 0, widths=(4, 1))
    assert module.seen == [(4, MOST)]
    assert found.unique().item() == 2.0


def test_alone_and_in_parts_a_call_keeps_its_extras() -> None:
    module = Denoiser()
    whole = call(module, 1.0, 2)
    assert whole.run().unique().item() == 3.0
    part = whole.part(1, 2)
    assert part.widths == (2,)
    assert run_stacked([part], 1)[0].tolist() == [[3.0]]


def test_a_call_that_cannot_be_stacked_has_them_too() -> None:
    module = Denoiser()
    extra = Extra((torch.ones(2, MOST),), 3)

    def called(sample: torch.Tensor, extras: tuple[Any, ...], **_: Any) -> torch.Tensor:
        return module(sample, extras)

    alone = Call.of(called, (torch.ones(2, 1),), {"x": {}}, (extra,))
    assert alone.group is not None
    unlike = Call.of(called, (torch.ones(2, 1),), {"x": {1}}, (extra,))
    assert unlike.group is None
    assert unlike.run().unique().item() == 4.0


def test_widths_end_with_the_last_that_is_not_zero() -> None:
    module = Denoiser()
    assert shortest([0, 0]) == ()
    assert shortest([2, 0, 1, 0]) == (2, 0, 1)
    assert widest([call(module, 1.0), call(module, 1.0, 1), call(module, 1.0, 0, 3)]) == (1, 3)


def test_other_tensors_are_put_into_extras() -> None:
    extra = Extra((torch.ones(1, 2),), 2).changed(lambda tensor: tensor * 3)
    assert (extra.width, extra.tensors[0].tolist()) == (2, [[3.0, 3.0]])


@pytest.mark.parametrize("record", ["8:2@4", "8:2@4.0.1", "28x8:2@1 2x4:0", "1:0:1@2+1:0:1@2", "3x8:2 8:2@1"])
def test_widths_are_recorded_and_read(record: str) -> None:
    script, written = Script(record), Placements()
    while places := script.next(2):
        written.add(places)
    assert str(written) == record


def test_places_of_other_widths_are_other_places() -> None:
    written = Placements()
    for widths in ((), (), (4,), (4,), (4, 0, 1)):
        written.add((Place(8, 2, 2, widths),))
    assert str(written) == "2x8:2 2x8:2@4 8:2@4.0.1"


@pytest.mark.parametrize("record", ["8:2@", "8:2@4.", "8:2@x", "8:2@-1", "8:2@1.2.3.4.5.6.7.8.9", "8:2@4@4", "@4"])
def test_what_is_no_record_is_refused(record: str) -> None:
    with pytest.raises(ValueError, match="no record"):
        Script(record)
