"""A training on an engine that has other work, too; and what its batches are made of."""

from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.worker.batching.engine import Engine
from darkroom.worker.errors import CheckpointInvalid
from darkroom.worker.models.loading import LoadedModel
from darkroom.worker.training.batch import Batch, Conditioning
from darkroom.worker.training.curve import SIZE, curve_png, smoothed
from darkroom.worker.training.dataset import Dataset
from darkroom.worker.training.examples import Examples, sizes_of
from darkroom.worker.training.options import TrainingOptions
from darkroom.worker.training.plan import Plan
from darkroom.worker.training.session import Session
from tests.unit.worker.conftest import Models
from tests.unit.worker.training.files import good, picture, read, zipped


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(1) as found:
        yield found


@pytest.fixture
def dataset() -> Dataset:
    return read(zipped({**good(3), "wide.png": picture(7, (80, 40)), "wide.txt": b"wide"}))


def latents(image: Image.Image) -> torch.Tensor:
    """What stands for a VAE: an eighth of the picture's grey."""
    small = image.convert("L").resize((image.width // 8, image.height // 8))
    return torch.from_numpy(np.array(small)).float().expand(1, 4, -1, -1) / 255


def examples(dataset: Dataset, *, batch: int = 2, flip: bool = False, dropout: float = 0.0, **more: object) -> Examples:
    plan = Plan(sizes_of(dataset, 64, 8), batch, 1, 7, flip=flip, caption_dropout=dropout)
    read_texts = lambda texts: Conditioning(torch.tensor([[[float(len(text))]] for text in texts]))  # noqa: E731
    return Examples(dataset, plan, latents, more.get("encode", read_texts), sized=bool(more.get("sized", True)))  # type: ignore[arg-type]


def test_a_batch_is_of_one_size_and_the_same_whenever_it_is_asked_for(dataset: Dataset) -> None:
    made = examples(dataset)
    first = [made(step, 0) for step in range(4)]
    again = [examples(dataset)(step, 0) for step in reversed(range(4))][::-1]
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.latents, other.latents) and one.keys == other.keys
        assert one.latents.shape[0] == 2 and one.latents.dtype == torch.float32
    shapes = {batch.latents.shape[2:] for batch in first}
    assert len(shapes) == 2


def test_it_says_of_each_row_how_large_it_was_and_what_was_cut(dataset: Dataset) -> None:
    sizes = torch.cat([batch.sizes for step in range(4) if (batch := examples(dataset)(step, 0)).sizes is not None])
    assert {tuple(row[:2].tolist()) for row in sizes} == {(40, 40), (40, 80)}
    assert examples(dataset, sized=False)(0, 0).sizes is None


def test_captions_are_given_as_they_are_where_text_encoders_train(dataset: Dataset) -> None:
    batch = examples(dataset, encode=None)(0, 0)
    assert batch.conditioning is None and len(batch.captions) == 2
    dropped = examples(dataset, encode=None, dropout=1.0)(0, 0)
    assert dropped.captions == ("", "")


def test_captions_of_unlike_lengths_are_read_together() -> None:
    dataset = read(zipped({**good(3), "0.txt": b"one that is longer than the others"}))
    asked: list[int] = []

    def encode(texts: list[str]) -> Conditioning:
        asked.append(len(texts))
        return Conditioning(torch.zeros(len(texts), max(map(len, texts)), 1))

    made = examples(dataset, encode=encode)
    batches = [made(step, 0) for step in range(4)]
    assert all(batch.conditioning is not None and len(batch.conditioning.states) == 2 for batch in batches)
    assert set(asked) == {1, 2}


def test_steps_wait_for_pictures_and_resume_where_they_were(models: Models, engine: Engine, dataset: Dataset) -> None:
    model: LoadedModel = models("sd")
    options = TrainingOptions(steps=4, seed=3, rank=2, batch_size=2)

    def session() -> Session:
        return Session(model, engine, latents, options, dataset, resolution=64, flip=True)

    whole = session()
    for _ in range(4):
        whole.advance()
    begun = session()
    begun.advance()
    kept = begun.checkpoint()
    resumed = session()
    assert resumed.resume(kept) == []
    assert (resumed.step, list(resumed.losses)) == (1, list(whole.losses)[:1])
    while resumed.step < resumed.steps:
        resumed.advance()
    assert resumed.lora(x="y") == whole.lora(x="y")
    assert list(resumed.losses) == list(whole.losses)


def test_class_pictures_are_beside_each_batch_with_noise_of_their_own(
    models: Models, engine: Engine, dataset: Dataset
) -> None:
    """What a training is that has none stays what it was."""
    model: LoadedModel = models("sd")
    options = TrainingOptions(steps=4, seed=3, rank=2, batch_size=2, gradient_accumulation=2)
    prior = read(zipped({**good(5), **{f"{n}.txt": b"a star" for n in range(5)}}))

    def session(prior: Dataset | None, **more: float) -> Session:
        return Session(model, engine, latents, options, dataset, resolution=64, prior=prior, flip=True, **more)

    def batches(found: Session) -> list[Batch]:
        return [batch for _ in range(2) if found.advance() for batch in found._ready]

    made = session(prior, caption_dropout=1.0)
    both = [(batch, batch.prior) for batch in batches(made) if batch.prior]
    assert len(both) == 4 and len({key for pair in both for one in pair for key in one.keys}) == 16
    assert any(own.latents.shape != beside.latents.shape for own, beside in both)
    for own, beside in both:
        assert own.conditioning and beside.conditioning
        assert not torch.equal(own.conditioning.states, beside.conditioning.states)
    plain = batches(session(None, caption_dropout=1.0))
    assert [(batch.prior, batch.keys) for batch in plain] == [(None, own.keys) for own, _ in both]
    fewer = read(zipped({**good(4), **{f"{n}.txt": b"a star" for n in range(4)}}))
    for other in (None, fewer):
        with pytest.raises(CheckpointInvalid, match="another dataset"):
            session(other, caption_dropout=1.0).resume(made.checkpoint())


def test_the_mean_weighs_what_it_has() -> None:
    assert smoothed([]) == []
    assert smoothed([4.0]) == [4.0]
    assert smoothed([1.0] * 50) == pytest.approx([1.0] * 50)
    falling = smoothed([float(value) for value in range(100, 0, -1)])
    assert falling == sorted(falling, reverse=True) and falling[-1] > 1


@pytest.mark.parametrize("losses", [[0.5], [0.0, 0.0], [0.1, 0.9, 0.3]])
def test_the_curve_is_a_picture(losses: list[float]) -> None:
    with Image.open(BytesIO(curve_png(losses))) as image:
        assert image.size == SIZE
        assert image.convert("RGB").getcolors(SIZE[0] * SIZE[1]) is not None
    assert curve_png(losses) == curve_png(list(losses))
