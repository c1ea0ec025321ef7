"""Embeddings of a prompt."""

from darkroom.tasks.requests import Embed, JobRequest
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, Tools
from darkroom.worker.kinds.embeddings import embeddings_file
from darkroom.worker.kinds.products import Produced


class EmbedKind(Kind):
    """Through the text encoders alone."""

    request = Embed

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """The prompts are encoded here, as those of any kind are."""
        asked = Asked.of_words(request, tools.entry)
        conditioning, warnings = tools.encode(asked)
        return PreparedJob(self, request, asked, conditioning, warnings, texts=tools.texts)

    def steps(self, _prepared: PreparedJob) -> int:
        """None."""
        return 0

    def make(self, prepared: PreparedJob, _sources: Sources, _run: Run) -> Produced:
        """The file."""
        if prepared.texts is None:
            raise ValueError("embed without its text encoders")
        return Produced(
            files=[embeddings_file(prepared.conditioning, prepared.texts, guidance=prepared.asked.guidance)]
        )
