"""Which calls fit together, how they are stacked and padded, and whose rows come back to whom."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from darkroom.worker.batching.stacking import Call, concatenated, run_stacked

Tree = dict[str, Any]


def rows(count: int, *shape: int, first: float = 0) -> torch.Tensor:
    """Row i holds first + i everywhere."""
    return (first + torch.arange(count)).view(-1, *[1] * len(shape)).expand(count, *shape).float()


def call(module: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return Call.of(module, args, kwargs)


class Seen:
    """A denoiser that keeps what it was given and gives its sample back."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs = args, kwargs
        return (args[0],)


def sdxl(count: int, first: float = 0, step: Any = 7) -> tuple[tuple[Any, ...], Tree]:
    """A call as SDXL's pipeline makes it, with ControlNet's residuals and IP-Adapter's embeddings."""
    args = (rows(count, 4, 2, 2, first=first), torch.tensor(step))
    return args, {
        "encoder_hidden_states": rows(count, 3, 5, first=first),
        "timestep_cond": None,
        "cross_attention_kwargs": {"scale": 0.5},
        "added_cond_kwargs": {
            "text_embeds": rows(count, 6, first=first),
            "time_ids": rows(count, 6, first=first),
            "image_embeds": [rows(count, 1, 5, first=first), [rows(count, 2, 5, first=first)]],
        },
        "down_block_additional_residuals": [rows(count, 8, size, size, first=first) for size in (2, 1)],
        "mid_block_additional_residual": rows(count, 8, 1, 1, first=first),
        "return_dict": False,
    }


def leaves(tree: Any) -> list[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return [tree]
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [leaf for child in children for leaf in leaves(child)]


def test_nested_arguments_are_stacked_row_by_row_and_padded_with_the_first() -> None:
    seen = Seen()
    calls = [Call.of(seen, *sdxl(count, first)) for count, first in ((2, 10), (1, 20), (2, 30))]
    assert len({one.group for one in calls}) == 1
    found = run_stacked(calls, 8, first=1)
    want = torch.tensor([10.0, 10, 11, 20, 30, 31, 10, 10])
    stacked = [leaf for leaf in leaves([seen.args, seen.kwargs]) if leaf is not seen.args[1]]
    assert len(stacked) == 9
    assert all(torch.equal(leaf.flatten(1)[:, 0], want) and leaf.is_contiguous() for leaf in stacked)
    assert seen.kwargs["cross_attention_kwargs"] == {"scale": 0.5} and seen.kwargs["timestep_cond"] is None
    assert type(seen.kwargs["added_cond_kwargs"]["image_embeds"]) is list
    assert [one[0].flatten(1)[:, 0].tolist() for one in found] == [[10, 11], [20], [30, 31]]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
def test_the_time_step_is_one_value_a_row_whatever_type_the_scheduler_counts_in(dtype: torch.dtype) -> None:
    seen = Seen()
    one = call(seen, rows(2, 4), torch.tensor(999, dtype=dtype))
    other = call(seen, rows(1, 4), torch.tensor([3.25]))
    run_stacked([one, other], 4)
    assert seen.args[1].tolist() == [999, 999, 3.25, 999] and seen.args[1].dtype == torch.float32
    named = call(seen, rows(2, 4), timestep=torch.tensor(5, dtype=dtype))
    run_stacked([named], 2)
    assert seen.kwargs["timestep"].tolist() == [5, 5]


def test_a_time_step_that_has_its_rows_keeps_its_type() -> None:
    seen = Seen()
    run_stacked([call(seen, rows(2, 4), torch.tensor([1, 2], dtype=torch.int64))], 4)
    assert seen.args[1].tolist() == [1, 2, 1, 1] and seen.args[1].dtype == torch.int64


def changed(path: str, value: Any) -> Call:
    args, kwargs = sdxl(2)
    place: Any = kwargs
    *parents, last = path.split(".")
    for name in parents:
        place = place[name]
    place[last] = value
    return Call.of(Seen.__call__, args, kwargs)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("encoder_hidden_states", rows(2, 4, 5)),
        ("encoder_hidden_states", rows(2, 3, 5).double()),
        ("encoder_hidden_states", rows(2, 3, 5).to("meta")),
        ("timestep_cond", rows(2, 3)),
        ("cross_attention_kwargs", None),
        ("cross_attention_kwargs.scale", 0.25),
        ("return_dict", True),
        ("return_dict", 0),
        ("added_cond_kwargs.image_embeds", (rows(2, 1, 5), [rows(2, 2, 5)])),
        ("added_cond_kwargs.image_embeds", [rows(2, 1, 5), rows(2, 2, 5)]),
        ("added_cond_kwargs.more", rows(2, 1)),
    ],
)
def test_calls_that_differ_in_form_share_no_model_call(path: str, value: Any) -> None:
    base = Call.of(Seen.__call__, *sdxl(2))
    assert base.group == Call.of(Seen.__call__, *sdxl(5, 3, step=2.5)).group
    assert changed(path, value).group not in (None, base.group)


