"""Samples of a training: pictures of the job like any other, but for what they say of themselves."""

import json
from collections.abc import Callable, Iterable

import structlog
import torch

from darkroom.tasks.requests import Finetune
from darkroom.tasks.results import StoredImage
from darkroom.worker.adapters.own_files import OwnFiles
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.delivery.attempt import Attempt
from darkroom.worker.delivery.publisher import ProgressPublisher
from darkroom.worker.delivery.results import Made, Results
from darkroom.worker.images.generate import Generator
from darkroom.worker.images.pictures import encode
from darkroom.worker.images.records import SampleRecord
from darkroom.worker.images.sampler import Round, sampled
from darkroom.worker.kinds.products import METADATA

MOST = 256  # of a job, as of its images


class StoredSamples:
    """Makes, stores and records them, each once: what an earlier attempt has recorded is not made again."""

    def __init__(
        self, attempt: Attempt, generator: Generator, files: OwnFiles, results: Results, told: ProgressPublisher
    ) -> None:
        self._attempt, self._generator, self._files = attempt, generator, files
        self._results, self._told = results, told

    def recall(self, images: Iterable[StoredImage]) -> None:
        """What the job's record has of them."""
        self._results.recall(images)

    def make(self, step: int, of: int, first: int | None, lora: Callable[..., bytes]) -> None:
        """A round of them; `first` is the number of the first one, None: one after all others.

        `lora` gives the file, with metadata as it is asked for. Raises Stopped, and as Generator.generate and
        PatientStore.put.
        """
        training = self._attempt.claim.request
        assert isinstance(training, Finetune)
        first = self._free(training, step) if first is None else first
        there = {sample.index for sample in self._results.samples}
        missing = [at for at in range(len(training.sample_prompts)) if first + at not in there]
        if first + len(training.sample_prompts) > MOST:
            structlog.get_logger().warning("job.no_room_for_samples", job_id=self._attempt.claim.job_id, step=step)
        elif missing:
            file = lora(**{METADATA: self._about(step)})
            with sampled(self._generator, self._files, training, file) as made:
                for at in missing:
                    self._make(made, at, first + at, step, of)

    def _make(self, round_: Round, at: int, index: int, step: int, of: int) -> None:
        count, training = len(round_.training.sample_prompts), round_.training
        job_id, check = self._attempt.claim.job_id, self._attempt.check

        def on_step(*seen: object) -> None:
            latents = seen[-1]
            assert isinstance(latents, torch.Tensor)
            self._told.sampling(step, of, at + 1, count, latents)

        check()
        ticket = Ticket(urgent=False, solo=training.batching == "solo", on_wait=check)
        about = {"Sample of step": f"{step} of {of}", "Training": job_id}
        sample = round_.make(at, on_step, ticket, **about)
        data, _ = encode(sample.image, "png", sample.text)
        self._results.keep(
            Made(SampleRecord.of(job_id, index, step, sample.prompt, sample.seed, sample.image, data), data)
        )

    def _free(self, training: Finetune, step: int) -> int:
        """Where a round that nobody planned begins: that of this step which another attempt began, or one after all."""
        size, planned = len(training.sample_prompts), training.sample_plan.count
        wished = [sample for sample in self._results.samples if sample.index >= planned]
        if not wished:
            return planned
        newest = max(wished, key=lambda sample: sample.index)
        begins = newest.index - (newest.index - planned) % size
        return begins if newest.step == step else begins + size

    def _about(self, step: int) -> str:
        """Makes the file one of its own, so that its digest is no other LoRA's."""
        return json.dumps({"sample_of": self._attempt.claim.job_id, "step": step}, sort_keys=True)
