"""The stock worker: a Celery task around a diffusers pipeline that stays loaded, as its documentation teaches.

Started as `celery -A bench.serving.stock worker`; what to load stands in the variable BENCH_STOCK.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from pydantic import BaseModel, ConfigDict

TASK, DONE = "stock.paint", "stock:done"
VARIABLE = "BENCH_STOCK"


class Wish(BaseModel):
    """What the worker loads and where it leaves pictures; `compile` is a mode of torch.compile, empty for eager."""

    model_config = ConfigDict(frozen=True)

    redis_url: str
    pictures: Path
    folder: Path
    variant: str | None
    device: str
    dtype: str
    guidance: float
    compile: str = ""
    free: bool = False


app = Celery("stock")
app.conf.update(
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
)


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def paint(token: str, asks: list[dict[str, Any]]) -> None:
    """One call of the pipeline for asks of one shape; says on a list that it is done, or why it is not."""
    try:
        _paint(token, asks)
        error = None
    except Exception as raised:  # noqa: BLE001 - the client has to hear of it
        error = repr(raised)
    _client().rpush(DONE, json.dumps([token, error]))


def _paint(token: str, asks: list[dict[str, Any]]) -> None:
    import torch

    first = asks[0]
    made = _pipeline()(
        prompt=[ask["prompt"] for ask in asks],
        width=first["width"],
        height=first["height"],
        num_inference_steps=first["steps"],
        guidance_scale=_wish().guidance,
        generator=[torch.Generator("cpu").manual_seed(ask["seed"]) for ask in asks],
    )
    for index, picture in enumerate(made.images):
        picture.save(_wish().pictures / f"{token}-{index}.png")


@cache
def _wish() -> Wish:
    return Wish.model_validate_json(os.environ[VARIABLE])


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(_wish().redis_url)


@cache
def _pipeline() -> Any:
    """Loaded by the first task, in the process that runs tasks: CUDA does not stand being forked."""
    import torch
    from diffusers import DiffusionPipeline

    wish = _wish()
    if wish.free:
        from bench.serving.free import free_denoiser

        free_denoiser()
    loaded = DiffusionPipeline.from_pretrained(
        wish.folder, variant=wish.variant, torch_dtype=getattr(torch, wish.dtype), local_files_only=True
    ).to(wish.device)
    loaded.set_progress_bar_config(disable=True)
    loaded.vae.enable_slicing()  # one picture at a time is decoded: nothing for one, memory for many
    if wish.compile:
        loaded.unet.to(memory_format=torch.channels_last)
        loaded.unet.compile(mode=wish.compile, fullgraph=True, dynamic=False)  # each size gets kernels of its own
    return loaded
