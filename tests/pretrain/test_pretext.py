"""Questions asked together: what is shown, how losses are weighed and scores named, and which pictures there are."""

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.faces.transforms import TURN, grayscale, normalize, turn
from facerep.figures import galleries
from facerep.pretexts import PRETEXTS
from facerep.pretrain.pretext import Pretext, network_inputs
from facerep.pretrain.question import SHARED
from facerep.pretrain.stage import PretextTask
from facerep.training.augment import augment
from tests.support.asked import asked, batch_of
from tests.support.micro import pretext_model, pretraining

SAMPLES = [4, 9, 2, 30]
ALONE = [name for name in PRETEXTS if name not in ("original", "distillation")]
JOINED = ["rotated+simclr", "grayscale+simclr", "rotated_grayscale+simclr", "simclr+supervised"]
STRONG: dict[str, Any] = {"min_crop_area": 0.4, "color_jitter": 0.4, "hue": 0.1, "random_grayscale": 0.5}


def batch() -> Batch:
    return batch_of(SAMPLES, 32)


def answered(name: str, train: bool = True, **changes: Any) -> tuple[Pretext, Any, Any, dict[str, Any]]:
    """A pretext, what it shows, what it asks, and what a micro network answers."""
    pretext, shown, truths = asked(name, batch(), train, **changes)
    model = pretext_model(name, settings=pretext.params, identities=7).eval()
    with torch.no_grad():
        return pretext, shown, truths, model(network_inputs(shown))


# What is shown


@pytest.mark.parametrize("name", ALONE)
def test_a_single_question_sees_photographs_augmented_for_training_and_whole_ones_in_scoring(name: str) -> None:
    """Recolored, too, unless it is the colors that are asked for."""
    draws = Draws(3, 1)
    for train in (True, False):
        pretext, shown, _ = asked(name, batch(), train, draws, **STRONG)
        assert list(shown.inputs) == [SHARED]
        images = batch().images / 255
        if train or name == "simclr":
            images = augment(images, shown.samples, draws, pretext.params, recolor="grayscale" not in name)
        if "rotated" in name:
            images = turn(images, draws.integers(shown.samples, TURN, 4))
        images = grayscale(images) if "grayscale" in name else images
        got = shown.inputs[SHARED][: len(SAMPLES)]
        assert torch.equal(got, images), train


def test_beside_contrast_the_first_view_is_grey_and_keeps_its_colors_and_the_second_is_augmented() -> None:
    draws, first, second = Draws(3, 1), slice(0, 4), slice(4, 8)
    _, alone, _ = asked("simclr", batch(), True, draws, **STRONG)
    pretext, shown, truths = asked("grayscale+simclr", batch(), True, draws, **STRONG)
    assert torch.equal(shown.inputs[SHARED][second], alone.inputs[SHARED][second]), "as simclr alone has it"
    cropped = augment(batch().images / 255, shown.samples, draws, pretext.params, recolor=False)
    assert torch.equal(shown.inputs[SHARED][first], grayscale(cropped))
    assert torch.equal(truths["colors"].pixels, normalize(cropped)), "its own colors are asked for, not jittered ones"


def test_turns_leave_the_views_alone_and_look_at_an_input_of_their_own() -> None:
    _, alone, _ = asked("simclr", batch(), True, **STRONG)
    pretext, shown, _ = asked("rotated+simclr", batch(), True, **STRONG)
    assert list(shown.inputs) == [SHARED, "turns"], "in the order in which drop path counts the rows"
    assert torch.equal(shown.inputs[SHARED], alone.inputs[SHARED])
    model = pretext_model("rotated+simclr", settings=pretext.params).eval()
    with torch.no_grad():
        given = network_inputs(shown)
        before = model(given)
        after = model(given | {"turns": given["turns"].flip(0)})
    assert torch.equal(after["views"].vectors, before["views"].vectors)
    assert torch.allclose(after["turns"], before["turns"].flip(0), atol=1e-5)


