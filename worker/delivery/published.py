"""The LoRA that a job has trained, as one of its tenant's own: later jobs name it."""

from datetime import UTC, datetime

from darkroom.storage import ObjectStore
from darkroom.tasks import own_versions
from darkroom.tasks.adapters import OwnLora
from darkroom.tasks.claims import Claim
from darkroom.tasks.errors import LoraNameTaken
from darkroom.tasks.requests import Finetune
from darkroom.worker.delivery.leases import LeaseKeeper
from darkroom.worker.delivery.patience import PatientStore
from darkroom.worker.delivery.results import Results
from darkroom.worker.images.generate import Generator

ROLE = "lora"


def check_name(claim: Claim, leases: LeaseKeeper) -> None:
    """Before the first step. Raises LoraNameTaken, and LeaseLost."""
    request = claim.request
    if isinstance(request, Finetune) and not request.overwrite:
        leases.persist(lambda: own_versions.check_free(request.tenant, request.name, claim.job_id))


def publish(
    claim: Claim, made: Results, generator: Generator, leases: LeaseKeeper, store: PatientStore, objects: ObjectStore
) -> None:
    """Once its files are stored; an attempt that repeats it changes nothing. Raises LoraNameTaken, and as the store."""
    request = claim.request
    if not isinstance(request, Finetune) or request.dry_run:
        return
    file = next(file for file in made.files if file.role == ROLE)
    lora = OwnLora(
        name=request.name,
        sha256=file.sha256,
        rank=request.recipe.rank,
        text=request.recipe.text_encoder,
        family=generator.entry.family,
        bytes=file.bytes,
        base=generator.entry.name,
        made=datetime.now(UTC),
        job=claim.job_id,
    )
    data, taken = store.get(file.key), request.overwrite
    try:
        store.retry(lambda: own_versions.add(leases.persist, objects, request.tenant, lora, data, overwrite=taken))
    except LoraNameTaken as error:  # while it was trained: nothing is lost
        kept = f"the LoRA is a file of the job ({file.key}): save it, and `darkroom loras add` it under another name"
        raise LoraNameTaken(error.message, hint=kept) from error
