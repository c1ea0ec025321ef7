"""Marks that compel's parser would pass over: which are refused, and what is left to prose."""

import pytest

from darkroom.worker.models.weighted import fault_of


@pytest.mark.parametrize(
    "text",
    [
        *(f'("a","b"){call}' for call in (".BLEND(1,1)", ".Blend(1,1)", ". blend(1,1)", ".bled(1,1)", ".blend[1,1]")),
        *(f'("a","b"){call}' for call in (".foo(1,1)", "blend(1,1)", ", blend(1,1)", ".blend", ".and")),
        *(f'("a","b"){call}' for call in (".blend(nan, 1)", ".and(1, inf)", ".add(1,1)")),
        '("a" "b").blend (1,1)',
        "(a,b).add(1,1)",
        "cat.Attend(1.5)",
        "cat.atend(1.5)",
        "cat.attend[1.5]",
        "(red:-1.4)",
        "(red:1,4)",
        "(red2 : 1.4)",
        "(red (dark) x:1.4)",
        "(red (dark):1.4)",
        *(f"(red){weight}" for weight in ("1e3", "1,5", "nan", "-inf", "-1", "+1.5", "1.2.3", "1.5x", "1.5++", "+-")),
        *(f'"red"{weight}' for weight in ("1e3", ":1.4", "-.5")),
        "a <lora:x:1> b",
    ],
)
def test_a_mark_that_is_written_wrongly(text: str) -> None:
    assert fault_of("prompt", text)
    assert fault_of("prompt", f"a sea, {text} b")


@pytest.mark.parametrize(
    "text",
    [
        "(a cat).",
        "(a cat). And (a dog), then (a mouse). (Off)",
        '("x") and (y), ("z") and',
        "red - blue, a (small) dog-like (semi)-transparent (s)he",
        "(red) 1.5 litre",
        '(red)1.5, blue,(red)0.5! "x"1.5 (y)2. (z)++ v-- (w).5,x',
        "(16:9) picture (at 10:30) (John 3:16)",
        "e.g. (x), scene.blend file, www.foo.org (site)",
        "(cute cat):3 (red)info",
        "(a). swan(s) on a lake",
        'a cat\'s \\"hat\\"',
        "1.5 cats, 2-3 dogs.",
        "a \\(red\\) cat :\\)",
        r"a .and\(b\) \(red:1.4\) \(x\)nan a.swap\(b\)",
        '("a","b").blend (1,1)',
        '("a","b") .and()',
        "cat.attend(++) (cat).attend(1.5)",
    ],
)
def test_what_may_be_prose_or_is_a_mark(text: str) -> None:
    assert fault_of("prompt", text) is None
