"""Whether a worker grows: its memory after 20 jobs and after 200."""

import psutil

from bench.harness import running_worker
from bench.table import Row
from darkroom.tasks import Darkroom, Img2Img, Txt2Img

FIRST, LAST = 20, 200


def measure() -> list[Row]:
    """Resident memory of the worker process, txt2img and img2img in turn."""
    with running_worker() as running:
        worker = psutil.Process(running.process.pid)
        _run(running.client, FIRST)
        early = worker.memory_info().rss
        _run(running.client, LAST - FIRST)
        late = worker.memory_info().rss
    growth = late / early - 1
    return [
        Row(f"worker's memory after {FIRST} jobs", f"{early / 2**20:.0f} MB"),
        Row(f"worker's memory after {LAST} jobs", f"{late / 2**20:.0f} MB"),
        Row("growth", f"{growth:+.1%}", "within 3%", growth <= 0.03),
    ]


def _run(client: Darkroom, jobs: int) -> None:
    image = ""
    for i in range(jobs):
        request = Img2Img(prompt="a lake", image=image) if i % 2 and image else Txt2Img(prompt="a lake", num_images=2)
        job = client.submit(request).wait(60).raise_for_state()
        image = job.images[0].key
