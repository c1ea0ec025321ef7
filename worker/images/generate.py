"""From a prepared job and a seed to a picture: stock diffusers pipelines over one set of weights.

Every image has its own pipeline object, scheduler and CPU generator, all made from its seed, so an image is the same
alone, beside others, and in a job of many: to the bit in the same places of the same buckets, else but for rounding.
Model calls run on the engine's thread, the rest on the caller's.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.requests import JobRequest
from darkroom.worker.adapters.adapters import Adapters
from darkroom.worker.adapters.lora import Use
from darkroom.worker.adapters.rows import NO_ROWS, Rows
from darkroom.worker.adapters.styles import StyleWish
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.proxies import DenoiserProxy, VaeProxy
from darkroom.worker.batching.streams import used_here
from darkroom.worker.batching.threads import set_threads
from darkroom.worker.caches import Cache
from darkroom.worker.errors import AdapterIncompatible, PromptSyntax
from darkroom.worker.failures import failures_become_ours
from darkroom.worker.images.adapters_used import lora_records, style_record
from darkroom.worker.images.autoencoder import Autoencoder
from darkroom.worker.images.overflow import naming_adapters
from darkroom.worker.images.records import AdapterRecord, StyleRecord
from darkroom.worker.images.run import Making
from darkroom.worker.images.schedulers import check_schedulers, count_steps, make_scheduler
from darkroom.worker.images.steps import OnStep, Steps
from darkroom.worker.images.trial import blame
from darkroom.worker.kinds import KINDS, kind_of
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import PreparedJob, Several, Sources, in_turn
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.journal import Journal
from darkroom.worker.kinds.products import Produced
from darkroom.worker.models import weighted
from darkroom.worker.models.families.encoding import Encoded
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.models.previews import preview_jpeg
from darkroom.worker.models.scale import LatentScale, LatentSpace
from darkroom.worker.models.texts import TextSpace
from darkroom.worker.models.words import Words
from darkroom.worker.training.trainer import is_trainable


class Generator:
    """One loaded model, ready to make pictures; built once, used by any number of threads."""

    def __init__(self, model: LoadedModel, engine: Engine, adapters: Adapters | None = None) -> None:
        """`adapters`: those of another model that is made of the same weights.

        Raises ModelIncompatible where its entry names schedulers that it cannot use, or no pipeline takes it.
        """
        check_schedulers(model.entry, model.components["scheduler"])
        self.engine = engine
        self.adapters = adapters or (Adapters.of(model, engine) if model.slots else None)
        self.model = _offering(model, styles=bool(self.adapters and self.adapters.styles))
        self._beside: Mapping[str, Generator] = {}
        self.vae = VaeProxy(model.components["vae"], engine, model.placement.device)
        texts = {name: part for name, part in model.components.items() if name not in ("unet", "vae", "scheduler")}
        with blame("pipeline", model):
            self._encoding = self._pipeline(
                next(iter(model.family.pipelines)), model.entry.defaults.scheduler, 0, texts, Ticket()
            )
        self._no_texts = dict.fromkeys(texts)
        scale = LatentScale.of(self.vae.config, normalised=model.family.normalises_latents)
        self._autoencoder = Autoencoder(self.vae, self._encoding.image_processor, scale)
        self.texts = TextSpace.of(model)
        self.embeddings = Cache[Encoded]()

    @property
    def entry(self) -> ModelEntry:
        """The model's."""
        return self.model.entry

    @property
    def denoiser(self) -> Any:
        """What denoiser calls of its images are told apart by."""
        return self.adapters.denoiser if self.adapters else self.model.components["unet"]

    def prepare(self, request: JobRequest, beside: Mapping[str, "Generator"] = MappingProxyType({})) -> PreparedJob:
        """What is done once for all pieces of a resolved request: its prompts are encoded, say.

        `beside`: the models of this process by name; of those that the request names what is needed is prepared, too.
        `warnings` has `prompt_truncated` where the text encoders do not read a prompt to its end.
        Raises InvalidRequest for what this model does not do, OutOfMemory, GenerationFailed.
        """
        tools = copy(self)  # of the same parts
        tools._beside = beside
        return kind_of(request).prepare(request, tools)

    def other(self, model: str) -> "Generator":
        """Another model of this process. Raises InvalidRequest where it has none of that name."""
        if model not in self._beside:
            raise InvalidRequest([Fault("model", "not_served", f"{model} is not served beside {self.entry.name} here")])
        return self._beside[model]

    def count_tokens(self, text: str) -> int:
        """Of the text encoder that reads it in the most."""
        with self.engine.making():
            return self.engine.call(self._count_tokens, text)

    def count_steps(self, asked: Asked) -> int:
        """The denoiser calls that are left of a schedule which is cut."""
        scheduler = make_scheduler(asked.scheduler, self.model.components["scheduler"], self.entry.family, seed=0)
        cut = asked.denoising_start, asked.denoising_end
        return count_steps(scheduler, asked.num_inference_steps, asked.strength, *cut)

    def generate(
        self,
        prepared: PreparedJob,
        seed: int,
        sources: Sources,
        on_step: OnStep,
        ticket: Ticket | None = None,
        journal: Journal | None = None,
        several: Several = in_turn,
    ) -> Produced:
        """What the kind makes of this seed: a picture (RGB), files. `sources`: what it has read of the job's inputs.

        `on_step` is told after each denoiser call the step, the number of steps, and the latents (1, 4, h/8, w/8);
        what it raises ends the generation and comes out unchanged. A `ticket` of this image alone has its wishes, and
        afterwards where its denoiser calls were placed. A `journal` keeps what another attempt can go on from.
        `several`: how the piece does what can be done at the same time. Raises OutOfMemory, GenerationFailed.
        """
        set_threads(1)  # beside the engine's, every job thread would bring an OpenMP team of its own
        ticket = ticket or Ticket()
        steps = Steps(prepared.kind.steps(prepared), on_step, lambda: self.engine.leave(ticket))
        try:
            with (
                self.engine.making() if prepared.kind.waits_for_nobody else nullcontext(),
                failures_become_ours(steps.is_raised),
                naming_adapters(prepared.asked, lambda: self.used(prepared)),
                self.engine.streams.own(),
                self._rows(prepared, steps.heeding(ticket.on_wait)) as rows,
            ):
                return prepared.kind.make(
                    prepared.told(sources), sources, Making(self, seed, steps, ticket, rows, journal, several)
                )
        finally:
            self.engine.leave(ticket)
            steps.raised = None  # it holds the frames of the pipeline, and they hold this

    def preview(self, latents: torch.Tensor) -> bytes:
        """A small JPEG of latents in mid-generation, by a linear map; the VAE is not asked."""
        return preview_jpeg(latents, self.model.entry.family, self.vae.config, self.model.preview)

    def encode(self, asked: Asked, length: int = 0) -> tuple[Conditioning, list[str]]:
        """The prompts as the pipelines' keyword arguments; kept for those who ask for the same words.

        Raises InvalidRequest for what the text encoders cannot do, OutOfMemory, GenerationFailed.
        """
        if asked.prompt_embeds:
            return {}, []  # they come with the job's inputs
        words = replace(asked.words, length=length, loras=self._heard(asked))
        self._check_words(words)
        with self.engine.making(), failures_become_ours(), self.engine.streams.own():
            encoded = self.embeddings.get(words, lambda: self._encoded(words))
        return encoded.conditioning, ["prompt_truncated"] if encoded.cut else []

    def latents(
        self, pipeline: str, wish: tuple[Asked, Conditioning], run: Making, extent: Mapping[str, Any]
    ) -> torch.Tensor:
        """What a pipeline of the family leaves, not decoded."""
        asked, conditioning = wish
        used_here(conditioning)
        rows = run.rows.get(self.entry.name, NO_ROWS)
        made = self._pipeline(pipeline, asked.scheduler, run.seed, self._no_texts, run.ticket, rows)(
            **conditioning,
            **asked.conditions,
            **{"generator": run.noise, **extent},
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=asked.guidance_scale,
            callback_on_step_end=run.steps.of_pass(asked.steps),
            output_type="latent",
        )
        return made.images  # type: ignore[no-any-return]

    def styled(self, rows: Rows, wish: StyleWish) -> Rows:
        """What an image's calls bring, with a style more. Raises AdapterIncompatible, and what model calls raise."""
        if self.adapters is None or self.adapters.styles is None:
            raise AdapterIncompatible(f"{self.entry.name} has no style adapter on this worker", hint="")
        return self.adapters.styles.worn(rows, wish)

    @property
    def space(self) -> LatentSpace:
        """Whose latents are its own."""
        return LatentSpace(self.model.family.works_on or self.entry.family, self.entry.name, self._autoencoder.scale)

    @property
    def autoencoder(self) -> Autoencoder:
        """Between pictures and latents, without denoising."""
        return self._autoencoder

    def uses(self, asked: Asked) -> tuple[Use, ...]:
        """The LoRAs of a picture that is asked for, in their order: the model's own, then those of the request.

        Raises AdapterMissing, and AdapterIncompatible where this worker applies none.
        """
        own, named = self.entry.own_loras, asked.loras if asked.model == self.entry.name else ()
        if not (own or named):
            return ()
        if self.adapters is None:
            raise AdapterIncompatible(
                f"{self.entry.name} takes no LoRAs on this worker", hint="leave out the speedup fuse"
            )
        library = self.adapters.library
        models = [library.use(one.name, one.scale) for one in own]
        return (*models, *(library.use(one.name, one.scale, one.sha256, own=one.own) for one in named))

    def used(self, prepared: PreparedJob) -> Iterator[AdapterRecord]:
        """What the manifest says of the LoRAs of all models that have a part in the job's pictures."""
        for name, maker in _makers(self, prepared).items():
            yield from lora_records(name, maker.uses(prepared.asked))

    def style_used(self, prepared: PreparedJob) -> StyleRecord | None:
        """What the manifest says of the style adapter, where the job's pictures have a style."""
        return style_record(prepared.asked, self.adapters.styles if self.adapters else None)

    def _heard(self, asked: Asked) -> tuple[Use, ...]:
        """Of the LoRAs those that change what text encoders say."""
        return tuple(use for use in self.uses(asked) if use.text)

    @contextmanager
    def _rows(self, prepared: PreparedJob, check: Callable[[], None]) -> Iterator[dict[str, Rows]]:
        """In the context the job's LoRAs are in the banks; what calls of its models bring, by the models' names."""
        if not prepared.kind.steps(prepared):
            yield {}
            return
        wanted: dict[Adapters, dict[str, tuple[Use, ...]]] = {}
        for name, maker in _makers(self, prepared).items():
            if maker.adapters:
                wanted.setdefault(maker.adapters, {})[name] = maker.uses(prepared.asked)
        found: dict[str, Rows] = {}
        with ExitStack() as stack:
            for adapters in sorted(wanted, key=id):  # in one order, lest two images wait for each other
                found |= stack.enter_context(adapters.held(wanted[adapters], check))
            yield found

    def _check_words(self, words: Words) -> None:
        """Raises InvalidRequest with every fault: texts that cannot be read, no layer left of a text encoder."""
        texts = weighted.faults(words)  # here, since it takes a while and no model
        family, parts = self.model.family, self.model.components
        layers = min(parts[name].config.num_hidden_layers for name in family.encoders)
        most = layers - family.read_layer
        if words.clip_skip is not None and words.clip_skip > most:
            reason = f"{self.entry.name} has a text encoder of {layers} layers: at most {most} can be passed over"
            raise InvalidRequest([Fault("clip_skip", "too_large", reason), *texts])
        if texts:
            raise PromptSyntax(texts)

    def _encoded(self, words: Words) -> Encoded:
        found = self.engine.call(self._encode, words)
        self.engine.streams.finish()  # whoever finds it in the cache knows of no event to wait for
        return found

    def _encode(self, words: Words) -> Encoded:
        # On the engine's thread: tokenizers and text encoders are used by one at a time.
        with self.adapters.speaking(words.loras) if self.adapters else nullcontext():
            return self.model.family.encode_prompt(self._encoding, words, self.model.placement.device)

    def _count_tokens(self, text: str) -> int:
        tokenizers = (self.model.components[name] for name in self.model.family.tokenizers)
        return max(len(tokenizer(text, add_special_tokens=False, verbose=False).input_ids) for tokenizer in tokenizers)

    def _pipeline(
        self, name: str, scheduler: str, seed: int, texts: Mapping[str, Any], ticket: Ticket, rows: Rows = NO_ROWS
    ) -> Any:
        components, family = self.model.components, self.model.entry.family
        own = make_scheduler(scheduler, components["scheduler"], family, seed)
        called = self.denoiser if self.adapters else None
        unet = DenoiserProxy(components["unet"], self.engine, self.model.placement.device, ticket, called, rows)
        parts = {**texts, "unet": unet, "vae": self.vae, "scheduler": own}
        pipeline = self.model.family.pipeline(name, parts, self.model.options)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def _offering(model: LoadedModel, *, styles: bool) -> LoadedModel:
    """The model, offering what can be done as it runs here."""
    lacks = {"styles": not styles, "dataset": bool(model.entry.base) or not is_trainable(model)}
    named = {name for name, lacking in lacks.items() if lacking}
    able = [kind for kind in model.entry.kinds if not named & KINDS[kind].request.model_fields.keys()]
    return replace(model, entry=model.entry.model_copy(update={"kinds": able}))


def _makers(own: Generator, prepared: PreparedJob) -> dict[str, Generator]:
    """The models that have a part in the job's pictures, by their names."""
    others = {name: one.tools for name, one in prepared.further.items()}
    return {own.entry.name: own, **{name: one for name, one in others.items() if isinstance(one, Generator)}}
