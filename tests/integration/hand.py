"""A worker's hand that runs no model: what a worker does to records, done step by step."""

from darkroom.tasks import JobResult, StoredFile, StoredImage, TaskSettings, claims
from darkroom.tasks.catalogue import ModelOffer, builtin_catalogue
from darkroom.tasks.claims import Claim, Refusal
from darkroom.tasks.redis_io import BlockingIO, Operation, command

TTL = 600
RULES = TaskSettings(record_ttl=TTL)
RESULT = JobResult(manifest="j/manifest.json", timings={"generate": 0.5})


def _time() -> Operation[tuple[bytes, bytes]]:
    return (yield command("TIME"))


class Hand:
    """What a worker does to records. Leases last a minute unless told otherwise."""

    def __init__(self, io: BlockingIO) -> None:
        self.io = io

    def serve(self, name: str = "sdxl") -> ModelOffer:
        """Says that a worker serves the model."""
        offer = builtin_catalogue()["sdxl"].offer().model_copy(update={"name": name})
        self.io.run(claims.serve("w", {}, 60, [offer]))
        return offer

    def now(self) -> int:
        """Milliseconds of the server's clock."""
        seconds, micros = self.io.run(_time())
        return int(seconds) * 1000 + int(micros) // 1000

    def claim(self, job_id: str, lease: float = 60) -> Claim:
        found = self.io.run(claims.claim(job_id, "w", lease, RULES))
        assert isinstance(found, Claim), found
        return found

    def refused(self, job_id: str) -> str:
        found = self.io.run(claims.claim(job_id, "w", 60, RULES))
        assert isinstance(found, Refusal), found
        return found.reason

    def succeed(self, held: Claim) -> bool:
        return self.io.run(claims.succeed(held, RESULT, [], RULES))

    def picture(self, held: Claim, index: int = 0) -> StoredImage:
        """Records a picture that nobody made."""
        stored = StoredImage(
            index=index, key=f"{held.job_id}/{index}-0123456789abcdef.png", seed=index, width=64, height=64,
            sha256="a" * 64, bytes=9, content_type="image/png",
        )  # fmt: skip
        self.io.run(claims.image(held, stored))
        return stored

    def file(self, held: Claim, role: str = "latents", index: int | None = 0) -> StoredFile:
        """Records a file that nobody made."""
        place = role if index is None else f"{role}-{index}"
        stored = StoredFile(
            role=role, index=index, key=f"{held.job_id}/{place}-0123456789abcdef.safetensors",
            sha256="a" * 64, bytes=4, content_type="application/octet-stream",
        )  # fmt: skip
        self.io.run(claims.file(held, stored))
        return stored

    def run(self, job_id: str) -> None:
        """A whole job: started, one step, one picture, done."""
        held = self.claim(job_id)
        self.io.run(claims.progress(held, {"image": 0, "step": 1, "of": 1, "preview": False}, None))
        self.picture(held)
        assert self.succeed(held)
