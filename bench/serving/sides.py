"""The sides by name."""

from bench.serving.darkroom_side import Adapted, DarkroomSide
from bench.serving.side import Setup, Side
from bench.serving.stock_side import StockSide

BATCH = 16
ADAPTED: tuple[Adapted, ...] = ("bank", "loras")

LABELS = {
    "stock": "(a) Celery + diffusers",
    "stock-compiled": "(a) compiled",
    "batched": "(b) batched by the client",
    "batched-compiled": "(b) compiled",
    "darkroom": "(c) Darkroom",
    "darkroom-compiled": "(c) compiled",
    "bank": "(c) with LoRAs that nobody asks for",
    "loras": "(c) a LoRA in each picture",
}


def make_side(name: str, setup: Setup) -> Side:
    """By its name in LABELS; not started."""
    kind, _, compiled = name.partition("-")
    if kind in ADAPTED:
        return DarkroomSide(name, setup, adapted=kind)
    if kind == "darkroom":
        return DarkroomSide(name, setup, compiled=bool(compiled))
    return StockSide(name, setup, batch=BATCH if kind == "batched" else 1, compiled=bool(compiled))