@pytest.mark.parametrize("name", [*ALONE, *JOINED])
def test_what_is_shown_is_normalised_and_the_same_every_time_in_any_company(name: str) -> None:
    settings = pretraining(**STRONG, degrees=10.0, random_erasing=0.5)
    task = PretextTask(Pretext(name, settings))
    inputs, (number, _) = task.prepare(batch(), Draws(0, 5), True)
    assert number == len(SAMPLES)
    again, _ = task.prepare(batch(), Draws(0, 5), True)
    whole = batch()
    few, _ = task.prepare(Batch(whole.images[1:3], whole.labels[1:3], whole.samples[1:3]), Draws(0, 5), True)
    for part, images in inputs.items():
        assert images.dtype == torch.float32
        assert torch.equal(images, again[part])
        views = images.view(-1, len(SAMPLES), *images.shape[1:])
        torch.testing.assert_close(few[part], views[:, 1:3].flatten(0, 1), atol=2e-6, rtol=1e-5)
    _, shown, _ = asked(name, batch(), True)
    assert all(torch.equal(given, normalize(shown.inputs[part])) for part, given in network_inputs(shown).items())


@pytest.mark.parametrize(
    ("name", "rotations", "passes"),
    [
        ("original", "all", 0),
        ("rotated", "drawn", 1),
        ("rotated", "all", 4),
        ("grayscale", "all", 1),
        ("rotated_grayscale", "all", 4),
        ("simclr", "drawn", 2),
        ("rotated+simclr", "drawn", 2.25),
        ("rotated_grayscale+simclr", "all", 3),
        ("supervised", "drawn", 1),
    ],
)
def test_passes_are_the_pixels_that_go_through_the_network(name: str, rotations: str, passes: float) -> None:
    pretext, shown, _ = asked(name, batch_of(SAMPLES, 64), True, rotations=rotations)
    assert pretext.passes == passes
    assert pretext.trains == (name != "original")
    if pretext.trains:
        assert sum(images.numel() for images in shown.inputs.values()) == passes * shown.photographs.numel()


# Losses and scores


def by_photograph(values: Tensor) -> Tensor:
    """The mean over what is shown of each photograph: all in one view, then all in the next."""
    rows = [[float(values[row]) for row in range(n, len(values), len(SAMPLES))] for n in range(len(SAMPLES))]
    return torch.tensor([sum(row) / len(row) for row in rows])


@pytest.mark.parametrize("rotations", ["drawn", "all"])
@pytest.mark.parametrize("name", [*ALONE, *JOINED])
def test_losses_are_weighed_added_and_averaged_over_each_photographs_inputs(name: str, rotations: str) -> None:
    pretext, _, truths, answers = answered(name, rotations=rotations, turns_weight=0.3, colors_weight=7.0)
    weights = {"turns": 0.3, "colors": 7.0}
    expected = torch.zeros(len(SAMPLES))
    for question in pretext.questions:
        weight = weights.get(question.name, 1.0) if len(pretext.questions) > 1 else 1.0
        expected += weight * by_photograph(question.losses(answers[question.name], truths[question.name]))
    losses = pretext.losses(answers, truths, len(SAMPLES))
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected)


SCORES = {
    "rotated": {"accuracy"},
    "grayscale": {"psnr", "psnr_grey"},
    "rotated_grayscale": {"accuracy", "psnr", "psnr_grey", "loss_turns", "loss_colors"},
    "simclr": {"accuracy"},
    "supervised": {"accuracy"},
    "rotated+simclr": {"accuracy_turns", "accuracy_views", "loss_turns", "loss_views"},
    "grayscale+simclr": {"accuracy", "psnr", "psnr_grey", "loss_colors", "loss_views"},
    "rotated_grayscale+simclr": {
        *("accuracy_turns", "accuracy_views", "psnr", "psnr_grey"),
        *("loss_turns", "loss_colors", "loss_views"),
    },
    "simclr+supervised": {"accuracy_views", "accuracy_names", "loss_views", "loss_names"},
}


