"""Pictures that a training makes, as what they are beside it: jobs of a prompt; its samples, which have its LoRA."""

from collections.abc import Iterator, Sequence

from darkroom.tasks.catalogue import ModelOffer
from darkroom.tasks.requests import Finetune, JobRequest, Txt2Img
from darkroom.tasks.validate import resolve
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Tools


def sample_request(training: Finetune, prompt: int, offer: ModelOffer, *loras: str) -> Txt2Img:
    """The job that would make this sample, its prompt by its place. Raises as `picture_request`."""
    seed = training.sample_plan.seed_of(prompt)
    return picture_request(training, training.sample_prompts[prompt], seed, offer, *loras)


def picture_request(training: Finetune, prompt: str, seed: int, offer: ModelOffer, *loras: str) -> Txt2Img:
    """The job that would make a picture of a prompt beside a training: all that is not said is the model's default.

    Raises InvalidRequest for what the model does not do.
    """
    wish = {
        "kind": "txt2img",
        "model": offer.name,
        "prompt": prompt,
        "seed": seed,
        "width": training.resolution,
        "height": training.resolution,
        "batching": training.batching,
        "tenant": training.tenant,
        "loras": [{"name": name} for name in loras],
    }
    found = resolve(wish, {offer.name: offer}, lambda: None).filled
    assert isinstance(found, Txt2Img)
    return found


def sample_requests(training: Finetune, offer: ModelOffer) -> Sequence[JobRequest]:
    """Of all samples that are planned, in their order, without the LoRA. Raises InvalidRequest."""
    plan = training.sample_plan
    return [sample_request(training, prompt, offer) for prompt in range(len(plan.prompts))] * plan.rounds


def sample_warnings(training: Finetune, tools: Tools) -> Iterator[str]:
    """Of the prompts, which are read before the first step. Raises InvalidRequest for one that cannot be."""
    for prompt in range(len(training.sample_prompts)):
        asked = Asked.of(sample_request(training, prompt, tools.entry), tools.entry)
        yield from tools.encode(asked)[1]
