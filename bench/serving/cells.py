"""The cells: one load on the sides that it compares."""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["alone", "flight", "open", "gap"]
IN_FLIGHT = 16


@dataclass(frozen=True)
class Cell:
    """`count` pictures a round at most, nothing more is asked after `seconds`; all sides at once where `interleaved`.

    `share`: arrivals by this share of the capacity of the first side, which `capacity_from` found, if it was run.
    """

    name: str
    kind: Kind
    device: Literal["cpu", "cuda"]
    model: str
    sides: tuple[str, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    count: int
    rounds: int
    seconds: float
    interleaved: bool = False
    share: float = 0.0
    capacity_from: str = ""

    @property
    def in_flight(self) -> int:
        """Of a closed load."""
        return 1 if self.kind == "alone" else min(IN_FLIGHT, self.count)

    @property
    def about(self) -> str:
        """For the list."""
        sizes, steps = ("/".join(map(str, values)) for values in (self.sizes, self.steps))
        loads = {
            "alone": "one at a time, sides in turn",
            "flight": f"{IN_FLIGHT} in flight",
            "open": f"Poisson arrivals at {self.share:.0%} of (a)'s capacity",
            "gap": f"{self.in_flight} in flight, the denoiser free",
        }
        return f"{self.model} on {self.device}, {sizes} px, {steps} steps: {loads[self.kind]}"


def tiny(cell: Cell, device: Literal["cpu", "cuda"]) -> Cell:
    """The cell with a model and a load that run anywhere in seconds: to try whether it works."""
    family = "sd" if cell.model.endswith("-sd") else "sdxl"
    sizes = tuple(64 + 32 * index for index in range(len(cell.sizes)))
    steps = tuple(2 + index for index in range(len(cell.steps)))
    again = f"{cell.capacity_from}-tiny" if cell.capacity_from else ""
    return replace(
        cell, name=f"{cell.name}-tiny", model=f"tiny-{family}", device=device, sizes=sizes,
        steps=steps if cell.kind != "gap" else cell.steps, count=min(cell.count, 32), seconds=6.0,
        rounds=min(cell.rounds, 2), capacity_from=again,
    )  # fmt: skip


def _cpu() -> list[Cell]:
    base = Cell("", "flight", "cpu", "starter", ("stock", "darkroom"), (128,), (20,), 64, 1, 170.0)
    flight = replace(base, name="cpu-16", sides=("stock", "batched", "darkroom"), count=48, rounds=5, interleaved=True)
    return [
        replace(base, name="cpu-alone", kind="alone", count=5, rounds=10, interleaved=True),
        flight,
        *_open(replace(base, count=300), "cpu", "cpu-16"),
        replace(flight, name="cpu-mixed", sizes=(64, 96, 128), steps=(10, 20, 30)),
        *_gaps("cpu-gap", "cpu"),
    ]


def _gpu(name: str, model: str, sizes: tuple[int, ...], mixed: tuple[int, ...]) -> list[Cell]:
    eager, compiled = ("stock", "darkroom"), ("stock-compiled", "darkroom-compiled")
    base = Cell("", "flight", "cuda", model, eager, sizes, (30,), 128, 1, 45.0)
    cells = []
    for size in sizes:
        one, stem = replace(base, sizes=(size,)), f"{name}-{size}"
        flight = f"{stem}-16"
        cells.append(replace(one, name=f"{stem}-loras", sides=("darkroom", "bank", "loras"), rounds=3))
        cells.append(replace(one, name=flight, sides=(*eager, "batched", *compiled, "batched-compiled")))
        for suffix, pair in (("", eager), ("-compiled", compiled)):
            alone = replace(one, name=f"{stem}-alone{suffix}", kind="alone", sides=pair, count=3, rounds=8)
            cells.append(replace(alone, interleaved=True))
            cells += _open(replace(one, sides=pair, count=300, seconds=130.0), stem, flight, suffix)
    cells.append(replace(base, name=f"{name}-mixed", sides=(*eager, "batched"), sizes=mixed, steps=(20, 30, 40)))
    return cells


def _open(base: Cell, stem: str, capacity_from: str, kind: str = "") -> list[Cell]:
    return [
        replace(base, name=f"{stem}-poisson-{share}{kind}", kind="open", share=share / 100, capacity_from=capacity_from)
        for share in (50, 80, 95)
    ]


def _gaps(name: str, device: Literal["cpu", "cuda"]) -> list[Cell]:
    many = Cell(name, "gap", device, "tiny-sdxl", ("stock", "darkroom"), (512,), (10, 60), IN_FLIGHT, 5, 170.0)
    return [many, replace(many, name=f"{name}-alone", steps=(10, 140), count=1, rounds=9)]


CELLS = {
    cell.name: cell
    for cell in [
        *_cpu(),
        *_gpu("sdxl", "random-sdxl", (512, 1024), (512, 768, 1024)),
        *_gpu("sd", "random-sd", (512, 1024), (512, 640, 768)),
        *_gaps("gpu-gap", "cuda"),
    ]
}
