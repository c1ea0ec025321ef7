"""Images of one job at the same time: order, room, fairness, failure."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from darkroom.worker.delivery.image_threads import ImageThreads


@pytest.fixture
def threads() -> Iterator[ImageThreads]:
    threads = ImageThreads(3)
    yield threads
    threads.close()


class Gate:
    """Work that stays in the making until it is let through; notes who began."""

    def __init__(self, threads: ImageThreads) -> None:
        self.threads, self.began, self.most = threads, list[str](), 0
        self._passes, self._changed = set[str](), threading.Condition()
        self._inside = 0

    def job(self, name: str, count: int, *, urgent: bool = True) -> list[str]:
        return self.threads.make(lambda index, _: self._work(f"{name}{index}"), count, urgent=urgent)

    def wait_for(self, *names: str) -> None:
        """Until these have begun, in any order."""
        with self._changed:
            assert self._changed.wait_for(lambda: set(names) <= set(self.began), 10), self.began

    def let(self, *names: str) -> None:
        with self._changed:
            self._passes |= set(names)
            self._changed.notify_all()

    def _work(self, name: str) -> str:
        with self._changed:
            self.began.append(name)
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: name in self._passes or "all" in self._passes, 10)
            self._inside -= 1
        return name


def test_images_are_begun_and_given_back_in_their_order(threads: ImageThreads) -> None:
    gate = Gate(threads)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(gate.job, "a", 6)
        gate.wait_for("a0", "a1", "a2")
        gate.let("a2")
        gate.wait_for("a3")
        assert set(gate.began) == {"a0", "a1", "a2", "a3"}
        gate.let("all")
        assert job.result() == [f"a{index}" for index in range(6)]
    assert gate.most == 3


def test_a_second_job_need_not_wait_for_room(threads: ImageThreads) -> None:
    gate = Gate(threads)
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(gate.job, "a", 9)
        gate.wait_for("a0", "a1", "a2")
        one = pool.submit(gate.job, "b", 2)
        gate.wait_for("b0")
        gate.let("b0")
        gate.wait_for("b1")  # on its own thread
        gate.let("all")
        assert (len(many.result()), one.result()) == (9, ["b0", "b1"])


def test_room_goes_to_urgent_jobs_then_to_the_one_with_the_fewest(threads: ImageThreads) -> None:
    gate = Gate(threads)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(gate.job, "a", 9, urgent=False)]
        gate.wait_for("a0", "a1", "a2")
        jobs += [pool.submit(gate.job, name, 5) for name in "bc"]
        gate.wait_for("b0", "c0")
        gate.let("a1", "a2")
        gate.let("a0")  # the job's own thread goes on with its next
        gate.wait_for("a3")
        gate.let("b0")
        gate.wait_for("b1")
        assert not {"a4", "a5"} & set(gate.began)
        gate.let("all")
        assert [len(job.result()) for job in jobs] == [9, 5, 5]


def test_others_take_no_room_from_urgent_jobs(threads: ImageThreads) -> None:
    """They stand still while urgent images are made; as many of these are made as if nothing else were there."""
    gate = Gate(threads)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(gate.job, "a", 9, urgent=False)
        gate.wait_for("a0", "a1", "a2")
        fast = pool.submit(gate.job, "b", 5)
        gate.wait_for("b0", "b1", "b2")
        gate.let("a0")  # its thread goes on, and takes no more room than it had
        gate.wait_for("a3")
        gate.let("a1")
        assert not {"b3", "b4", "a4"} & set(gate.began)
        gate.let("all")
        assert (len(slow.result()), len(fast.result())) == (9, 5)
    assert gate.most == 6


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_the_first_error_ends_the_job(threads: ImageThreads, error: BaseException) -> None:
    begun: list[int] = []

    def work(index: int, over: threading.Event) -> int:
        begun.append(index)
        if index == 1:
            raise error
        assert over.wait(10)
        raise RuntimeError("for nothing")

    with pytest.raises(type(error)) as raised:
        threads.make(work, 50)
    assert raised.value is error
    assert set(begun) == {0, 1, 2}
    assert threads.make(lambda index, _: index, 5) == [0, 1, 2, 3, 4]
    assert threads._running == 0 and threads._jobs == []


def test_without_room_a_job_has_its_own_thread() -> None:
    threads = ImageThreads(0)
    seen = threads.make(lambda _, __: threading.get_ident(), 4)
    assert set(seen) == {threading.get_ident()}
    threads.close()


def test_many_jobs_lose_no_image() -> None:
    threads = ImageThreads(5)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda count: threads.make(lambda index, _: index * count, count), range(1, 60)))
    assert jobs == [[index * count for index in range(count)] for count in range(1, 60)]
    threads.close()
