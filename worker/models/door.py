"""The one door through which errors of the libraries and the system come while a model is verified and loaded."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError

from darkroom.worker.errors import ModelCorrupt, ModelIncompatible, ModelMissing, OutOfMemory


@contextmanager
def one_door(name: str) -> Iterator[None]:
    """What is raised while model `name` is loaded becomes a ModelError, or OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"model {name} does not fit the device: {first_line(error)}") from error
    except SafetensorError as error:
        raise ModelCorrupt(f"model {name}: {first_line(error)}") from error
    except OSError as error:
        if error.errno is None:  # transformers and diffusers raise it for configs that they cannot use
            raise ModelIncompatible(f"model {name}: {first_line(error)}") from error
        hint = None if isinstance(error, FileNotFoundError) else "the worker must be able to read the model's files"
        raise ModelMissing(f"model {name}: {error.filename}: {error.strerror}", hint=hint) from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise ModelIncompatible(f"model {name}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The libraries write paragraphs; the first line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
