"""What is drawn for an example, and how its loss is weighted."""

import pytest
import torch
from diffusers import DDPMScheduler

from darkroom.worker.training.losses import Diffusion, Objective, objective_of
from tests.unit.worker.training.conftest import SUBJECTS, Subjects

ZERO = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear"}


def objective(subjects: Subjects, name: str, offset: float = 0.0) -> Objective:
    return objective_of(subjects(name).components["scheduler"], min_snr_gamma=5.0, noise_offset=offset)


@pytest.mark.parametrize("name", SUBJECTS)
def test_draws_follow_from_the_key_alone(subjects: Subjects, name: str) -> None:
    asking, latents = objective(subjects, name), torch.zeros(3, 4, 6, 8)
    together = asking.ask(latents, (5, 6, 2**63 - 1))
    for row, key in enumerate((5, 6, 2**63 - 1)):
        alone = asking.ask(latents[:1], (key,))
        assert torch.equal(alone.sample[0], together.sample[row])
        assert alone.times[0] == together.times[row] == asking.ask(torch.zeros(1, 4, 2, 2), (key,)).times[0]
    assert len(set(together.times.tolist())) == 3


def test_time_steps_are_drawn_evenly(subjects: Subjects) -> None:
    times = objective(subjects, "sdxl").ask(torch.zeros(2000, 4, 1, 1), range(2000)).times
    assert times.min() < 10
    assert times.max() > 989
    assert torch.bincount(times // 100, minlength=10).min() > 150


def test_a_noise_offset_moves_channels_as_a_whole(subjects: Subjects) -> None:
    plain, moved = (objective(subjects, "sd", offset).ask(torch.zeros(1, 4, 6, 8), (1,)) for offset in (0.0, 0.5))
    moves = moved.target - plain.target
    assert torch.allclose(moves, moves[:, :, :1, :1].expand_as(moves), atol=1e-6)
    assert len(set(moves[0, :, 0, 0].tolist())) == 4


def test_weights_are_those_of_the_paper_and_finite_where_nothing_but_noise_is_left() -> None:
    """Without signal there is nothing to learn of v but the mean of the data: its weight is 0."""
    latents, keys = torch.ones(64, 4, 2, 2), range(64)
    scheduler = DDPMScheduler(num_train_timesteps=4, **ZERO)
    question = Diffusion(scheduler, 5.0, 0.0).ask(latents, keys)
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    expected = snr.clamp(max=5.0) / (snr + 1)
    assert torch.allclose(question.weights, expected[question.times], atol=1e-6)
    assert question.weights[question.times == 3].tolist() == [0.0] * int((question.times == 3).sum())
    noise = Diffusion(DDPMScheduler(), 5.0, 0.0).ask(latents, keys)
    assert bool(((noise.weights > 0) & (noise.weights <= 1)).all())
