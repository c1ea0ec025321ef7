"""Whose fault it is when a model makes no picture before its first job."""

from dataclasses import replace

import diffusers
import pytest
import torch

from darkroom.tasks.adapters import LoraUse
from darkroom.tasks.catalogue import Family
from darkroom.worker.errors import AdapterCorrupt, DeviceBroken, ModelIncompatible, OutOfMemory
from darkroom.worker.images.trial import blame, check_steps
from darkroom.worker.models.device import Placement
from tests.unit.worker.conftest import Models


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceBroken),
        (OverflowError("int too big to convert"), ModelIncompatible),
    ],
)
def test_what_is_the_devices_is_not_charged_to_the_files(
    models: Models, raised: Exception, becomes: type[Exception]
) -> None:
    with pytest.raises(becomes), blame("unet", models("sd")):
        raise raised


def test_the_part_is_named_by_its_config(models: Models) -> None:
    with (
        pytest.raises(ModelIncompatible, match=r"model tiny-sd: vae/config.json .*KeyError"),
        blame("vae", models("sd")),
    ):
        raise KeyError("x")


def test_numbers_that_are_none_in_half_precision_may_be_the_dtypes(models: Models) -> None:
    model = replace(models("sd"), placement=Placement(torch.device("cpu"), torch.float16, "full", 1))
    with pytest.raises(ModelIncompatible, match=r"unet/config.json") as caught, blame("unet", model) as part:
        part.gave(torch.tensor([1.0, torch.inf]))
    assert "--dtype bfloat16" in caught.value.hint


def test_a_loras_file_is_not_the_models(models: Models) -> None:
    with (
        pytest.raises(AdapterCorrupt, match=r"model tiny-sd: the file of the LoRA x: NaN") as caught,
        blame("text_encoder", models("sd")),
    ):
        raise AdapterCorrupt("the file of the LoRA x: NaN", hint="fetch it again")
    assert caught.value.hint == "fetch it again"


def test_where_a_model_has_loras_of_its_own_numbers_that_are_none_may_be_theirs(models: Models) -> None:
    sound = models("sd")
    own = sound.entry.model_copy(update={"own_loras": [LoraUse(name="few", scale=9)]})
    with (
        pytest.raises(ModelIncompatible, match=r"model tiny-sd: its own LoRAs \(few 9\) or what they change") as caught,
        blame("unet", replace(sound, entry=own)) as part,
    ):
        part.gave(torch.tensor([torch.nan]))
    assert "own_loras" in caught.value.hint


@pytest.mark.parametrize("family", ["sd", "sdxl", "playground"])
def test_the_schedulers_of_sound_models_pass(models: Models, family: Family) -> None:
    model = models(family)
    check_steps(model.entry, model.components["scheduler"])


def test_a_scheduler_that_plans_fewer_steps_than_may_be_asked_for_is_refused(models: Models) -> None:
    with pytest.raises(ModelIncompatible, match="200"), blame("scheduler", models("sdxl")):
        check_steps(models("sdxl").entry, diffusers.DDIMScheduler(num_train_timesteps=100))
