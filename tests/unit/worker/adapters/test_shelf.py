"""Which LoRA lies on which pages, and who may hold them."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import psutil
import pytest
import torch
from hypothesis import given

from darkroom.worker.adapters.bank import Bank, Plan
from darkroom.worker.adapters.keeper import Keeper
from darkroom.worker.adapters.lora import Lora
from darkroom.worker.adapters.shelf import Shelf
from darkroom.worker.models.adaptable import adapt


def load(_: str) -> Lora:
    """Nothing, whatever the name."""
    return Lora({}, {})


def free() -> None:
    """An image that is still wanted."""


def test_what_lies_there_is_not_written_again() -> None:
    shelf = Shelf(4)
    first = shelf.take({"a": 2, "b": 1})
    again = shelf.take({"a": 2})
    assert first and again
    assert (first.fresh, again.fresh) == (("a", "b"), ())
    assert again.pages["a"] == first.pages["a"]
    assert len({*first.pages["a"], *first.pages["b"]} - {0}) == 3


def test_the_one_let_go_longest_ago_leaves_first_and_none_that_is_held() -> None:
    shelf = Shelf(3)
    for name in ("a", "b", "c"):
        assert shelf.take({name: 1})
    shelf.release(["b", "a"])
    taken = shelf.take({"d": 1})
    assert taken and taken.left == ("b",)
    shelf.release(["d"])
    both = shelf.take({"a": 1, "e": 1})
    assert both and both.left == ("d",)
    assert shelf.take({"f": 1}) is None
    shelf.release(["c"])
    found = shelf.take({"f": 1})
    assert found and found.left == ("c",)


def test_what_never_fits_is_told() -> None:
    with pytest.raises(ValueError, match="5 pages of 4"):
        Shelf(4).take({"a": 5})


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=60))
def test_pages_are_of_one_at_a_time(turns: list[tuple[str, int]]) -> None:
    """Whatever is taken and released: no page has two owners, and what is held stays where it is."""
    shelf, sizes = Shelf(7), {name: 1 + number % 4 for number, name in enumerate("abcdef")}
    held: list[tuple[str, tuple[int, ...]]] = []
    for name, which in turns:
        if which < 5:
            taken = shelf.take({name: sizes[name]})
            if taken:
                held.append((name, taken.pages[name]))
            else:
                others = {other for other, _ in held if other != name}
                assert sum(sizes[other] for other in others) + sizes[name] > shelf.size
        elif held:
            shelf.release([held.pop(which % len(held))[0]])
        lying = shelf.lying()
        pages = [page for some in lying.values() for page in some]
        assert len(pages) == len(set(pages)) and all(1 <= page <= shelf.size for page in pages)
        assert all(lying[other] == at for other, at in held)


def test_many_images_and_few_pages() -> None:
    """Each page has, as long as it is held, what was written there for its holder."""
    page_of: dict[int, int] = {}
    sizes = {f"{number}": 1 + number % 3 for number in range(9)}
    loras = {name: Lora({}, {}) for name in sizes}
    names = {id(one): name for name, one in loras.items()}

    def write(one: Lora, pages: Sequence[int]) -> None:
        page_of.update(dict.fromkeys(pages, id(one)))

    keeper = Keeper(6, write)

    def image(number: int) -> None:
        wanted = {name: sizes[name] for step in (1, 5) if (name := str((number * step) % 9))}
        with keeper.held(wanted, loras.__getitem__, free) as found:
            for name, pages in found.items():
                assert {names[page_of[page]] for page in pages} == {name}
                assert len(pages) == sizes[name]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(image, range(300)))
    stats = keeper.stats()
    assert stats.loads - stats.evictions == len(stats.lying)


def test_a_lora_that_could_not_be_written_is_written_anew() -> None:
    tries: list[int] = []

    def write(_: Lora, pages: Sequence[int]) -> None:
        tries.extend(pages)
        if len(tries) == 1:
            raise MemoryError

    keeper = Keeper(2, write)
    with pytest.raises(MemoryError), keeper.held({"a": 1}, load, free):
        pass
    assert not keeper.stats().lying
    with keeper.held({"a": 1}, load, free) as pages:
        assert pages.keys() == {"a"}
    assert len(tries) == 2


def test_what_is_forgotten_leaves_unless_it_is_held() -> None:
    keeper = Keeper(2, lambda *_: None)
    with keeper.held({"a": 1}, load, free):
        keeper.forget("a")
        assert keeper.has("a")
    keeper.forget("a")
    keeper.forget("b")
    assert not keeper.has("a") and not keeper.stats().lying
    with keeper.held({"b": 2}, load, free) as pages:
        assert pages.keys() == {"b"}


def test_who_wants_what_is_being_written_waits_for_it() -> None:
    began, gate, written = threading.Event(), threading.Event(), list[int]()

    def write(_: Lora, pages: Sequence[int]) -> None:
        began.set()
        gate.wait()
        written.extend(pages)

    keeper = Keeper(4, write)

    def image() -> bool:
        with keeper.held({"a": 1}, load, free):
            return bool(written)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(image)
        began.wait()
        second = pool.submit(image)
        gate.set()
        assert first.result() and second.result()
    assert len(written) == 1


def test_an_image_without_pages_does_not_stand_in_line() -> None:
    keeper, waits = Keeper(1, lambda *_: None), threading.Event()

    def image() -> None:
        with keeper.held({"b": 1}, load, waits.set):
            pass

    with ThreadPoolExecutor(1) as pool:
        with keeper.held({"a": 1}, load, free):
            done = pool.submit(image)
            waits.wait()
            with keeper.held({}, load, free) as pages:
                assert pages == {}
            assert not done.done()
        done.result()


def test_a_bank_on_a_host_takes_memory_as_loras_come() -> None:
    (slot,) = adapt(torch.nn.Sequential(torch.nn.Linear(1024, 1024)))
    plan = Plan([slot])
    bank = Bank(plan, 4000, torch.float32, torch.device("cpu"))
    before = psutil.Process().memory_info().rss
    sheets = {"linear": {1024: torch.ones(2, 1, 8, 1024)}}
    bank.write(sheets, [3999])
    assert bank.bytes == 2 * 4001 * 8 * 1024 * 4
    assert psutil.Process().memory_info().rss - before < bank.bytes / 4
    index, weight = torch.tensor([[3999], [0]]), torch.ones(2, 1)
    ((_, delta),) = bank.deltas((None, (index, weight), None))
    assert delta.down.sum((1, 2)).tolist() == [8 * 1024, 0]
