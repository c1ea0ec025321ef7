"""Calls of a denoiser as trees of tensors: which may share a model call, and how that call is put together and divided.

A call's arguments are dicts, lists and tuples, nested as they come (SDXL's added conditions, ControlNet's residuals).
Tensors whose first dimension is that of the sample are rows, the time step is one value a row, everything else has to
be equal in all calls of a group. What a call may have or lack, and still share a model call, are its extras.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Self

import torch

from darkroom.worker.batching.extras import Extra, Widths, in_columns, shortest

Tree = tuple[tuple[Any, ...], dict[str, Any]]  # positional and named arguments
Join = Callable[[list[torch.Tensor]], torch.Tensor]
Change = Callable[[torch.Tensor], torch.Tensor]
Run = Callable[[Callable[..., Any], Tree, Hashable], Any]  # a module, its arguments, and what all such calls share

_PLAIN = (bool, int, float, str, type(None))  # what a result may hold besides tensors
_LISTS = (list, tuple)  # a union of them would be made anew at each of hundreds of questions


class _Unstackable(Exception):
    """The arguments hold something that is neither rows nor comparable."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of `module`. Calls of equal `group` may be stacked; one that has none can only run as it came.

    Where it has `extras`, the module is given them as an argument of this name: the tensors of each, or None.
    """

    module: Callable[..., Any]
    tree: Tree
    rows: int
    group: Hashable | None
    device: torch.device
    extras: tuple[Extra, ...] = ()

    @classmethod
    def of(
        cls,
        module: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        extras: tuple[Extra, ...] = (),
    ) -> Self:
        """The call `module(*args, **kwargs)`; its first tensor is the sample (rows, ...)."""
        sample = next(tensors_of([args, kwargs]), None)
        if sample is None or not sample.dim():
            return cls(module, (args, kwargs), 1, None, torch.device("cpu"), extras)
        rows = len(sample)
        tree = _with_time_steps(args, kwargs, sample)
        try:
            group = id(module), _signature(tree, rows), tuple([extra.form for extra in extras])
        except _Unstackable:
            return cls(module, (args, kwargs), rows, None, sample.device, extras)
        return cls(module, tree, rows, group, sample.device, extras)

    @property
    def widths(self) -> Widths:
        """Of its extras."""
        return shortest([extra.width for extra in self.extras])

    def run(self) -> Any:
        """The module's own result, on the arguments as they are."""
        args, kwargs = self.as_wide(self.widths)
        return self.module(*args, **kwargs)

    def as_wide(self, widths: Widths) -> Tree:
        """The arguments as the module takes them, with the extras so wide each."""
        if not self.extras:
            return self.tree
        args, kwargs = self.tree
        return args, {**kwargs, "extras": in_columns(self.extras, widths)}

    def with_rows(self, rows: int, change: Change) -> Self:
        """The same call with other tensors, of so many rows."""
        extras = tuple(extra.changed(change) for extra in self.extras)
        return replace(self, tree=changed(self.tree, change), rows=rows, extras=extras)

    def part(self, start: int, stop: int) -> Self:
        """The same call for some of its rows."""
        return self if (start, stop) == (0, self.rows) else self.with_rows(stop - start, lambda rows: rows[start:stop])


def run_plainly(module: Callable[..., Any], tree: Tree, _key: Hashable) -> Any:
    """The module's own result, in tensors that may be changed.

    On a CPU in inference mode: a small model's time is that of starting its operations, and this saves a twentieth of
    it. Elsewhere graphs save more, and hooks that bring weights to a device do not stand it.
    """
    if not next(tensors_of(tree)).is_cpu:
        return module(*tree[0], **tree[1])
    with torch.inference_mode():
        result = module(*tree[0], **tree[1])
    return changed(result, _free)


def widest(calls: Sequence[Call]) -> Widths:
    """How wide the extras are of a model call for all of these."""
    return shortest([max(column) for column in zip_longest(*(call.widths for call in calls), fillvalue=0)])


def run_stacked(
    calls: Sequence[Call], bucket: int, first: int = 0, run: Run = run_plainly, widths: Widths | None = None
) -> list[Any]:
    """One model call of `bucket` rows; each call's rows of the result (slices of one tensor), in the order of `calls`.

    The calls' rows begin at row `first`; rows of nobody are copies of the first call's first. All have one group.
    `widths` of extras: those of the widest calls, unless told otherwise.
    Raises TypeError where the result is not made of rows, and what the module raises.
    """
    wide = widest(calls) if widths is None else widths
    module, key, trees = calls[0].module, (calls[0].group, bucket, wide), [call.as_wide(wide) for call in calls]
    if len(calls) == 1 and calls[0].rows == bucket:
        return [run(module, changed(trees[0], _copied), key)]
    result = run(module, joined(trees, lambda tensors: _column(tensors, bucket, first)), key)
    found, start = [], first
    for call in calls:
        found.append(_rows_of(result, start, start + call.rows, bucket))
        start += call.rows
    return found