def test_another_module_is_another_group() -> None:
    assert Call.of(Seen(), *sdxl(2)).group != Call.of(Seen(), *sdxl(2)).group


@pytest.mark.parametrize("value", [torch.tensor(2.0), rows(3, 2), {1, 2}, [bytearray()]])
def test_what_is_neither_rows_nor_comparable_makes_a_call_go_alone_as_it_came(value: Any) -> None:
    seen = Seen()
    args, kwargs = (rows(2, 4), torch.tensor(3)), {"odd": value}
    alone = Call.of(seen, args, kwargs)
    assert (alone.group, alone.rows) == (None, 2)
    alone.run()
    assert seen.args[1] is args[1] and seen.kwargs["odd"] is value


def test_a_call_without_any_tensor_goes_alone() -> None:
    assert call(Seen(), 1, 2).group is None
    assert call(Seen(), torch.tensor(1.0)).group is None


class Pair(NamedTuple):
    """A result of two."""

    first: torch.Tensor
    second: torch.Tensor


@pytest.mark.parametrize(
    "result",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: [x, (x * 2, None)],
        lambda x: {"sample": x, "said": "so"},
        lambda x: UNet2DConditionOutput(sample=x),
        lambda x: Pair(x, x + 1),
    ],
    ids=["tensor", "tuple", "nested", "dict", "output", "named"],
)
def test_results_come_back_in_their_own_form(result: Callable[[torch.Tensor], Any]) -> None:
    first, second = run_stacked([call(result, rows(2, 3)), call(result, rows(1, 3, first=5))], 4)
    whole = result(torch.cat([rows(2, 3), rows(1, 3, first=5)]))
    assert type(first) is type(second) is type(whole)
    again = concatenated([first, second])
    assert type(again) is type(whole)
    pairs = list(zip(leaves(list(again) if isinstance(again, Pair) else again), leaves(whole), strict=True))
    assert pairs and all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("result", [lambda x: x[:1], lambda x: x.sum(), lambda x: (x, object())])
def test_a_result_that_is_not_made_of_rows_is_no_result_of_many(result: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be divided"):
        run_stacked([call(result, rows(2, 3))] * 2, 4)
    run_stacked([call(result, rows(2, 3))], 2)  # one caller gets whatever it is


def test_a_caller_writes_into_its_own_rows_only() -> None:
    one, other = run_stacked([call(torch.clone, rows(2, 3)), call(torch.clone, rows(2, 3))], 4)
    one.fill_(9)
    assert torch.equal(other, rows(2, 3))


def test_the_callers_tensors_are_not_the_models() -> None:
    mine = rows(2, 3).contiguous()
    run_stacked([call(lambda x: x.fill_(0), mine)], 2)
    assert torch.equal(mine, rows(2, 3))


def test_a_part_has_some_of_the_rows_of_everything() -> None:
    seen = Seen()
    whole = Call.of(seen, *sdxl(4, 10))
    parts = [whole.part(0, 3), whole.part(3, 4)]
    assert [part.rows for part in parts] == [3, 1] and {part.group for part in parts} == {whole.group}
    found = [run_stacked([part], 4)[0] for part in parts]
    assert concatenated(found)[0].flatten(1)[:, 0].tolist() == [10, 11, 12, 13]
    assert all(len(leaf) == 4 for leaf in leaves([seen.args, seen.kwargs]))


def test_the_rows_lie_as_new_ones_do_wherever_they_came_from() -> None:
    """Kernels are chosen by alignment and layout: the same numbers would give other bits."""
    memory = torch.arange(2 * 4 * 2 * 2 + 1.0)
    new, later = memory[:-1].view(2, 4, 2, 2), memory[1:].view(2, 4, 2, 2)
    last = new.to(memory_format=torch.channels_last)
    for sample in (new, later, last, new.transpose(2, 3), new[:1].expand(2, -1, -1, -1)):
        seen = Seen()
        run_stacked([call(seen, sample, torch.tensor(7))], 2)
        given = seen.args[0]
        assert torch.equal(given, sample) and given.data_ptr() != sample.data_ptr()
        assert given.stride() == new.stride() and given.data_ptr() % 64 == 0


def test_results_may_be_changed_wherever_they_were_made() -> None:
    modes: list[tuple[bool, bool]] = []

    def module(sample: torch.Tensor, _step: torch.Tensor) -> dict[str, Any]:
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        return {"sample": sample * 2, "more": [sample[:, :1], None]}

    with torch.no_grad():
        for count in (1, 2):  # a call that fills its bucket, and two that share one
            for result in run_stacked([call(module, rows(2, 3), torch.tensor(7.0))] * count, 2 * count):
                result["sample"].add_(1)
                result["more"][0].add_(1)
                assert not result["sample"].is_inference() and result["more"][1] is None
        run_stacked([call(module, rows(2, 3).to("meta"), torch.tensor(7.0))], 2)  # a device that is no CPU
    assert modes == [(True, False)] * 2 + [(False, False)]
