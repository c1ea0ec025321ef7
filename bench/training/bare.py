"""A training as diffusers' own scripts write it (its examples/dreambooth, examples/text_to_image): peft, and one loop.

Stock modules that are read from the model's folder. Ours alone are which examples come when, the weights at the start,
and from which generator noise and time steps come.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from diffusers import DDPMScheduler, StableDiffusionXLPipeline
from diffusers.optimization import get_scheduler
from diffusers.training_utils import cast_training_params, compute_snr
from peft import LoraConfig
from PIL import Image

from bench.training.subject import examples
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.trainer import Batches


def stock(folder: Path) -> Any:
    """The model as diffusers loads it."""
    return StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)


def stock_batches(pipeline: Any, asked: TrainingOptions) -> Batches:
    """Of latents and captions that its modules encode as they come, each once, as a job's do."""

    def latents(picture: Image.Image) -> torch.Tensor:
        pixels = pipeline.image_processor.preprocess(picture)
        found: torch.Tensor = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
        return found

    def read(captions: Sequence[str]) -> Conditioning:
        states, _, pooled, _ = pipeline.encode_prompt(list(captions), do_classifier_free_guidance=False)
        return Conditioning(states, pooled)

    return examples(asked, latents, read)


class BareLoop:
    """Of a model of SDXL's structure that predicts v, as the one that comes with Darkroom."""

    def __init__(self, unet: Any, scheduler: Any, asked: TrainingOptions, batches: Batches) -> None:
        """The LoRA's first weights are drawn by peft, and float32 whatever those of the denoiser are."""
        self._asked, self._batches, self._done = asked, batches, 0
        self.unet = unet.requires_grad_(requires_grad=False).train()
        if asked.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        targets = ["to_k", "to_q", "to_v", "to_out.0"]
        self.unet.add_adapter(LoraConfig(r=asked.rank, lora_alpha=asked.rank, target_modules=targets))
        cast_training_params(self.unet, dtype=torch.float32)
        self._half = torch.autocast(unet.device.type, unet.dtype, enabled=unet.dtype != torch.float32)
        self._parameters = [one for one in self.unet.parameters() if one.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=asked.learning_rate, weight_decay=asked.weight_decay)
        self._rates = get_scheduler(
            asked.lr_schedule,
            self._optimizer,
            num_warmup_steps=asked.warmup_steps,
            num_training_steps=asked.steps,
        )
        self._scheduler = DDPMScheduler.from_config(scheduler.config)

    def begin(self, weights: Mapping[str, torch.Tensor]) -> None:
        """From the weights of another training, by our names."""
        for name, parameter in self.unet.named_parameters():
            if parameter.requires_grad:
                ours = name.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
                parameter.data.copy_(weights[f"unet.{ours}"])

    def advance(self) -> float:
        """One step; its loss."""
        with torch.enable_grad():
            loss = self._loss(self._batches(self._done, 0))
            torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._parameters, self._asked.max_grad_norm)
        self._optimizer.step()
        self._rates.step()
        self._optimizer.zero_grad()
        self._done += 1
        return loss.item()

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Min-SNR as in examples/text_to_image, where v has the weight of the paper."""
        assert batch.conditioning is not None
        times, noise = _drawn(batch, self._scheduler.config.num_train_timesteps)
        noisy = self._scheduler.add_noise(batch.latents, noise, times)
        added = {"text_embeds": batch.conditioning.pooled, "time_ids": batch.sizes}
        states = batch.conditioning.states
        with self._half:
            predicted = self.unet(noisy, times, states, added_cond_kwargs=added, return_dict=False)[0]
        target = self._scheduler.get_velocity(batch.latents, noise, times)
        losses: torch.Tensor = nnf.mse_loss(predicted.float(), target, reduction="none").mean(dim=[1, 2, 3])
        if self._asked.min_snr_gamma is None:
            return losses.mean()
        snr = compute_snr(self._scheduler, times)
        weights = torch.stack([snr, self._asked.min_snr_gamma * torch.ones_like(times)], dim=1).min(dim=1)[0]
        weighted: torch.Tensor = losses * weights / (snr + 1)
        return weighted.mean()


def _drawn(batch: Batch, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    times, noise = [], []
    for key in batch.keys:
        generator = torch.Generator().manual_seed(key)
        times.append(torch.randint(0, steps, (1,), generator=generator))
        noise.append(torch.randn(batch.latents.shape[1:], generator=generator))
    return torch.cat(times).to(batch.latents.device), torch.stack(noise).to(batch.latents.device)
