"""The door through which foreign errors become ours."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from darkroom.worker.errors import DeviceBroken, GenerationFailed, OutOfMemory, WorkerError
from darkroom.worker.failures import failures_become_ours


def raised_for(error: BaseException) -> BaseException:
    with pytest.raises(BaseException) as raised, failures_become_ours():
        raise error
    return raised.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 79 GiB\nmore"),
        MemoryError(),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_memory_that_does_not_suffice_is_worth_another_try(error: Exception) -> None:
    ours = raised_for(error)
    assert isinstance(ours, OutOfMemory) and ours.retryable
    assert "\n" not in ours.message


def test_the_cpus_allocator_is_known_by_its_words() -> None:
    with pytest.raises(OutOfMemory, match="memory"), failures_become_ours():
        torch.empty(2**60)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_device_that_is_of_no_use_any_more_is_told_apart(error: Exception) -> None:
    ours = raised_for(error)
    assert isinstance(ours, DeviceBroken) and ours.retryable
    assert "\n" not in ours.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("shapes differ\ntensor([[0.1, 0.2]])"), "RuntimeError: shapes differ"),
        (KeyError("unet"), "KeyError: 'unet'"),
        (AssertionError(), "AssertionError"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 288),
    ],
)
def test_anything_else_failed_with_its_first_line(error: Exception, message: str) -> None:
    ours = raised_for(error)
    assert isinstance(ours, GenerationFailed) and not ours.retryable
    assert ours.message == message
    assert ours.__cause__ is error


@pytest.mark.parametrize("error", [GenerationFailed("ours"), KeyboardInterrupt(), SystemExit(1)])
def test_our_own_errors_and_the_ways_out_pass(error: BaseException) -> None:
    assert raised_for(error) is error


def test_a_callbacks_way_out_passes() -> None:
    error = RuntimeError("cancelled")
    with pytest.raises(RuntimeError) as raised, failures_become_ours(lambda found: found is error):
        raise error
    assert raised.value is error


def test_a_held_error_holds_no_tensors() -> None:
    seen: list[weakref.ref[torch.Tensor]] = []

    def call(fail: Callable[[], None]) -> None:
        tensor = torch.ones(4)
        seen.append(weakref.ref(tensor))
        fail()

    def fail() -> None:
        raise RuntimeError("broken")

    held: WorkerError | None = None
    try:
        with failures_become_ours():
            call(fail)
    except WorkerError as error:
        held = error
    gc.collect()
    assert held is not None and seen[0]() is None
