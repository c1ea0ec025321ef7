"""The stock way to serve LoRAs: a diffusers pipeline that loads and unloads one for each picture, in a process.

`python -m bench.loras.stock FOLDER` reads lists of jobs in JSON, one a line, and answers each line when they are made.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.loras.files import add_lora, transformers, write_lora
from bench.loras.flight import ENTRY, IN_FLIGHT, flight, in_turn, job, ratio, starter, with_loras
from bench.table import Row
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.models.lockfile import LOCAL
from darkroom.worker.models.places import folder_of
from darkroom.worker.settings import WorkerSettings

LORAS = 8
PROMPT = "a large red star on a blue background"


def against_stock(folder: Path, rounds: int, **fields: int) -> Row:
    """As many pictures with LoRAs as are in flight, in this process, and one by one in the stock one."""
    with starter() as (engine, load), _stock() as ask:
        model = load()
        paths = [folder / f"turn-{number}.safetensors" for number in range(LORAS)]
        for seed, path in enumerate(paths):
            write_lora(path, model.components["unet"], transformers, 8, seed)

        def add(adapters: Adapters) -> None:
            for path in paths:
                add_lora(adapters.library, path)

        generator = with_loras(model, engine, add)
        of_each = [job(generator, prompt=PROMPT, loras=[path.stem], **fields) for path in paths]
        jobs = [of_each[number % LORAS] for number in range(IN_FLIGHT)]
        asked = [_asked(number, paths, fields) for number in range(IN_FLIGHT)]
        flight(jobs)
        ask(asked[:1])
        ours, theirs = in_turn([partial(flight, jobs), partial(ask, asked)], rounds)
    found = ratio(theirs, ours)
    what = f"{IN_FLIGHT} in flight, {LORAS} LoRAs: the rate against diffusers that loads and unloads one a picture"
    return Row(what, f"{found:.2f}", ">= 2", found >= 2)


def _asked(seed: int, paths: Sequence[Path], fields: Mapping[str, int]) -> dict[str, Any]:
    defaults = ENTRY.defaults.model_dump(include={"width", "height", "num_inference_steps", "guidance_scale"})
    return {"lora": str(paths[seed % LORAS]), "seed": seed, "asked": {"prompt": PROMPT, **defaults, **fields}}


@contextmanager
def _stock() -> Iterator[Any]:
    """What asks the process, and gives the seconds until all of it was made."""
    command = [sys.executable, "-m", "bench.loras.stock", str(folder_of(ENTRY, WorkerSettings(), LOCAL))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        given, said = process.stdin, process.stdout

        def ask(jobs: Sequence[Mapping[str, Any]]) -> float:
            began = time.perf_counter()
            print(json.dumps(jobs), file=given, flush=True)
            assert said.readline() == "made\n", "the stock process ended"
            return time.perf_counter() - began

        yield ask
        given.close()


def _serve(folder: str) -> None:
    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for line in sys.stdin:
        for one in json.loads(line):
            path = Path(one["lora"])
            pipeline.load_lora_weights(path.parent, weight_name=path.name)
            assert pipeline.get_active_adapters()
            pipeline(**one["asked"], generator=torch.Generator().manual_seed(one["seed"]))
            pipeline.unload_lora_weights()
        print("made", flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
