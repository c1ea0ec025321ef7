"""A training's losses, what follows from the seed alone, and what ends it."""

import copy
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load

from darkroom.worker.errors import ModelIncompatible, TrainingDiverged, TrainingUnavailable
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch
from darkroom.worker.training.trainer import Batches, Trainer
from tests.unit.worker.training.bare import bare_losses
from tests.unit.worker.training.conftest import SUBJECTS, Subjects, batches, options, train


def lora_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    tensors = load(trainer.checkpoint())
    return {name.removeprefix("lora."): one for name, one in tensors.items() if name.startswith("lora.")}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("text_encoder", [False, True])
def test_losses_are_those_of_diffusers_own_loop(subjects: Subjects, name: str, text_encoder: bool) -> None:
    model = subjects(name)
    gamma = None if text_encoder else 5.0
    asked = options(
        text_encoder=text_encoder, batch_size=2, gradient_accumulation=2, min_snr_gamma=gamma, noise_offset=0.1, alpha=3
    )
    trainer = train(model, asked)
    expected = bare_losses(model, asked, batches(model, asked), lora_of(trainer), steps=5)
    losses = [trainer.advance().loss for _ in range(5)]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert trainer.step == 5


def test_an_example_has_its_noise_and_time_step_whatever_is_beside_it(subjects: Subjects) -> None:
    """Two passes of one example and one pass of two are the same step."""
    model = subjects("sdxl")
    apart = train(model, options(batch_size=1, gradient_accumulation=2)).advance()
    together = train(model, options(batch_size=2, gradient_accumulation=1)).advance()
    assert together.loss == pytest.approx(apart.loss, rel=1e-5)
    assert together.gradient_norm == pytest.approx(apart.gradient_norm, rel=1e-4)


