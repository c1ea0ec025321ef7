"""Whatever a mapping holds: a request that can be sent, read back and run, or InvalidRequest with every fault."""

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.tasks import Img2Img, InvalidRequest, Txt2Img, parse_request
from darkroom.tasks.catalogue import builtin_catalogue
from darkroom.tasks.validate import canonical, check_kept, digest, resolve

CATALOGUE = builtin_catalogue()
FIELDS = sorted(Img2Img.model_fields)
ZONES = [UTC, ZoneInfo("Asia/Kolkata"), timezone(timedelta(hours=-1, seconds=30))]

text = st.text(st.characters(), max_size=8)  # lone surrogates are among them
numbers = st.integers() | st.sampled_from([0, 1, 8, 64, 512, 513, 2**53, 10**400]) | st.floats()
odd = st.sampled_from([None, True, b"x", 1j, object(), math.nan, datetime(2030, 1, 1), date(2030, 1, 1), {1: 2}, (1,)])
json_like = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
anything = json_like | odd
moments = st.datetimes(timezones=st.sampled_from(ZONES)) | st.datetimes().map(str)

LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "kind": st.sampled_from(["txt2img", "img2img"]),
    "model": st.sampled_from([*CATALOGUE, "none"]),
    "prompt": st.text(min_size=1, max_size=20),
    "negative_prompt": st.text(max_size=20),
    "width": st.sampled_from([64, 128, 256, 512, 16_384]),
    "height": st.sampled_from([64, 128, 256, 512, 16_384]),
    "num_inference_steps": st.integers(1, 60),
    "guidance_scale": st.floats(0, 30) | st.integers(0, 30),
    "scheduler": st.sampled_from(["euler", "Euler a", "lcm", "pndm"]),
    "seed": st.integers(0, 2**53 - 1),
    "num_images": st.integers(1, 4),
    "seeds": st.lists(st.integers(0, 100), min_size=1, max_size=4),
    "output_format": st.sampled_from(["png", "jpeg", "webp"]),
    "start_by": moments,
    "finish_by": moments,
    "lane": st.sampled_from(["interactive", "bulk"]),
    "tenant": st.sampled_from(["default", "alice"]),
    "idempotency_key": st.text(min_size=1, max_size=5),
    "metadata": st.dictionaries(text, json_like, max_size=3),
    "image": st.sampled_from(["inputs/default/a.png", "https://example.com/a", "a.png"]),
    "strength": st.floats(0, 1),
}
right = st.fixed_dictionaries(
    {"prompt": st.just("a cat"), "model": st.sampled_from(sorted(CATALOGUE))},
    optional={name: LIKELY[name] for name in LIKELY if name not in ("prompt", "model")},
)
mappings = (
    right
    | st.builds(lambda good, name, value: {**good, name: value}, right, st.sampled_from(FIELDS), anything)
    | st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5)
    | st.dictionaries(anything.filter(lambda key: key.__hash__ is not None and _hashable(key)), anything, max_size=3)
)


def _hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def attempt(call: Callable[[], Any]) -> Any:
    """What the call returns, or its InvalidRequest, which can be shown; nothing else may be raised."""
    try:
        return call()
    except InvalidRequest as error:
        found = error
    assert found.faults
    assert all(fault.field and fault.code and fault.message for fault in found.faults)
    assert all(json.dumps(fault.as_dict(), ensure_ascii=False).encode() for fault in found.faults)
    return found


@settings(max_examples=150, deadline=None)
@given(mappings)
@example({"prompt": "a", "start_by": "0001-01-01T00:00:00+14:00"})
@example({"prompt": "a", "kind": "img2img", "image": "data:\ud800;base64,iVBORw0KGgo="})
def test_every_mapping_is_a_request_or_is_refused(data: dict[Any, Any]) -> None:
    found = attempt(lambda: resolve(data, CATALOGUE, lambda: "starter"))
    if isinstance(found, InvalidRequest):
        return
    sent = attempt(lambda: canonical(found.filled))
    read = parse_request(json.loads(sent))
    assert read == found.filled
    assert resolve(read, CATALOGUE, lambda: None).filled == found.filled
    check_kept(read, found.offer, CATALOGUE)
    assert len(digest(found.asked)) == 64
    assert {"negative_prompt_ignored", "no_steps"} >= set(read.warnings(found.offer))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), anything, max_size=4))
def test_the_constructors_too(fields: dict[str, Any]) -> None:
    for kind in (Txt2Img, Img2Img):
        attempt(lambda kind=kind: kind(**fields))  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(anything)
def test_what_is_no_request_is_refused(data: object) -> None:
    assert isinstance(attempt(lambda: parse_request(data)), InvalidRequest)
