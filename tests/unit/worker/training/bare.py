"""A training as diffusers' own scripts write it, the measure of ours (its examples/dreambooth, examples/text_to_image).

Stock modules read anew from the model's folder, peft through diffusers, one loop. Ours alone are the batches, the
weights at the start, and from which generator noise and time steps come.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as nnf
from diffusers import DDPMScheduler, EDMEulerScheduler
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig

from darkroom.tasks.catalogue import FolderSource
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.trainer import Batches

TARGETS = {"unet": ["to_k", "to_q", "to_v", "to_out.0"], "text": ["q_proj", "k_proj", "v_proj", "out_proj"]}


def bare_losses(
    model: LoadedModel, asked: TrainingOptions, batches: Batches, start: Mapping[str, torch.Tensor], steps: int
) -> list[float]:
    """The loss of each step; `start`: the LoRA, by our names."""
    parts = _parts(model, asked)
    for part, module in parts.items():
        _add_lora(part, module, asked, start)
    parameters = [one for part in parts.values() for one in part.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=asked.learning_rate, weight_decay=asked.weight_decay)
    schedule = get_scheduler(
        asked.lr_schedule, optimizer, num_warmup_steps=asked.warmup_steps, num_training_steps=asked.steps
    )
    template = model.components["scheduler"]
    edm = "EDM" in type(template).__name__
    scheduler = (EDMEulerScheduler if edm else DDPMScheduler).from_config(template.config)
    losses = []
    for step in range(steps):
        total = 0.0
        for micro in range(asked.gradient_accumulation):
            batch = batches(step, micro)
            one = _edm_loss if edm else _loss
            loss = one(model, asked, parts, scheduler, batch)
            if batch.prior is not None:
                loss = loss + asked.prior_loss_weight * one(model, asked, parts, scheduler, batch.prior)
            total += loss.item() / asked.gradient_accumulation
            (loss / asked.gradient_accumulation).backward()
        torch.nn.utils.clip_grad_norm_(parameters, asked.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


def _parts(model: LoadedModel, asked: TrainingOptions) -> dict[str, Any]:
    source = model.entry.source
    assert isinstance(source, FolderSource)
    names = ["unet", *(model.family.encoders if asked.text_encoder else [])]
    parts = {name: model.family.components[name].from_pretrained(source.path / name) for name in names}
    return {name: part.requires_grad_(requires_grad=False).train() for name, part in parts.items()}


def _add_lora(part: str, module: Any, asked: TrainingOptions, start: Mapping[str, torch.Tensor]) -> None:
    targets = TARGETS["unet" if part == "unet" else "text"]
    module.add_adapter(LoraConfig(r=asked.rank, lora_alpha=asked.alpha or asked.rank, target_modules=targets))
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            named = name.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
            parameter.data.copy_(start[f"{part}.{named}"])


def _noise(batch: Batch, steps: int, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    places, noise = [], []
    for key in batch.keys:
        generator = torch.Generator().manual_seed(key)
        places.append(torch.randint(0, steps, (1,), generator=generator))
        drawn = torch.randn(batch.latents.shape[1:], generator=generator)
        if offset:
            drawn += offset * torch.randn((drawn.shape[0], 1, 1), generator=generator)
        noise.append(drawn)
    return torch.cat(places), torch.stack(noise)


def _loss(model: LoadedModel, asked: TrainingOptions, parts: Any, scheduler: Any, batch: Batch) -> torch.Tensor:
    timesteps, noise = _noise(batch, scheduler.config.num_train_timesteps, asked.noise_offset)
    noisy = scheduler.add_noise(batch.latents, noise, timesteps)
    predicted = _predict(model, parts, noisy, timesteps, batch)
    v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(batch.latents, noise, timesteps) if v else noise
    if asked.min_snr_gamma is None:
        return nnf.mse_loss(predicted, target)
    snr = compute_snr(scheduler, timesteps)  # of examples/text_to_image, where v has the weight of the paper
    weights = torch.stack([snr, asked.min_snr_gamma * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
    loss = nnf.mse_loss(predicted, target, reduction="none")
    return (loss.mean(dim=[1, 2, 3]) * weights / (snr + 1 if v else snr)).mean()


def _edm_loss(model: LoadedModel, asked: TrainingOptions, parts: Any, scheduler: Any, batch: Batch) -> torch.Tensor:
    indices, noise = _noise(batch, scheduler.config.num_train_timesteps, asked.noise_offset)
    timesteps = scheduler.timesteps[indices]
    noisy = scheduler.add_noise(batch.latents, noise, timesteps)
    places = [(scheduler.timesteps == time).nonzero().item() for time in timesteps]
    sigmas = scheduler.sigmas[places].flatten()[:, None, None, None]
    predicted = _predict(model, parts, scheduler.precondition_inputs(noisy, sigmas), timesteps, batch)
    return nnf.mse_loss(scheduler.precondition_outputs(noisy, predicted, sigmas), batch.latents)


def _predict(model: LoadedModel, parts: Any, sample: Any, timesteps: torch.Tensor, batch: Batch) -> torch.Tensor:
    if batch.conditioning is not None:
        states, pooled = batch.conditioning.states, batch.conditioning.pooled
    else:
        states, pooled = _encode(model, parts, batch.captions)
    added = None if batch.sizes is None else {"text_embeds": pooled, "time_ids": batch.sizes}
    predicted: torch.Tensor = parts["unet"](sample, timesteps, states, added_cond_kwargs=added).sample
    return predicted


def _encode(model: LoadedModel, parts: Any, captions: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As the scripts' `encode_prompt`; but an empty caption of SDXL is zeros, as its pipelines have it."""
    sides, pooled = [], None
    for tokenizer, encoder in zip(model.family.tokenizers, model.family.encoders, strict=True):
        told = model.components[tokenizer](
            list(captions), padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        found = parts[encoder](told.input_ids, output_hidden_states=True)
        if model.family.name == "sd":
            return found[0], None
        sides.append(found.hidden_states[-2])
        pooled = found[0]
    said = torch.tensor([float(bool(caption)) for caption in captions])
    assert pooled is not None
    return torch.cat(sides, dim=-1) * said[:, None, None], pooled * said[:, None]