def test_all_follows_from_the_seed_and_the_global_generator_stays(subjects: Subjects) -> None:
    model = subjects("sd")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = train(model, options(targets="all", text_encoder=True, gradient_checkpointing=True), steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = train(model, options(targets="all", text_encoder=True, gradient_checkpointing=True), steps=2)
    assert again.lora({}) == first.lora({})
    other, layer = train(model, options(targets="all", seed=8)), "unet.mid_block.resnets.0.conv1.down"
    assert not torch.equal(lora_of(other)[layer], lora_of(train(model, options(targets="all")))[layer])


def test_the_whole_of_a_training_lowers_its_loss(subjects: Subjects) -> None:
    model = subjects("sdxl")
    asked = options(targets="all", min_snr_gamma=None, batch_size=2, warmup_steps=0)
    given = batches(model, asked)(0, 0)
    trainer = Trainer(model, asked, lambda step, micro: given)
    losses = [trainer.advance().loss for _ in range(12)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("text_encoder", [False, True])
def test_gradient_checkpointing_changes_no_bit(subjects: Subjects, text_encoder: bool) -> None:
    model = subjects("sdxl")
    asked = options(text_encoder=text_encoder)
    plain = lora_of(train(model, asked, steps=2))
    spared = lora_of(train(model, replace(asked, gradient_checkpointing=True), steps=2))
    assert {name for name, one in plain.items() if not torch.equal(one, spared[name])} == set()


@pytest.mark.parametrize(("schedule", "expected"), [("cosine", 0.0), ("constant", 1.0)])
def test_rates_rise_and_then_follow_the_schedule(subjects: Subjects, schedule: str, expected: float) -> None:
    trainer = train(subjects("sd"), options(steps=6, lr_schedule=schedule, learning_rate=0.5))
    rates = [trainer.advance().learning_rate / 0.5 for _ in range(6)]
    assert rates[:3] == [0, 0.5, 1]
    assert rates[5] == pytest.approx(expected, abs=0.15)


def test_no_gradient_is_kept_between_steps_nor_after_one_that_failed(subjects: Subjects) -> None:
    model, asked = subjects("sd"), options()
    fine = batches(model, asked)
    trainer = Trainer(
        model, asked, lambda step, _: replace(fine(0, 0), latents=fine(0, 0).latents * (step or torch.nan))
    )
    with pytest.raises(TrainingDiverged):
        trainer.advance()
    assert all(one.grad is None for one in trainer._named.values())
    trainer = train(model, asked, steps=1)
    assert all(one.grad is None for one in trainer._named.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_lora_of_a_model_in_half_precision_is_float32(subjects: Subjects, dtype: torch.dtype) -> None:
    model = halved(subjects("sdxl"), dtype)
    asked = options(text_encoder=True)
    trainer = train(model, asked)
    exact = train(subjects("sdxl"), asked)
    for _ in range(3):
        assert trainer.advance().loss == pytest.approx(exact.advance().loss, rel=0.01)
    assert {one.dtype for one in lora_of(trainer).values()} == {torch.float32}
    resumed = Trainer(model, asked, batches(model, asked), "a dataset")
    resumed.resume(trainer.checkpoint())
    assert (resumed.advance(), resumed.lora({})) == (trainer.advance(), trainer.lora({}))


def test_a_step_that_overflows_in_float16_is_passed_over(subjects: Subjects) -> None:
    """The gradient of a loss that is scaled by 65,536 is too much for float16, at first."""
    model, asked = halved(subjects("sd"), torch.float16), options(prior_loss_weight=1e4, warmup_steps=0)
    fine = batches(model, asked)
    trainer = Trainer(model, asked, lambda step, micro: replace(fine(step, micro), prior=fine(step, micro)))
    before, norms = trainer.lora({}), [trainer.advance().gradient_norm]
    assert norms == [None]
    assert trainer.lora({}) == before
    resumed = Trainer(model, asked, lambda step, micro: replace(fine(step, micro), prior=fine(step, micro)))
    resumed.resume(trainer.checkpoint())
    norms = [trainer.advance().gradient_norm for _ in range(11)]
    assert norms == [resumed.advance().gradient_norm for _ in range(11)]
    assert norms[-1] is not None
    assert trainer.checkpoint() == resumed.checkpoint()


def test_precision_float32_trains_on_a_copy_in_float32(subjects: Subjects) -> None:
    model = halved(subjects("sdxl"), torch.bfloat16)
    exact = halved(model, torch.float32)
    asked = options(precision="float32", text_encoder=True)
    assert train(model, asked, 2).lora({}) == train(exact, asked, 2).lora({})
    assert model.components["unet"].dtype == torch.bfloat16


@pytest.mark.parametrize("passes", ["one", "two"])
@pytest.mark.parametrize("text_encoder", [False, True])
def test_prior_preservation_is_that_of_diffusers(subjects: Subjects, text_encoder: bool, passes: str) -> None:
    """There the losses are told as one, the weighted sum of both. Where memory counts each has a pass of its own."""
    model, weight = subjects("sdxl"), {"prior_loss_weight": 0.25, "gradient_checkpointing": passes == "two"}
    asked = options(batch_size=2, gradient_accumulation=2, text_encoder=text_encoder, **weight)
    given = with_prior(batches(model, asked), size=(6, 8))
    trainer = Trainer(model, asked, given)
    expected = bare_losses(model, asked, given, lora_of(trainer), steps=5)
    for whole in expected:
        made = trainer.advance()
        assert made.loss_prior is not None and made.loss_prior != made.loss
        assert made.loss + 0.25 * made.loss_prior == pytest.approx(whole, rel=1e-5)
    assert trainer.losses != pytest.approx(expected, rel=0.01)


def test_what_keeps_what_the_model_knew_may_be_of_another_size(subjects: Subjects) -> None:
    model, asked = subjects("sdxl"), options()
    apart = Trainer(model, asked, with_prior(batches(model, asked), size=(8, 8))).advance()
    assert apart.loss_prior is not None and apart.loss == train(model, asked).advance().loss


def test_without_it_nothing_is_told_of_it(subjects: Subjects) -> None:
    assert train(subjects("sd"), options()).advance().loss_prior is None


def test_a_loss_that_is_no_number_ends_it_and_the_lora_is_as_before(subjects: Subjects) -> None:
    model, asked = subjects("sd"), options(gradient_accumulation=2)
    fine = batches(model, asked)

    def given(step: int, micro: int) -> Batch:
        batch = fine(step, micro)
        return replace(batch, latents=batch.latents * torch.nan) if (step, micro) == (2, 1) else batch

    trainer = Trainer(model, asked, given)
    trainer.advance(), trainer.advance()
    before = trainer.checkpoint()
    with pytest.raises(TrainingDiverged, match=r"step 3: the loss is nan") as caught:
        trainer.advance()
    assert caught.value.code == "training_diverged"
    assert "learning_rate" in str(caught.value.hint)
    assert trainer.checkpoint() == before


def test_a_gradient_that_is_no_number_ends_it(subjects: Subjects) -> None:
    """The loss is near the largest number, the squares of its gradient are beyond it."""
    model, asked = subjects("sd"), options(prior_loss_weight=1e38)
    fine = batches(model, asked)(0, 0)
    given = replace(fine, prior=fine)
    trainer = Trainer(model, asked, lambda step, micro: given)
    before = trainer.lora({})
    with pytest.raises(TrainingDiverged, match="step 1: the norm of the gradient is inf"):
        trainer.advance()
    assert trainer.lora({}) == before


def test_what_cannot_be_trained_is_refused(subjects: Subjects) -> None:
    model = subjects("sdxl")
    offloading = replace(model, placement=replace(model.placement, memory="model_offload"))
    with pytest.raises(TrainingUnavailable, match="memory mode model_offload"):
        train(offloading, options())
    with pytest.raises(ModelIncompatible, match="of the family sdxl-refiner"):
        train(replace(model, family=replace(model.family, name="sdxl-refiner")), options())
    few_steps = model.entry.model_copy(update={"name": "quick", "base": "tiny-sdxl"})
    with pytest.raises(ModelIncompatible, match="quick is tiny-sdxl with LoRAs of its own"):
        train(replace(model, entry=few_steps), options())
    scheduler = model.components["scheduler"]
    sampling = type(scheduler).from_config(scheduler.config, prediction_type="sample")
    with pytest.raises(ModelIncompatible, match="predicts 'sample'"):
        train(replace(model, components={**model.components, "scheduler": sampling}), options())


def test_an_optimizer_that_is_not_installed_is_told_of(subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(TrainingUnavailable, match="the optimizer prodigy needs the package prodigyopt"):
        train(subjects("sd"), options(optimizer="prodigy"))


def with_prior(given: Batches, size: tuple[int, int]) -> Batches:
    """Beside each batch one of other latents (height and width in them), and with other noise."""

    def both(step: int, micro: int) -> Batch:
        batch = given(step, micro)
        latents = torch.randn((len(batch.keys), 4, *size), generator=torch.Generator().manual_seed(9)) / 2
        return replace(batch, prior=replace(batch, latents=latents, keys=tuple(key + 1000 for key in batch.keys)))

    return both


def halved(model: LoadedModel, dtype: torch.dtype) -> LoadedModel:
    """A copy whose weights are of this dtype."""
    parts = {
        name: copy.deepcopy(part).to(dtype) if isinstance(part, torch.nn.Module) else part
        for name, part in model.components.items()
    }
    return replace(model, components=parts, placement=replace(model.placement, dtype=dtype))
