"""A picture of latents."""

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.requests import Decode, JobRequest
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, Tools, latents_of
from darkroom.worker.kinds.latents import FACTOR
from darkroom.worker.kinds.products import Produced


class DecodeKind(Kind):
    """Through the VAE alone, as the pipelines do it after the last step."""

    request = Decode

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """There is no prompt."""
        asked = Asked.without_denoising(request, tools.entry)
        return PreparedJob(self, request, asked, {}, [], space=tools.space)

    def steps(self, _prepared: PreparedJob) -> int:
        """None."""
        return 0

    def make(self, _prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """The picture."""
        latents = latents_of(sources)
        if latents is None:
            raise ValueError("decode without its latents")
        return Produced(run.decode(latents))

    def trial(self, entry: ModelEntry, width: int, height: int) -> tuple[JobRequest, Sources]:
        """Of latents that are zero."""
        request, _ = super().trial(entry, width, height)
        return request, {"image": torch.zeros(1, 4, height // FACTOR, width // FACTOR)}
