"""As many pictures in flight with LoRAs, each with its own, as without; and what a bank costs where nobody has any."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.loras.files import Which, add_lora, attention, everything, transformers, write_lora
from bench.loras.flight import (
    IN_FLIGHT,
    Job,
    flight,
    in_turn,
    job,
    picture,
    ratio,
    starter,
    with_loras,
    without_adapters,
)
from bench.table import Row
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.images.generate import Generator


@dataclass(frozen=True)
class Sort:
    """So many LoRAs of one sort; `each` of them an image. A sort without a `mark` is for comparison."""

    name: str
    about: str
    which: Which
    rank: int
    each: int = 1
    loras: int = 8
    mark: float = 0.0


SORTS = (
    Sort("usual", "rank 8, attention and feed-forward", transformers, 8, mark=0.88),
    Sort("attention", "rank 8, attention alone", attention, 8),
    Sort("wide", "rank 32, attention and feed-forward", transformers, 32),
    Sort("two", "two of rank 8, attention and feed-forward", transformers, 8, each=2),
    Sort("convolutions", "rank 8, convolutions too", everything, 8),
)


def throughput(folder: Path, rounds: int, sorts: Sequence[Sort] = SORTS, **fields: int) -> list[Row]:
    """Rounds of each sort beside rounds without, in turn, fewer where there is no mark; `fields` of all requests."""
    with starter() as (engine, load):
        model = load()
        files = {sort.name: _written(sort, folder, model.components["unet"]) for sort in sorts}

        def add(adapters: Adapters) -> None:
            for paths in files.values():
                for path in paths:
                    add_lora(adapters.library, path)

        generator, bare = with_loras(model, engine, add), without_adapters(load(), engine, model)
        none = [job(generator, **fields)] * IN_FLIGHT
        rows = []
        for sort in sorts:
            jobs = _jobs(generator, sort, **fields)
            flight(jobs)  # they are in the bank
            rows.append(_compared(sort, jobs, none, rounds if sort.mark else -(-rounds // 3)))
        rows += _idle(generator, bare, rounds, **fields)
    return rows


def _written(sort: Sort, folder: Path, denoiser: object) -> list[Path]:
    paths = [folder / f"{sort.name}-{number}.safetensors" for number in range(sort.loras)]
    return [write_lora(path, denoiser, sort.which, sort.rank, seed) for seed, path in enumerate(paths)]


def _jobs(generator: Generator, sort: Sort, **fields: int) -> list[Job]:
    """Each image with another LoRA than the one before, and of several also another one more."""
    named = [
        [f"{sort.name}-{(number + more) % sort.loras}" for more in range(sort.each)] for number in range(sort.loras)
    ]
    jobs = [job(generator, loras=[f"{name}:0.8" for name in names], **fields) for names in named]
    return [jobs[number % sort.loras] for number in range(IN_FLIGHT)]


def _compared(sort: Sort, jobs: Sequence[Job], none: Sequence[Job], rounds: int) -> Row:
    these, those = in_turn([partial(flight, jobs), partial(flight, none)], rounds)
    found, rate = ratio(those, these), IN_FLIGHT / statistics.median(these)
    what = f"{IN_FLIGHT} in flight, {sort.loras} LoRAs ({sort.about}): of the rate without"
    mark = f">= {sort.mark}" if sort.mark else ""
    return Row(what, f"{found:.3f} ({rate:.2f} /s)", mark, found >= sort.mark)


def _idle(generator: Generator, bare: Generator, rounds: int, **fields: int) -> list[Row]:
    """LoRAs are in the bank, and no picture has one."""
    with_bank, without = job(generator, **fields), job(bare, **fields)
    these, those = in_turn([partial(flight, [one] * IN_FLIGHT) for one in (with_bank, without)], 2 * rounds)
    found, equal = ratio(those, these), _equal(with_bank, without)
    what = f"{IN_FLIGHT} in flight without LoRAs, a bank full of them: of the rate of plain layers"
    return [
        Row(what, f"{found:.3f}", ">= 0.99", found >= 0.99),
        Row("their pictures are the same, bit for bit", "yes" if equal else "no", "yes", equal),
    ]


def _equal(one: Job, other: Job) -> bool:
    for seed in range(4):
        found, calls = picture(one, seed)
        if picture(other, seed, calls)[0].tobytes() != found.tobytes():
            return False
    return True
