"""The stock side's client and process."""

import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import redis
from celery import Celery
from PIL import Image

from bench.serving import stock
from bench.serving.asks import Ask
from bench.serving.side import Side

COMPILE_MODE = "reduce-overhead"  # with CUDA graphs: the strongest of the modes that compile within minutes


class StockSide(Side):
    """A Celery prefork worker of one process around a diffusers pipeline."""

    def submit(self, asks: Sequence[Ask]) -> str:
        token = uuid.uuid4().hex
        self._app.send_task(stock.TASK, (token, [asdict(ask) for ask in asks]), ignore_result=True)
        return token

    def picture(self, token: str) -> Image.Image:
        return Image.open(self._folder / "pictures" / f"{token}-0.png")

    def _command(self) -> list[str]:
        options = ["-P", "prefork", "-c", "1", "--loglevel", "warning"]
        return [sys.executable, "-m", "celery", "-A", "bench.serving.stock", "-b", self._url, "worker", *options]

    def _environment(self) -> dict[str, str]:
        model, pictures = self._setup.model, self._folder / "pictures"
        pictures.mkdir()
        wish = stock.Wish(
            redis_url=self._url,
            pictures=pictures,
            folder=model.folder,
            variant=model.variant,
            device=model.device,
            dtype=model.dtype,
            guidance=model.entry.defaults.guidance_scale,
            compile=COMPILE_MODE if self._compiled else "",
            free=self._setup.free,
        )
        return {**self._base(), stock.VARIABLE: wish.model_dump_json()}

    def _connect(self) -> None:
        self._app = Celery("client", broker=self._url, set_as_current=False)
        self._client = redis.Redis.from_url(self._url)

    def _done(self) -> Iterator[tuple[str, str | None]]:
        while not self._closed:
            found = self._client.blpop([stock.DONE], timeout=1)
            if found:
                token, error = json.loads(found[1])
                yield token, error

    def _close(self) -> None:
        self._closed = True
        self._app.close()
        self._client.close()
