"""A training that is stopped and goes on comes to the same LoRA, bit for bit; what is no state of it is refused."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load

from darkroom.worker.errors import CheckpointInvalid
from darkroom.worker.training import optimizers
from darkroom.worker.training.checkpoint import METADATA, pack, unpack
from darkroom.worker.training.trainer import Trainer
from tests.unit.worker.training.conftest import SUBJECTS, Subjects, batches, options, train

Header = dict[str, Any]


def edited(data: bytes, edit: Callable[[Header], None]) -> bytes:
    """The same file after a change of what it says of itself."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header["__metadata__"][METADATA])
    edit(about)
    header["__metadata__"][METADATA] = json.dumps(about)
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return struct.pack("<Q", len(written)) + written + data[8 + length :]


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("text_encoder", [False, True])
def test_stopped_twice_it_comes_to_the_same_bits(subjects: Subjects, name: str, text_encoder: bool) -> None:
    model, asked = subjects(name), options(text_encoder=text_encoder, gradient_accumulation=2)
    unbroken, expected, kept = train(model, asked), [], []
    for steps in (5, 4, 3):
        expected.append([unbroken.advance() for _ in range(steps)])
        kept.append(unbroken.checkpoint())
    found = kept[0]
    for steps, place in ((4, 1), (3, 2)):
        trainer = train(model, asked)
        assert trainer.resume(found) == []
        assert [trainer.advance() for _ in range(steps)] == expected[place]  # losses, learning rates and gradients
        found = trainer.checkpoint()
        assert found == kept[place]
    assert trainer.lora({}) == unbroken.lora({})


def test_a_step_that_failed_leaves_nothing_behind(subjects: Subjects) -> None:
    """Out of memory in the second pass of a step, say: the step can be made again."""
    model, asked = subjects("sd"), options(gradient_accumulation=2)
    fine, failing = batches(model, asked), [True]

    def given(step: int, micro: int) -> Any:
        if (step, micro) == (1, 1) and failing.pop():
            raise MemoryError
        return fine(step, micro)

    trainer = Trainer(model, asked, given, "a dataset")
    trainer.advance()
    with pytest.raises(MemoryError):
        trainer.advance()
    failing.append(False)
    trainer.advance()
    assert trainer.checkpoint() == train(model, asked, steps=2).checkpoint()


def test_it_holds_the_lora_and_the_optimizer(subjects: Subjects) -> None:
    trainer = train(subjects("sd"), options(), steps=2)
    tensors, layer = load(trainer.checkpoint()), "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.up"
    assert tensors[f"lora.{layer}"].shape == (32, 4)
    assert tensors[f"optimizer.{layer}.exp_avg"].shape == (32, 4)
    assert tensors[f"optimizer.{layer}.step"] == 2
    state = unpack(trainer.checkpoint())
    assert len(state.losses) == 2
    assert pack(state) == trainer.checkpoint()


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("set of options", lambda subject: Trainer(subject("sd"), options(seed=8), lambda *_: None, "a dataset")),
        ("dataset", lambda subject: Trainer(subject("sd"), options(), lambda *_: None, "another")),
        ("model", lambda subject: Trainer(subject("sd-v"), options(), lambda *_: None, "a dataset")),
    ],
)
def test_the_state_of_another_training_is_refused(
    subjects: Subjects, what: str, other: Callable[[Subjects], Trainer]
) -> None:
    kept, resumed = train(subjects("sd"), options(), steps=1).checkpoint(), other(subjects)
    before = resumed.checkpoint()
    with pytest.raises(CheckpointInvalid, match=rf"of a training with another {what} \(") as caught:
        resumed.resume(kept)
    assert caught.value.code == "checkpoint_invalid"
    assert resumed.checkpoint() == before


def test_broken_bytes_are_refused(subjects: Subjects) -> None:
    trainer = train(subjects("sd"), options(), steps=1)
    kept = trainer.checkpoint()
    broken = [
        b"",
        b"nothing of the kind, whatever the length",
        kept[:1000],
        kept[:-4],
        trainer.lora({}),
        edited(kept, lambda about: about.update(format=2)),
        edited(kept, lambda about: about.pop("optimizer")),
        edited(kept, lambda about: about.update(losses=["1"])),
    ]
    for data in broken:
        with pytest.raises(CheckpointInvalid, match="the checkpoint cannot be read"):
            trainer.resume(data)
    assert trainer.checkpoint() == kept


def test_tensors_that_do_not_fit_are_named(subjects: Subjects) -> None:
    trainer = train(subjects("sd"), options(), steps=1)
    state, layer = unpack(trainer.checkpoint()), "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.up"

    def refused(lora: Mapping[str, torch.Tensor], match: str) -> None:
        with pytest.raises(CheckpointInvalid, match=match):
            trainer.resume(pack(replace(state, lora=lora)))

    refused({**state.lora, layer: torch.zeros(32, 8)}, f"{layer} is 32x8 float32, not 32x4 float32")
    refused({name: one for name, one in state.lora.items() if name != layer}, f"{layer} is absent, not 32x4")
    refused({**state.lora, layer: torch.full((32, 4), torch.nan)}, f"{layer} is not finite")
    refused({**state.lora, "unet.x.up": torch.zeros(1)}, "unet.x.up is no layer of this training")


def test_other_surroundings_are_told_of(subjects: Subjects) -> None:
    trainer = train(subjects("sd"), options(), steps=1)

    def elsewhere(about: Header) -> None:
        about["surroundings"].update(threads=64, torch="1.0", device="cuda", gpu="a GPU")

    warnings = trainer.resume(edited(trainer.checkpoint(), elsewhere))
    assert [warning.partition(":")[0] for warning in warnings] == [
        "device was cuda, is cpu",
        "gpu was a GPU, is unknown",
        "threads was 64, is 1",
        f"torch was 1.0, is {torch.__version__}",
    ]
    assert trainer.step == 1


class Adapting(torch.optim.Optimizer):
    """Adapts a number that all parameters share, as Prodigy does, and counts steps in plain numbers."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0, "d": 1e-3, "k": 0, "decouple": True})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for parameter in group["params"]:
            kept = self.state[parameter]
            kept["step"] = kept.get("step", 0) + 1
            kept["sum"] = kept.get("sum", torch.zeros_like(parameter)) + parameter.grad
            group["d"] *= 1.001
            parameter -= group["lr"] * group["d"] * kept["sum"] / kept["step"]
        group["k"] += 1


def test_numbers_of_an_optimizer_are_kept(subjects: Subjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optimizers._CLASSES, "prodigy", (__name__, "Adapting", ""))
    model, asked = subjects("sd"), options(optimizer="prodigy")
    unbroken, trainer = train(model, asked, steps=3), train(model, asked)
    trainer.resume(train(model, asked, steps=1).checkpoint())
    trainer.advance(), trainer.advance()
    assert trainer.checkpoint() == unbroken.checkpoint()
    assert trainer._optimizer.inner.param_groups[0]["k"] == 3
