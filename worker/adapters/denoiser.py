"""The denoiser with what its rows bring: what the engine calls in place of the model's own."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from darkroom.worker.adapters.attention import StyleHolder
from darkroom.worker.adapters.bank import Asked, Bank
from darkroom.worker.models.adaptable import PARTS, adding


class AdaptedDenoiser:
    """Calls the shared denoiser; each row adds the LoRAs whose pages it names, and has its style, or none.

    One object for all images of a model, since calls are told apart by what is called.
    """

    def __init__(self, denoiser: Callable[..., Any], bank: Bank, style: StyleHolder | None = None) -> None:
        self._denoiser, self._bank, self._style = denoiser, bank, style

    def __call__(self, *args: Any, extras: Sequence[Asked | None], **kwargs: Any) -> Any:
        """As the denoiser; `extras`: pages and weights of each part of `PARTS`, then tokens and scales of a style."""
        pages, style = extras[: len(PARTS)], next(iter(extras[len(PARTS) :]), None)
        with ExitStack() as stack:
            if any(part is not None for part in pages):
                stack.enter_context(adding(list(self._bank.deltas(pages))))
            if self._style is not None and style is not None:
                stack.enter_context(self._style.given(*style))
            return self._denoiser(*args, **kwargs)
