"""Embeddings as files: made of a prompt once, and taken in its place by later jobs."""

from darkroom.storage.embeddings import open_embeddings
from darkroom.storage.errors import InputUnfit
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.products import ProducedFile
from darkroom.worker.kinds.tensors import read_tensors
from darkroom.worker.models.texts import TextSpace

ROLE = "embeddings"


def embeddings_file(conditioning: Conditioning, texts: TextSpace, *, guidance: bool) -> ProducedFile:
    """A file of the tensors that the pipelines take, in their own dtype; its metadata say whose they are."""
    shapes = {name: list(tensor.shape) for name, tensor in conditioning.items()}
    return ProducedFile.of_tensors(ROLE, conditioning, **texts.about(), shapes=shapes, guidance=guidance)


def read_embeddings(data: bytes, texts: TextSpace, *, guidance: bool) -> Conditioning:
    """The tensors of a file on the model's device, those of the negative prompt under guidance alone.

    Raises InputNotEmbeddings, InputCorrupt, and InputUnfit for those of other text encoders, of another dtype, or
    made without the guidance that the job has.
    """
    found = open_embeddings(data)
    faults = list(texts.differences(found.about, found.shapes))
    tensors = read_tensors(data)
    if not guidance:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("negative")}
    if (dtype := tensors["prompt_embeds"].dtype) != texts.dtype:
        faults.append(f"they are in {_name(dtype)}, this worker's are in {_name(texts.dtype)}")
    pooled = ("pooled_prompt_embeds",) if texts.pooled else ()
    needed = ["prompt_embeds", *pooled]
    if guidance:
        needed += [f"negative_{name}" for name in needed]
    if missing := [name for name in needed if name not in tensors]:
        why = "; they were made without guidance" if guidance and found.about.get("guidance") is False else ""
        faults.append(f"{', '.join(missing)} is missing{why}")
    elif guidance and found.shapes["prompt_embeds"] != found.shapes["negative_prompt_embeds"]:
        faults.append("those of prompt and negative prompt have not the same length")
    if faults:
        raise InputUnfit(f"the embeddings are not for this job: {'; '.join(faults)}"[:480])
    return {name: tensors[name].to(texts.device) for name in needed}


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")
