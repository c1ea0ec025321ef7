"""From a prepared job and a seed to a picture: stock diffusers pipelines over one set of weights.

Every image has its own pipeline object, scheduler and CPU generator, all made from its seed, so an image is the same
alone, beside others, and in a job of many: to the bit in the same places of the same buckets, else but for rounding.
Model calls run on the engine's thread, the rest on the caller's.
"""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image

from darkroom.tasks.catalogue import ModelEntry
from darkroom.tasks.errors import Fault, InvalidRequest
from darkroom.tasks.requests import JobRequest
from darkroom.worker.batching.engine import Engine
from darkroom.worker.batching.placements import Ticket
from darkroom.worker.batching.proxies import DenoiserProxy, VaeProxy
from darkroom.worker.batching.stacking import Call
from darkroom.worker.batching.streams import used_here
from darkroom.worker.batching.threads import set_threads
from darkroom.worker.batching.warming import warm_buckets
from darkroom.worker.caches import Cache
from darkroom.worker.errors import PromptSyntax
from darkroom.worker.failures import failures_become_ours
from darkroom.worker.images.autoencoder import Autoencoder
from darkroom.worker.images.schedulers import check_schedulers, count_steps, make_scheduler
from darkroom.worker.images.steps import OnStep, Steps
from darkroom.worker.images.trial import blame, check_steps
from darkroom.worker.kinds import KINDS, kind_of
from darkroom.worker.kinds.asked import Asked
from darkroom.worker.kinds.base import Kind, PreparedJob, Sources, Tools
from darkroom.worker.kinds.conditioning import Conditioning
from darkroom.worker.kinds.latents import latents_file
from darkroom.worker.kinds.products import Produced, ProducedFile
from darkroom.worker.models import weighted
from darkroom.worker.models.families.encoding import Encoded
from darkroom.worker.models.loading import LoadedModel, warm_sizes
from darkroom.worker.models.previews import preview_jpeg
from darkroom.worker.models.scale import LatentScale, LatentSpace
from darkroom.worker.models.texts import TextSpace
from darkroom.worker.models.words import Words

WARM_SECONDS = 10.0  # on a CPU, for buckets; the costs of what is not measured by then show in service
SOON = 20  # steps


