"""Numbers that overflow while a picture is made: where it has LoRAs or a style, they may be why."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from darkroom.worker.batching.proxies import NotFinite
from darkroom.worker.images.records import AdapterRecord
from darkroom.worker.kinds.asked import Asked


@contextmanager
def naming_adapters(asked: Asked, loras: Callable[[], Iterable[AdapterRecord]]) -> Iterator[None]:
    """NotFinite names what the picture had of adapters, with their scales."""
    try:
        yield
    except NotFinite as error:
        named = [f"LoRA {one.name} at {one.scale:g}" for one in loras()]
        if asked.styles:
            named.append(f"a style at style_scale {asked.style_scale:g}, layout_scale {asked.layout_scale:g}")
        if not named:
            raise
        hint = f"lower these scales, or leave out what they are of; if it fails without it, {error.hint}"
        raise NotFinite(f"{error.message}, with {', '.join(named)}", hint=hint) from error
