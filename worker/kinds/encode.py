"""Latents of a picture."""

from darkroom.tasks.requests import Encode, JobRequest
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, Tools, source_of
from darkroom.worker.kinds.products import Produced


class EncodeKind(Kind):
    """Through the VAE alone."""

    request = Encode

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """There is no prompt."""
        return PreparedJob(self, request, Asked.without_denoising(request, tools.entry), {}, [])

    def steps(self, _prepared: PreparedJob) -> int:
        """None."""
        return 0

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """The latents."""
        return Produced(files=[run.file_of(run.encode(source_of(prepared, sources)))])
