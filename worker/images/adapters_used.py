"""What a manifest says of the adapters that pictures were made with."""

from collections.abc import Iterable, Iterator

from darkroom.worker.adapters.lora import Use
from darkroom.worker.adapters.styles import Styles
from darkroom.worker.images.records import AdapterRecord, StyleRecord
from darkroom.worker.kinds.asked import Asked


def lora_records(model: str, uses: Iterable[Use]) -> Iterator[AdapterRecord]:
    """Of one model's LoRAs, each with its place among the pages of a row."""
    place = 0
    for use in uses:
        yield AdapterRecord(name=use.name, model=model, sha256=use.sha256, scale=use.scale, rank=use.rank, place=place)
        place += use.pages


def style_record(asked: Asked, styles: Styles | None) -> StyleRecord | None:
    """None where the pictures have no style."""
    if not asked.styles or styles is None:
        return None
    return StyleRecord(
        name=styles.name,
        revision=styles.revision,
        digests=dict(styles.digests),
        style_scale=asked.style_scale,
        layout_scale=asked.layout_scale,
    )