def concatenated(results: list[Any]) -> Any:
    """One result of a call whose rows were run in parts."""
    return results[0] if len(results) == 1 else joined(results, torch.cat)


def joined(trees: Sequence[Any], join: Join) -> Any:
    """One tree of trees of one structure: tensors joined, the rest as in the first."""
    head = trees[0]
    if isinstance(head, torch.Tensor):
        return join(list(trees))
    if isinstance(head, dict):
        return _like(head, {name: joined([tree[name] for tree in trees], join) for name in head})
    if isinstance(head, _LISTS):
        return _like(head, [joined(column, join) for column in zip(*trees, strict=True)])
    return head


def changed(tree: Any, change: Change) -> Any:
    """The tree with other tensors; its dicts and lists are new ones."""
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return _like(tree, {name: changed(child, change) for name, child in tree.items()})
    if isinstance(tree, _LISTS):
        return _like(tree, [changed(child, change) for child in tree])
    return tree


def _like(parent: Any, children: Any) -> Any:
    """The children in a parent of this one's class: of dicts, lists, named tuples, diffusers' output classes."""
    kind = type(parent)
    if kind is dict or kind is list:
        return children
    if isinstance(parent, dict):
        return kind(**children)
    return kind(*children) if hasattr(parent, "_fields") else kind(children)


def tensors_of(tree: Any) -> Iterator[torch.Tensor]:
    """All tensors, in their order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for child in tree.values():
            yield from tensors_of(child)
    elif isinstance(tree, _LISTS):
        for child in tree:
            yield from tensors_of(child)


def _with_time_steps(args: tuple[Any, ...], kwargs: dict[str, Any], sample: torch.Tensor) -> Tree:
    """The arguments with one time step a row, in float32: schedulers count in other types, denoisers embed in this.

    A step that the host knows is written by the device, where a copy of it would have to be waited for.
    """

    def per_row(step: Any) -> Any:
        if not isinstance(step, torch.Tensor) or step.numel() > 1 or step.dim() > 1:
            return step
        if step.device.type == "cpu":
            return torch.full((len(sample),), step.item(), dtype=torch.float32, device=sample.device)
        return step.reshape(1).to(sample.device, torch.float32).expand(len(sample))

    if "timestep" in kwargs:
        kwargs = {**kwargs, "timestep": per_row(kwargs["timestep"])}
    return (args if len(args) < 2 else (args[0], per_row(args[1]), *args[2:])), kwargs


def _signature(tree: Any, rows: int) -> Hashable:
    if isinstance(tree, torch.Tensor):
        shape = tree.shape
        if not shape or shape[0] != rows:
            raise _Unstackable
        return shape[1:], tree.dtype, tree.device
    if isinstance(tree, dict):
        return type(tree), tuple([(name, _signature(child, rows)) for name, child in tree.items()])
    if isinstance(tree, _LISTS):
        return type(tree), tuple([_signature(child, rows) for child in tree])
    try:
        hash(tree)
    except TypeError:
        raise _Unstackable from None
    return type(tree), tree  # with the type: 1, 1.0 and True are equal


def _column(tensors: list[torch.Tensor], bucket: int, first: int) -> torch.Tensor:
    # As a copy is: always a new tensor of one layout.
    spare, after = tensors[0][:1], bucket - first - sum(map(len, tensors))
    before, behind = ([spare.expand(count, *spare.shape[1:])] if count else [] for count in (first, after))
    return torch.cat([*before, *tensors, *behind]).contiguous()


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    # A new tensor of one layout: the bits must not depend on whose memory the rows came in.
    return tensor.clone(memory_format=torch.contiguous_format)


def _free(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy where it was made in inference mode: such must not be changed outside of it."""
    return tensor.clone() if tensor.is_inference() else tensor


def _rows_of(result: Any, start: int, stop: int, bucket: int) -> Any:
    def mine(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.dim() or len(tensor) != bucket:
            raise TypeError(f"the denoiser gave a tensor {tuple(tensor.shape)} for {bucket} rows: it cannot be divided")
        return tensor[start:stop]

    _check_plain(result)
    return changed(result, mine)


def _check_plain(result: Any) -> None:
    if isinstance(result, (dict, *_LISTS)):
        for child in result.values() if isinstance(result, dict) else result:
            _check_plain(child)
    elif not isinstance(result, (torch.Tensor, *_PLAIN)):
        raise TypeError(f"the denoiser gave a {type(result).__name__}: it cannot be divided")