class Generator:
    """One loaded model, ready to make pictures; built once, used by any number of threads."""

    def __init__(self, model: LoadedModel, engine: Engine) -> None:
        """Raises ModelIncompatible where its entry names schedulers that it cannot use, or no pipeline takes it."""
        check_schedulers(model.entry, model.components["scheduler"])
        self.model = model
        self._beside: Mapping[str, Generator] = {}
        self._engine = engine
        self._vae = VaeProxy(model.components["vae"], engine, model.placement.device)
        texts = {name: part for name, part in model.components.items() if name not in ("unet", "vae", "scheduler")}
        with blame("pipeline", model):
            self._encoding = self._pipeline(
                next(iter(model.family.pipelines)), model.entry.defaults.scheduler, 0, texts, Ticket()
            )
        self._no_texts = dict.fromkeys(texts)
        scale = LatentScale.of(self._vae.config, normalised=model.family.normalises_latents)
        self._autoencoder = Autoencoder(self._vae, self._encoding.image_processor, scale)
        self.texts = TextSpace.of(model)
        self.embeddings = Cache[Encoded]()

    @property
    def entry(self) -> ModelEntry:
        """The model's."""
        return self.model.entry

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
    ) -> Produced:
        """What the kind makes of this seed: a picture (RGB), files. `sources`: what it has read of the job's inputs.

        `on_step` is told after each denoiser call the step, the number of steps, and the latents (1, 4, h/8, w/8);
        what it raises ends the generation and comes out unchanged. A `ticket` of this image alone has its wishes, and
        afterwards where its denoiser calls were placed. Raises OutOfMemory, GenerationFailed.
        """
        set_threads(1)  # beside the engine's, every job thread would bring an OpenMP team of its own
        ticket = ticket or Ticket()
        steps = Steps(prepared.kind.steps(prepared), on_step, lambda: self._engine.leave(ticket))
        try:
            with failures_become_ours(steps.is_raised), self._engine.streams.own():
                return prepared.kind.make(prepared.told(sources), sources, _Run(self, seed, steps, ticket))
        finally:
            self._engine.leave(ticket)
            steps.raised = None  # it holds the frames of the pipeline, and they hold this

    def preview(self, latents: torch.Tensor) -> bytes:
        """A small JPEG of latents in mid-generation, by a linear map; the VAE is not asked."""
        return preview_jpeg(latents, self.model.entry.family, self._vae.config, self.model.preview)

    def warm(self, most_seconds: float = WARM_SECONDS) -> None:
        """Two steps of every kind, so that the first job pays nothing, and the denoiser in every bucket.

        First of all a check of the model's parts; raises ModelIncompatible, OutOfMemory, DeviceBroken.

        On a CPU at the smallest size, then at the first one to be ready for if that is soon done, and for so long at
        most; elsewhere, and where calls are compiled, at all of those.
        """
        entry, placement = self.model.entry, self.model.placement
        sizes = warm_sizes(entry, placement)
        small = (entry.limits.min_side,) * 2
        first = self._check(*small)
        if first is None:
            return  # nothing that is offered denoises
        with blame("unet", self.model):
            if placement.device.type != "cpu" or "compile" in placement.speedups:
                for size in sizes:
                    first = self._try_all(*size) or first
                    warm_buckets(self._engine, first, math.inf)
                return
            if self._engine.stats().step * math.prod(sizes[0]) / math.prod(small) * SOON < most_seconds:
                first = self._try(self._kinds()[0], *sizes[0]) or first
            warm_buckets(self._engine, first, most_seconds)

    def encode(self, asked: Asked, length: int = 0) -> tuple[Conditioning, list[str]]:
        """The prompts as the pipelines' keyword arguments; kept for those who ask for the same words.

        Raises InvalidRequest for what the text encoders cannot do, OutOfMemory, GenerationFailed.
        """
        if asked.prompt_embeds:
            return {}, []  # they come with the job's inputs
        words = replace(asked.words, length=length)
        self._check_words(words)
        with failures_become_ours(), self._engine.streams.own():
            encoded = self.embeddings.get(words, lambda: self._encoded(words))
        return encoded.conditioning, ["prompt_truncated"] if encoded.cut else []

    def latents(
        self, pipeline: str, wish: tuple[Asked, Conditioning], run: "_Run", extent: Mapping[str, Any]
    ) -> torch.Tensor:
        """What a pipeline of the family leaves, not decoded."""
        asked, conditioning = wish
        used_here(conditioning)
        made = self._pipeline(pipeline, asked.scheduler, run.seed, self._no_texts, run.ticket)(
            **conditioning,
            **asked.conditions,
            **{"generator": run.noise, **extent},
            num_inference_steps=asked.num_inference_steps,
            guidance_scale=asked.guidance_scale,
            callback_on_step_end=run.steps.of_pass(asked.steps),
            output_type="latent",
        )
        return made.images  # type: ignore[no-any-return]

    @property
    def space(self) -> LatentSpace:
        """Whose latents are its own."""
        return LatentSpace(self.model.family.works_on or self.entry.family, self.entry.name, self._autoencoder.scale)

    @property
    def autoencoder(self) -> Autoencoder:
        """Between pictures and latents, without denoising."""
        return self._autoencoder

    def _kinds(self) -> list[Kind]:
        """Those that the model's entry offers."""
        return [KINDS[name] for name in self.model.entry.kinds]

    def _check(self, width: int, height: int) -> Call | None:
        """A picture of every kind, part by part: the model's files are at fault where one is not to be had.

        The first denoiser call, if any kind denoises. Raises ModelIncompatible naming the part, OutOfMemory,
        DeviceBroken.
        """
        model, scheduler = self.model, self.model.components["scheduler"]
        with blame("scheduler", model):
            check_steps(model.entry, scheduler)
        with blame("text_encoder", model) as part:
            request, _ = self._kinds()[0].trial(model.entry, width, height)
            part.gave(*self.prepare(request).conditioning.values())
        with blame("vae", model) as part, self._engine.streams.own(), torch.no_grad():
            latents = self._vae.encode(torch.zeros(1, 3, height, width)).latent_dist.mode()
            part.gave(latents, self._vae.decode(latents, return_dict=False)[0])
        with blame("unet", model) as part:
            return self._try_all(width, height, lambda *of: part.gave(of[2]))

    def _try_all(self, width: int, height: int, on_step: OnStep = lambda *_: None) -> Call | None:
        """Two steps of every kind; the first denoiser call."""
        calls = [self._try(kind, width, height, on_step) for kind in self._kinds()]
        return next((call for call in calls if call), None)

    def _try(self, kind: Kind, width: int, height: int, on_step: OnStep = lambda *_: None) -> Call | None:
        """Two steps of a picture of this size; its first denoiser call, if it has any."""
        calls: list[Call] = []
        request, sources = kind.trial(self.model.entry, width, height)
        self.generate(self.prepare(request), 0, sources, on_step, Ticket(on_call=calls.append))
        return calls[0] if calls else None

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
        found = self._engine.call(self._encode, words)
        self._engine.streams.finish()  # whoever finds it in the cache knows of no event to wait for
        return found

    def _encode(self, words: Words) -> Encoded:
        # On the engine's thread: tokenizers and text encoders are used by one at a time.
        return self.model.family.encode_prompt(self._encoding, words, self.model.placement.device)

    def _pipeline(self, name: str, scheduler: str, seed: int, texts: Mapping[str, Any], ticket: Ticket) -> Any:
        components, family = self.model.components, self.model.entry.family
        own = make_scheduler(scheduler, components["scheduler"], family, seed)
        unet = DenoiserProxy(components["unet"], self._engine, self.model.placement.device, ticket)
        parts = {**texts, "unet": unet, "vae": self._vae, "scheduler": own}
        pipeline = self.model.family.pipeline(name, parts, self.model.options)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