@pytest.mark.parametrize("name", SCORES)
def test_measures_are_named_by_their_question_where_two_have_them(name: str) -> None:
    pretext, _, truths, answers = answered(name, rotations="all")
    scores = pretext.scores(answers, truths, len(SAMPLES))
    assert set(scores) == SCORES[name]
    for question in pretext.questions:
        own = question.scores(answers[question.name], truths[question.name])
        if len(pretext.questions) > 1:
            own["loss"] = question.losses(answers[question.name], truths[question.name])
        for measure, values in own.items():
            named = scores.get(f"{measure}_{question.name}", scores.get(measure))
            assert named is not None and named.dtype == torch.float32
            torch.testing.assert_close(named, by_photograph(values))


def test_metrics_tell_the_settings_that_the_questions_ask_for() -> None:
    """And nothing of the others, which change nothing."""
    given = {"rotations": "all", "color_space": "lab", "reconstruction_loss": "l1", "turns_weight": 0.5}
    given |= {"colors_weight": 3.0, "temperature": 0.2}
    colors, weights = ("color_space", "reconstruction_loss"), ("turns_weight", "colors_weight")
    for name, asks in {
        "original": (),
        "rotated": ("rotations",),
        "grayscale": colors,
        "rotated_grayscale": ("rotations", *colors, *weights),
        "simclr": ("temperature",),
        "supervised": (),
        "grayscale+simclr": (*colors, "temperature", "colors_weight"),
        "rotated+simclr": ("rotations", "temperature", "turns_weight"),
    }.items():
        assert Pretext(name, pretraining(**given)).settings == {key: given[key] for key in asks}, name


# Heads and pictures


@pytest.mark.parametrize("name", [*ALONE, *JOINED])
def test_every_weight_that_is_trained_gets_a_gradient(name: str) -> None:
    """Else many processes would wait for it for ever; and the pooled features' norm learns where they are asked for."""
    pretext, shown, truths = asked(name, batch(), True)
    model = pretext_model(name, settings=pretext.params, identities=7).train()
    pretext.losses(model(network_inputs(shown)), truths, len(SAMPLES)).mean().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []
    assert model.backbone.layernorm.weight.requires_grad == (name != "grayscale")
    assert set(model.heads) == {question.name for question in pretext.questions}


@pytest.mark.parametrize("rotations", ["drawn", "all"])
@pytest.mark.parametrize("name", [*ALONE, *JOINED])
def test_pictures_are_sheets_that_the_galleries_can_draw(name: str, rotations: str) -> None:
    pretext, shown, truths, answers = answered(name, train=False, rotations=rotations)
    pictures = pretext.pictures(shown, answers, truths)
    files = {"turns": "turns.png", "colors": "reconstructions.png", "views": "views.png"}
    expected = [files[question.name] for question in pretext.questions if question.name in files]
    assert [picture.file for picture in pictures] == expected
    for picture in pictures:
        parameters = inspect.signature(getattr(galleries, picture.gallery)).parameters
        required = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
        assert required - {"path"} <= picture.values.keys() <= parameters.keys()
        sheets = [value for value in picture.values.values() if getattr(value, "ndim", 0) == 4]
        assert sheets and all(len(sheet) == len(SAMPLES) and sheet.dtype == "uint8" for sheet in sheets)


@pytest.mark.parametrize("rotations", ["drawn", "all"])
def test_the_picture_of_turns_shows_each_photograph_in_the_turn_that_it_was_asked_about(rotations: str) -> None:
    _, shown, truths, answers = answered("rotated", train=False, rotations=rotations)
    pretext = Pretext("rotated", pretraining(rotations=rotations))
    (picture,) = pretext.pictures(shown, answers, truths)
    upright = batch().images
    told = answers["turns"].argmax(1)
    for n in range(len(SAMPLES)):
        k = int(picture.values["true"][n])
        row = n + len(SAMPLES) * (n % 4) if rotations == "all" else n
        assert k == int(truths["turns"][row])
        assert int(picture.values["predicted"][n]) == int(told[row])
        turned = torch.rot90(upright[n], k, (1, 2)).permute(1, 2, 0).numpy()
        assert (picture.values["inputs"][n] == turned).all()
    if rotations == "all":
        assert len(set(picture.values["true"].tolist())) == 4
