"""Others use the model while a LoRA is trained on it: nothing of it is changed, and no bit of its answers."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import nn

from darkroom.worker.adapters.attention import install_style
from darkroom.worker.models.adaptable import Delta, LoraLinear, adding
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.view import view_of
from tests.unit.worker.training.conftest import Subjects, batches, options, train


def answer(unet: Any, model: LoadedModel, seed: int = 0) -> torch.Tensor:
    """Of a denoiser as a worker calls it on a CPU."""
    batch = batches(model, options())(seed, 0)
    assert batch.conditioning is not None
    added = None
    if batch.sizes is not None:
        added = {"text_embeds": batch.conditioning.pooled, "time_ids": batch.sizes}
    with torch.inference_mode():
        found: torch.Tensor = unet(batch.latents, 500, batch.conditioning.states, added_cond_kwargs=added).sample
    return found


def state(model: LoadedModel) -> list[Any]:
    """All that a training might have changed about modules: classes, modes, attributes, hooks and parameters."""
    found: list[Any] = []
    for part in ("unet", *model.family.encoders):
        for path, module in model.components[part].named_modules():
            attributes = {key: one for key, one in vars(module).items() if isinstance(one, bool | float | str)}
            found.append((part, path, id(module), type(module), attributes, sorted(vars(module))))
        for path, one in model.components[part].named_parameters():
            found.append((part, path, id(one), one.data_ptr(), one.requires_grad, one.grad, one._version, one.dtype))
    return found


@pytest.mark.parametrize("name", ["sdxl", "sd"])
def test_a_training_leaves_the_model_as_it_was(subjects: Subjects, name: str) -> None:
    model = subjects(name)
    unet = model.components["unet"]
    expected, before = answer(unet, model), state(model)
    trainer = train(model, options(targets="all", text_encoder=True, gradient_checkpointing=True))
    for _ in range(3):
        trainer.advance()
        assert torch.equal(answer(unet, model), expected)  # in between, and in inference mode
    trainer.resume(trainer.checkpoint())
    trainer.advance()
    assert state(model) == before
    assert torch.equal(answer(unet, model), expected)


def test_calls_of_other_threads_are_as_ever(subjects: Subjects) -> None:
    model = subjects("sdxl")
    unet, found = model.components["unet"], []
    expected = answer(unet, model)
    trainer, ends = train(model, options(text_encoder=True)), threading.Event()

    def serve() -> None:
        while not ends.is_set():
            found.append(torch.equal(answer(unet, model), expected))

    server = threading.Thread(target=serve)
    server.start()
    beside = [trainer.advance() for _ in range(3)]
    ends.set()
    server.join()
    assert found
    assert all(found)
    alone = train(model, options(text_encoder=True))
    assert [alone.advance() for _ in range(3)] == beside


def test_a_thread_in_inference_mode_may_train(subjects: Subjects) -> None:
    model = subjects("sd")
    expected = train(model, options(), steps=2)
    with torch.inference_mode():
        trainer = train(model, options(), steps=1)
        resumed = train(model, options())
        resumed.resume(trainer.checkpoint())
        resumed.advance()
    assert resumed.lora({}) == expected.lora({})


def test_a_view_answers_as_the_module_over_the_same_weights(subjects: Subjects) -> None:
    model = subjects("sdxl")
    unet = model.components["unet"]
    view = view_of(unet)
    assert torch.equal(answer(view, model), answer(unet, model))
    shared = dict(unet.named_parameters())
    for name, own in view.named_parameters():
        assert own is not shared[name]
        assert own.data_ptr() == shared[name].data_ptr()
    assert not any(isinstance(layer, LoraLinear) for layer in view.modules())
    assert any(isinstance(layer, LoraLinear) for layer in unet.modules())


def test_a_view_knows_nothing_of_how_the_model_serves(subjects: Subjects) -> None:
    """LoRAs of the call that is running, styles, fused projections, hooks, dropout: a training has none of them."""
    model = subjects("sdxl")
    expected = answer(model.components["unet"], model)
    unet = copy.deepcopy(model.components["unet"])
    unet.fuse_qkv_projections()
    crossing = [name for name in unet.attn_processors if name.endswith(".attn2.processor")]
    holder = install_style(unet, [(torch.zeros(32, 80), torch.ones(32, 80))] * len(crossing))
    unet.register_forward_pre_hook(lambda *_: pytest.fail("a hook of serving ran"), with_kwargs=True)
    unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.ff.net.1").p = 0.5
    slot = next(slot for slot in model.slots["unet"] if slot.part == "attention")
    slot = slot._replace(layer=unet.get_submodule(slot.path))
    delta = Delta(torch.ones(1, 2, slot.wide_in), torch.ones(1, 2), torch.ones(1, 2, slot.wide_out))
    with adding([(slot, delta)]), holder.given(torch.ones(1, 4, 80), torch.ones(1, len(crossing))):
        view = view_of(unet)
    assert torch.equal(answer(view, model), expected)
    assert {module.p for module in view.modules() if isinstance(module, nn.Dropout)} == {0.0}
