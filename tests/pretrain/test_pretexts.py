"""The registry: which names there are, which are joined, and one name for one pretext."""

from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facerep.core.errors import FacerepError
from facerep.pretexts import COLORS, NAMES, PRETEXTS, TEACHER, TURNS, VIEWS, questions_of
from facerep.pretrain.pretext import Pretext
from tests.support.micro import pretraining

ASKING = [name for name, questions in PRETEXTS.items() if questions]


@pytest.mark.parametrize(
    ("name", "questions"),
    [
        ("original", ()),
        ("rotated", (TURNS,)),
        ("grayscale", (COLORS,)),
        ("rotated_grayscale", (TURNS, COLORS)),
        ("simclr", (VIEWS,)),
        ("supervised", (NAMES,)),
        ("distillation", (TEACHER,)),
        ("rotated+simclr", (TURNS, VIEWS)),
        ("grayscale+simclr", (COLORS, VIEWS)),
        ("rotated_grayscale+simclr", (TURNS, COLORS, VIEWS)),
        ("simclr+supervised+distillation", (VIEWS, NAMES, TEACHER)),
    ],
)
def test_a_pretext_asks_the_questions_of_its_names(name: str, questions: tuple[str, ...]) -> None:
    assert questions_of(name) == questions


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("grayscal", "no such pretext; one of original, rotated, grayscale, rotated_grayscale, simclr, supervised"),
        ("rotated+", "no such pretext"),
        ("rotated + simclr", "no such pretext"),
        ("", "no such pretext"),
        ("original+rotated", "joins pretexts that ask nothing, or the same question twice"),
        ("simclr+simclr", "the same question twice"),
        ("grayscale+rotated_grayscale", "the same question twice"),
        ("simclr+rotated", r"one name for one pretext: write rotated\+simclr$"),
        ("rotated+grayscale", "one name for one pretext: write rotated_grayscale$"),
        ("grayscale+rotated+simclr", r"one name for one pretext: write rotated_grayscale\+simclr$"),
    ],
)
def test_others_are_refused_with_what_to_write(name: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        questions_of(name)
    with pytest.raises(FacerepError, match=rf"(?s)^pretext = .*{told.removesuffix('$')}.*\.$"):
        Pretext(name, pretraining())


def test_no_two_names_ask_the_same() -> None:
    """Of all that can be written, the same questions are asked by one name alone, and what is refused names that one."""
    known: dict[frozenset[str], str] = {}
    for number in range(1, len(ASKING) + 1):
        for some in combinations(ASKING, number):
            questions = [question for name in some for question in PRETEXTS[name]]
            if len(set(questions)) < len(questions):
                continue
            accepted = []
            for order in permutations(some) if number <= 3 else [some]:
                name = "+".join(order)
                try:
                    assert set(questions_of(name)) == set(questions)
                    accepted.append(name)
                except ValueError as error:
                    assert set(questions_of(str(error).removeprefix("one name for one pretext: write "))) == set(
                        questions
                    )
            assert len(accepted) <= 1
            for name in accepted:
                assert known.setdefault(frozenset(questions), name) == name
    assert len(known) == 2 ** len({q for questions in PRETEXTS.values() for q in questions}) - 1


@given(st.text(alphabet="rotaed_+simclgy", max_size=20).filter(lambda name: not set(name.split("+")) <= set(PRETEXTS)))
def test_what_is_no_pretext_is_told(name: str) -> None:
    with pytest.raises(ValueError, match=r"^no such pretext; one of original, "):
        questions_of(name)