class _Run:
    """One piece in the making: `darkroom.worker.kinds.base.Run`.

    `noise` draws what all of its passes begin with, one after the other.
    """

    def __init__(self, generator: Generator, seed: int, steps: Steps, ticket: Ticket) -> None:
        self._generator, self.seed, self.steps, self.ticket = generator, seed, steps, ticket
        self.noise = torch.Generator("cpu").manual_seed(seed)

    def latents(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> torch.Tensor:
        return self._generator.latents(pipeline, (asked, conditioning), self, extent)

    def by(self, tools: Tools) -> "_Run":
        if not isinstance(tools, Generator):
            raise TypeError(f"{type(tools).__name__} makes no pictures")
        run = copy(self)
        run._generator = tools
        return run

    def denoise(self, pipeline: str, asked: Asked, conditioning: Conditioning, **extent: Any) -> Image.Image:
        return self.decode(self.latents(pipeline, asked, conditioning, **extent))

    def decode(self, latents: torch.Tensor) -> Image.Image:
        return self._generator.autoencoder.picture(latents)

    def encode(self, picture: Image.Image) -> torch.Tensor:
        return self._generator.autoencoder.latents(picture, self._generator.model.placement.dtype)

    def file_of(self, latents: torch.Tensor, **about: object) -> ProducedFile:
        return latents_file(latents, self._generator.space, **about)

    def round_trip(self, picture: Image.Image) -> Image.Image:
        return self._generator.autoencoder.round_trip(picture)
