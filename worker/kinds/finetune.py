"""Fine-tuning: a LoRA from some twenty pictures."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from io import BytesIO
from typing import Any

from darkroom.tasks import __version__
from darkroom.tasks.requests import Finetune, JobRequest
from darkroom.tasks.wishes import Wish
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Run, Sources, Tools
from darkroom.worker.kinds.class_images import class_images, class_requests
from darkroom.worker.kinds.products import METADATA, Produced, ProducedFile
from darkroom.worker.kinds.rehearsal import rehearsed
from darkroom.worker.kinds.samples import sample_requests, sample_warnings
from darkroom.worker.training.curve import Smooth, curve_png
from darkroom.worker.training.dataset import Dataset, read_zip
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.pace import Pace
from darkroom.worker.training.session import Session

#: Of a request, what its LoRA does not depend on, or what is nobody's business who has the file.
_NOT_OF_THE_LORA = {"tenant", "dataset", "metadata", "idempotency_key", "dry_run", "sample_prompts", "sample_every"}


@dataclass(frozen=True)
class _Prepared(PreparedJob):
    """`tokens` counts those of a caption. `class_images` are made before the training, `samples` while it goes on."""

    tokens: Callable[[str], int]
    most_tokens: int
    class_images: Sequence[JobRequest]
    samples: Sequence[JobRequest]


class FinetuneKind(Kind):
    """By steps that give way to pictures. What was kept of it is gone on from."""

    request = Finetune
    tried = False
    waits_for_nobody = False

    def prepare(self, request: JobRequest, tools: Tools) -> PreparedJob:
        """Nothing is encoded for it: captions come with the data set. Prompts of all that it paints are looked at.

        Raises InvalidRequest for those that cannot be.
        """
        assert isinstance(request, Finetune)
        asked, most = Asked.without_denoising(request, tools.entry), tools.entry.prompt_tokens
        told, tokens = list(sample_warnings(request, tools)), tools.count_tokens
        made = class_requests(request, tools), sample_requests(request, tools.entry)
        return _Prepared(self, request, asked, {}, told, tokens, most, *made, space=tools.space, texts=tools.texts)

    def read_sources(self, prepared: PreparedJob, inputs: Mapping[str, bytes], _most_pixels: int) -> Sources:
        """The data set. Raises DatasetInvalid."""
        request = prepared.request
        assert isinstance(prepared, _Prepared)
        assert isinstance(request, Finetune)
        found = read_zip(
            BytesIO(inputs["dataset"]),
            caption=request.caption,
            trigger=request.trigger,
            resolution=request.resolution or 0,
            tokens=prepared.tokens,
            most_tokens=prepared.most_tokens,
        )
        return {"dataset": found}

    def steps(self, _prepared: PreparedJob) -> int:
        """None of a schedule."""
        return 0

    def make(self, prepared: PreparedJob, sources: Sources, run: Run) -> Produced:
        """The LoRA, and the curve of its loss; of a dry run what both would take."""
        request, dataset = prepared.request, sources["dataset"]
        assert isinstance(prepared, _Prepared)
        assert isinstance(request, Finetune)
        assert isinstance(dataset, Dataset)
        drawn = {"flip": request.flip, "caption_dropout": request.caption_dropout}
        train = partial(run.training, _options(request), dataset, request.resolution or 0, **drawn)
        if request.dry_run:
            begin = partial(train, prior=dataset if prepared.class_images else None)
            about = _said_of(request, dataset, None)
            pictures = {"class_images": prepared.class_images, "samples": prepared.samples}
            return Produced(files=[rehearsed(request, run, begin, about, pictures)])
        made = class_images(prepared.class_images, run, request.recipe.num_train_steps)
        prior = made.dataset if made else None
        session = train(prior=prior)
        if kept := run.journal.kept():
            prepared.warnings.extend(session.resume(kept))
        mean = Smooth()
        for loss in session.losses:
            mean.add(loss)
        _sample(session, run, request)
        pace, said = Pace(), _said_of(request, dataset, prior)
        if kept:
            _grant(run.journal.wishes(), session, run, request, said)  # another attempt may have begun
        while session.step < session.steps:
            _advance(session, run, mean, pace)
            if session.step < session.steps:
                _keep(session, run, request, said)
            _sample(session, run, request)
        curve = ProducedFile("loss", curve_png(session.losses), extension="png")
        lora = ProducedFile("lora", session.lora(**said))
        return Produced(files=[lora, curve, *([made.file] if made else [])])


def _advance(session: Session, run: Run, mean: Smooth, pace: Pace) -> None:
    made = session.advance()
    said = {
        "loss": made.loss,
        "loss_smoothed": mean.add(made.loss),
        "learning_rate": made.learning_rate,
        **({} if made.gradient_norm is None else {"gradient_norm": made.gradient_norm}),
        **({} if made.loss_prior is None else {"loss_prior": made.loss_prior}),
        **pace.add(session.steps - made.step),
    }
    run.journal.step(made.step, session.steps, said, session.checkpoint)


def _keep(session: Session, run: Run, request: Finetune, said: Mapping[str, str]) -> None:
    """A checkpoint when it is time for one, and whatever else the job's owner wishes to have at this step."""
    wishes = run.journal.wishes()
    if wishes or session.step % request.checkpoint_every == 0:
        run.journal.keep(session.checkpoint())  # first: who goes on from it makes no other file of this step
    _grant(wishes, session, run, request, said)


def _grant(wishes: Sequence[Wish], session: Session, run: Run, request: Finetune, said: Mapping[str, str]) -> None:
    for wish in wishes:
        if wish.what == "save":
            about = {**said, "ss_steps": str(session.step)}  # sd-scripts' name for it
            run.journal.grant(wish, ProducedFile(f"snapshot_{session.step}", session.lora(**about)))
        elif wish.what == "sample":
            if request.sample_plan.first_at(session.step) is None:  # else those that are due are what is wished
                run.journal.sample(session.step, session.steps, None, session.lora, session.checkpoint)
            run.journal.grant(wish)


def _said_of(request: Finetune, dataset: Dataset, prior: Dataset | None) -> dict[str, str]:
    """The metadata of the LoRA's file."""
    about = {"version": __version__, "dataset": dataset.digest, "pictures": len(dataset.examples)}
    about |= {"class_images": prior.digest} if prior else {}
    asked = request.model_dump(mode="json", exclude=_NOT_OF_THE_LORA)
    return {METADATA: json.dumps(about | {"request": asked}, sort_keys=True)}


def _sample(session: Session, run: Run, request: Finetune) -> None:
    """Those that are due now, with the LoRA as it is."""
    first = request.sample_plan.first_at(session.step)
    if first is not None:
        run.journal.sample(session.step, session.steps, first, session.lora, session.checkpoint)


def _options(request: Finetune) -> TrainingOptions:
    recipe = request.recipe
    asked = request.model_copy(update={"min_snr_gamma": recipe.min_snr_gamma or None})
    shared = {field.name for field in fields(TrainingOptions)} & type(request).model_fields.keys()
    values: dict[str, Any] = {name: getattr(asked, name) for name in shared - {"seed"}}
    return TrainingOptions(steps=recipe.num_train_steps, seed=request.seed or 0, **values)
