"""Distillation: what a teacher sees and says, against transformers' own; what the student must answer; no trace of it."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    BertConfig,
    BertModel,
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextImageProcessor,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    IJepaConfig,
    IJepaModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from facerep.core.errors import FacerepError
from facerep.evaluate.pretext_pictures import draw_pretext
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch, FacePixels
from facerep.faces.roles import read_selection
from facerep.faces.transforms import denormalize
from facerep.nets import convnext
from facerep.params import Pretrain, load_params
from facerep.pretrain import stage
from facerep.pretrain.model import PretextModel, load_pretext_model, save_pretext_model
from facerep.pretrain.pretext import Pretext
from facerep.pretrain.stage import PretextTask, pretrain
from facerep.pretrain.teacher_network import load_teacher
from tests.support.paths import ROOT

KNOWN = load_params(ROOT / "params.yaml")
SIDE = 48  # of the teachers' input; photographs of 32 are enlarged, of 80 made smaller
SMALL: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16} | SMALL
WIDTHS = [8, 8, 16, 16]  # of ConvNeXt's stages
TO_SIDE = {"size": {"shortest_edge": SIDE}}
CROP = {"crop_size": {"height": SIDE, "width": SIDE}}


def vision_of(model: Any) -> Any:
    return model.vision_model


def itself(model: Any) -> Any:
    return model


# name: model, image processor, what transformers loads the folder as, the part that sees, its features, the pooling's name
TEACHERS: dict[str, tuple[Any, Any, Any, Any, Any, str]] = {
    "vit": (
        lambda: ViTModel(ViTConfig(**VIT)),
        lambda: ViTImageProcessor(size={"height": SIDE, "width": SIDE}),
        ViTModel,
        itself,
        lambda out: out.pooler_output,
        "pooler_output",
    ),
    "vit_classifier": (  # its folder has no pooler: transformers would draw one
        lambda: ViTForImageClassification(ViTConfig(**VIT)),
        lambda: ViTImageProcessor(size={"height": SIDE, "width": SIDE}, resample=3),
        ViTModel,
        itself,
        lambda out: out.last_hidden_state[:, 0],
        "class token",
    ),
    "dinov2": (
        lambda: Dinov2Model(Dinov2Config(hidden_size=16, patch_size=12, image_size=60, **SMALL)),
        lambda: BitImageProcessor(size={"shortest_edge": 56}, image_mean=[0.5, 0.4, 0.3], image_std=[0.2] * 3, **CROP),
        Dinov2Model,
        itself,
        lambda out: out.pooler_output,
        "pooler_output",
    ),
    "clip": (
        lambda: CLIPModel(
            CLIPConfig(text_config={"vocab_size": 30, "hidden_size": 16} | SMALL, vision_config=VIT, projection_dim=8)
        ),
        lambda: CLIPImageProcessor(**TO_SIDE, **CROP),
        CLIPModel,
        vision_of,
        lambda out: out.pooler_output,
        "pooler_output",
    ),
    "convnext": (
        lambda: ConvNextForImageClassification(ConvNextConfig(depths=[1] * 4, hidden_sizes=WIDTHS)),
        lambda: ConvNextImageProcessor(**TO_SIDE),
        ConvNextModel,
        itself,
        lambda out: out.pooler_output,
        "pooler_output",
    ),
    "resnet": (  # its features are N×C×1×1
        lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=WIDTHS, depths=[1] * 4, layer_type="basic")),
        lambda: ConvNextImageProcessor(**TO_SIDE),
        ResNetModel,
        itself,
        lambda out: out.pooler_output[:, :, 0, 0],
        "pooler_output",
    ),
    "ijepa": (  # neither a pooler nor a class token
        lambda: IJepaModel(IJepaConfig(**VIT)),
        lambda: ViTImageProcessor(size={"height": SIDE, "width": SIDE}),
        IJepaModel,
        itself,
        lambda out: out.last_hidden_state.mean(1),
        "mean",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of TEACHERS, with random weights, as transformers saves them."""
    place = tmp_path_factory.mktemp("teachers")
    for name, (model, processor, *_) in TEACHERS.items():
        torch.manual_seed(len(name))
        made = model()
        for weight in [parameter for parameter in made.parameters() if parameter.ndim > 1]:
            nn.init.normal_(weight, std=0.2)  # at transformers' 0.02 nearly all photographs look alike
        made.save_pretrained(place / name)
        processor().save_pretrained(place / name)
    return place


@pytest.fixture
def spoiled(folders: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of a teacher's folder, with some values of a JSON file changed."""

    def spoil(name: str, file: str = "preprocessor_config.json", **changes: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(folders / name, folder)
        values = json.loads((folder / file).read_text()) | changes
        (folder / file).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
        return folder

    return spoil


def photographs(number: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    """Smooth noise in [0, 1], so that what is between two pixels matters little."""
    coarse = torch.rand(number, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)


def settings(teacher: Path | str | None = None, **changes: Any) -> Pretrain:
    small = {"batch_size": 16, "learning_rate": 0.01, "val_fraction": 0.1, "test_fraction": 0.1}
    return KNOWN.pretrain.model_copy(update=small | {"teacher": None if teacher is None else str(teacher)} | changes)


def batch_of(images: Tensor) -> Batch:
    numbers = torch.arange(len(images))
    return Batch((images * 255).round().byte(), numbers, numbers + 40)


# The teacher's own network


@pytest.mark.parametrize("side", [32, 80])
@pytest.mark.parametrize("name", TEACHERS)
def test_features_are_those_of_transformers_own_processor_and_model(name: str, side: int, folders: Path) -> None:
    _, _, kind, part, features, pooling = TEACHERS[name]
    images = photographs(side=side)
    processor = AutoImageProcessor.from_pretrained(folders / name)
    whole = {"convnext": {"crop_pct": 1.0}, "resnet": {"crop_pct": 1.0}, "dinov2": TO_SIDE}.get(name, {})
    pixels = processor(list(images), do_rescale=False, return_tensors="pt", **whole)["pixel_values"]
    assert pixels.shape == (3, 3, SIDE, SIDE)
    model = part(kind.from_pretrained(folders / name)).eval()
    with torch.no_grad():
        known = features(model(pixel_values=pixels))
    network = load_teacher(str(folders / name))
    found = network(images)
    assert (network.pooling, network.width, found.dtype) == (pooling, 16, torch.float32)
    torch.testing.assert_close(found, known, rtol=1e-4, atol=1e-5)
    assert known.std(0).mean() > 0.01, "photographs differ"


def test_a_photograph_of_the_teachers_size_is_not_resampled(folders: Path) -> None:
    images = photographs(side=SIDE)
    pixels = (images - 0.5) / 0.5
    with torch.no_grad():
        known = ViTModel.from_pretrained(folders / "vit").eval()(pixel_values=pixels).pooler_output
    torch.testing.assert_close(load_teacher(str(folders / "vit"))(images), known)


def test_it_does_not_train(folders: Path) -> None:
    network = load_teacher(str(folders / "vit"))
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.model.modules())
    assert not network(photographs().requires_grad_()).requires_grad
    assert network(photographs(0)).shape == (0, 16), "the share of a process that goes without"


def test_loading_uses_up_no_random_draw(folders: Path) -> None:
    """Else the student's head would start from other weights: here transformers draws a pooler."""
    before = torch.get_rng_state()
    load_teacher(str(folders / "vit_classifier"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_old_processor_says_its_size_in_a_number_and_leaves_out_the_rest(spoiled: Any, folders: Path) -> None:
    """As google/vit-base-patch16-224 has it: bilinear is the ViT's default."""
    old = spoiled("vit", size=SIDE, resample=None, rescale_factor=None, do_rescale=None, image_processor_type=None)
    same, known = load_teacher(str(old)), load_teacher(str(folders / "vit"))
    assert torch.equal(same(photographs()), known(photographs()))


def test_a_processor_that_lies_in_the_file_of_a_greater_one_is_found(spoiled: Any, folders: Path) -> None:
    folder = spoiled("clip")
    own = folder / "preprocessor_config.json"
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(own.read_text())}))
    own.unlink()
    assert torch.equal(load_teacher(str(folder))(photographs()), load_teacher(str(folders / "clip"))(photographs()))


def refused(name: str | Path) -> str:
    with pytest.raises(FacerepError) as why:
        load_teacher(str(name))
    said = str(why.value)
    assert said.startswith(f"pretrain.teacher = {str(name)!r}: ")
    assert said.endswith((".", ").")) and "\n" not in said, said
    return said


def test_what_is_no_teacher_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "neither a folder nor a model that huggingface.co gave us (" in refused("nobody/that-is-not-there")
    assert "neither a folder nor a model" in refused("dinov2")
    assert "holds no model of transformers (no config.json)" in refused(tmp_path)
    BertModel(BertConfig(vocab_size=30, hidden_size=16, **SMALL)).save_pretrained(tmp_path / "bert")
    assert "is a bert; a teacher must be a model that sees photographs" in refused(tmp_path / "bert")
    ViTMAEModel(ViTMAEConfig(**VIT)).save_pretrained(tmp_path / "mae")
    assert "no preprocessor_config.json" in refused(tmp_path / "mae")
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path / "mae")
    said = refused(tmp_path / "mae")  # it hides three quarters of the photograph, at random
    assert "this vit_mae cannot teach (gives other features each time that it sees the same photograph)" in said


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order = True"),
        ({"rescale_offset": True}, "rescale_offset = True"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor = 0.0078"),
        ({"size": None}, "names no size"),
        ({"image_mean": None}, "names no image_mean and image_std of three channels"),
        ({"image_std": [0.5]}, "names no image_mean and image_std of three channels"),
        ({"size": {"height": 30, "width": 30}}, "this vit cannot teach (Input image size (30*30)"),
    ],
)
def test_a_processor_that_is_not_followed_is_refused(changes: dict[str, Any], why: str, spoiled: Any) -> None:
    assert why in refused(spoiled("vit", **changes))


def test_a_teacher_whose_weights_are_not_all_there_is_refused(spoiled: Any) -> None:
    """Transformers would draw them anew."""
    folder = spoiled("vit")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layernorm.weight"))
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    assert "1 of its weights are not there, layernorm.weight for one" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert "this vit cannot teach (" in refused(folder)
    (folder / "config.json").write_text("{")
    assert "config.json" in refused(folder)


def test_distillation_without_a_teacher_is_refused_before_any_work(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    for pretext in ("distillation", "rotated+distillation"):
        file = tmp_path / "params.yaml"
        file.write_text(text.replace("pretext: rotated_grayscale ", f"pretext: {pretext} "))
        with pytest.raises(
            FacerepError, match=rf"pretrain\.teacher = null: pretext = {pretext.replace('+', '.')} learns"
        ):
            load_params(file)
        file.write_text(file.read_text().replace("teacher: null ", "teacher: facebook/dinov2-small "))
        assert load_params(file).pretrain.teacher == "facebook/dinov2-small"


# The question


@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 99))
def test_losses_and_scores_by_hand(number: int, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    answer, taught = draw.normal(size=(2, number, width)).astype(np.float32)

    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.from_numpy(taught)

    for kind in ("cosine", "mse"):
        pretext = Pretext("distillation", settings("anything", teacher_loss=kind))
        (question,) = pretext.questions
        question.network = Fixed()  # type: ignore[attr-defined]
        _, truths = pretext.ask(batch_of(photographs(number)), Draws(0, 0), train=False)
        goal = taught.astype(float)
        if kind == "mse":
            goal = (goal - goal.mean(1, keepdims=True)) / np.sqrt(goal.var(1, keepdims=True) + 1e-5)
        cosine = (answer * goal).sum(1) / np.linalg.norm(answer, axis=1) / np.linalg.norm(goal, axis=1)
        known = 1 - cosine if kind == "cosine" else ((answer - goal) ** 2).mean(1)
        answers = {"teacher": torch.from_numpy(answer)}
        np.testing.assert_allclose(pretext.losses(answers, truths, number), known, rtol=1e-4, atol=1e-5)
        scores = pretext.scores(answers, truths, number)
        assert scores.keys() == {"cosine"}
        np.testing.assert_allclose(scores["cosine"], cosine, rtol=1e-4, atol=1e-5)
        perfect = {"teacher": torch.from_numpy(goal.astype(np.float32))}
        np.testing.assert_allclose(pretext.losses(perfect, truths, number), 0, atol=1e-5)


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_a_student_that_knows_what_the_teacher_knows_has_no_loss(kind: str, folders: Path) -> None:
    """The teacher's own network for a student, with a head that changes nothing, on photographs as it wants them."""
    backbone = ConvNextModel.from_pretrained(folders / "convnext")
    pretext = Pretext("distillation", settings(folders / "convnext", teacher_loss=kind))
    model = PretextModel(backbone, pretext)
    layer = model.heads["teacher"].layers  # type: ignore[union-attr]
    nn.init.eye_(layer.weight)
    nn.init.zeros_(layer.bias)
    task = PretextTask(pretext)
    inputs, truth = task.prepare(batch_of(photographs(4, SIDE)), Draws(0, 0), train=False)
    inputs = {"shared": (denormalize(inputs["shared"]) - 0.5) / 0.5}  # as this teacher wants them
    with torch.no_grad():
        answers = model(inputs)
        if kind == "mse":  # it aims at standardised features, which no linear layer makes
            answers = {"teacher": nn.functional.layer_norm(answers["teacher"], (16,))}
    assert task.losses(answers, truth).abs().max() < 1e-5
    assert task.scores(answers, truth)["cosine"].min() > 1 - 1e-5
    wrong = {"teacher": answers["teacher"].flip(0)}
    assert task.losses(wrong, truth).min() > 1e-3, "and of another photograph it would have"


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("name", "inputs"),
    [("rotated+distillation", 4), ("grayscale+distillation", 1), ("rotated_grayscale+distillation", 4)],
)
def test_the_teacher_sees_the_crop_that_is_shown_neither_turned_nor_grey(
    name: str, inputs: int, train: bool, folders: Path
) -> None:
    chosen = settings(folders / "vit", rotations="all", min_crop_area=0.3, degrees=10.0)
    batch, draws = batch_of(photographs(4)), Draws(3, 1)
    plain, _ = Pretext("distillation", chosen).ask(batch, draws, train)
    shown, truths = Pretext(name, chosen).ask(batch, draws, train)
    crops = truths["teacher"].crops
    assert torch.equal(crops, plain.inputs["shared"]), "what the student is shown where nothing else is asked"
    assert torch.equal(crops, shown.photographs) != train
    assert len(shown.inputs["shared"]) == 4 * inputs
    assert not torch.equal(shown.inputs["shared"][-4:], crops)
    network = load_teacher(str(folders / "vit"))
    assert torch.equal(truths["teacher"].of(4 * inputs), torch.cat([network(crops)] * inputs))


@pytest.mark.parametrize("name", ["simclr+distillation", "rotated_grayscale+simclr+distillation"])
def test_each_view_has_features_of_its_own(name: str, folders: Path) -> None:
    chosen = settings(folders / "vit", min_crop_area=0.3)
    pretext = Pretext(name, chosen)
    batch = batch_of(photographs(4, 64))
    shown, truths = pretext.ask(batch, Draws(0, 0), train=True)
    features = truths["teacher"].of(8)
    assert features.shape == (8, 16)
    assert torch.equal(truths["teacher"].crops[4:], shown.inputs["shared"][4:]), "the second view is never grey"
    assert (features[:4] - features[4:]).abs().amax(1).min() > 1e-3
    model = PretextModel(ConvNextModel(ConvNextConfig(depths=[1] * 4, hidden_sizes=WIDTHS)), pretext)
    task = PretextTask(pretext)
    answers = model(task.prepare(batch, Draws(0, 0), train=True)[0])
    assert answers["teacher"].shape == (8, 16)
    assert task.losses(answers, (4, truths)).shape == (4,)
    scores = task.scores(answers, (4, truths))
    assert scores["cosine"].shape == scores["loss_teacher"].shape == (4,)


def test_it_computes_in_bf16_where_the_run_does(folders: Path) -> None:
    batch = batch_of(photographs(4))
    pretext = Pretext("distillation", settings(folders / "vit"))
    fp32, bf16 = (
        PretextTask(pretext, bf16=asked).prepare(batch, Draws(0, 0), True)[1][1]["teacher"].of(4)
        for asked in (False, True)
    )
    assert fp32.dtype == bf16.dtype == torch.float32
    assert 1e-5 < (fp32 - bf16).abs().max() < 0.1


# The stage


@pytest.fixture
def staged(
    data_folder: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_accelerate: Any
) -> Callable[..., dict[str, Any]]:
    """Runs the stage on the pretraining faces, with an atto of a few thousand weights."""
    monkeypatch.setitem(convnext.SIZES, "atto", ((1, 1, 1, 1), tuple(WIDTHS)))

    def run(place: str, pretext: str = "distillation", teacher: Path = folders / "dinov2", **changes: Any) -> Any:
        fresh_accelerate()
        changed = {
            "pretext": pretext,
            "pretrain": settings(teacher, **{"epochs": 4} | changes),
            "model": KNOWN.model.model_copy(update={"image_size": 32}),
            "device": "cpu",
            "threads": 1,
        }
        out = tmp_path / place
        monkeypatch.setenv("FACEREP_SCRATCH", str(out / "scratch"))  # of its own: it begins anew
        params = KNOWN.model_copy(update=changed)
        return pretrain(params, data_folder, out / "pretrained", out / "curves", out / "speed.json")

    return run


def result_of(place: Path) -> dict[str, bytes]:
    files = (place / "pretrained").iterdir(), (place / "curves").iterdir()
    return {path.name: path.read_bytes() for folder in files for path in folder if path.is_file()}


@pytest.mark.parametrize("kind", ["cosine", "mse"])
def test_a_student_comes_nearer_to_its_teacher(kind: str, staged: Any, tmp_path: Path, folders: Path) -> None:
    metrics = staged("a", teacher_loss=kind, epochs=6)
    assert metrics["variant"] == {"teacher": str(folders / "dinov2"), "teacher_loss": kind}
    assert metrics["val"].keys() == {"photographs", "loss", "cosine"}
    curve = [row["val/loss"] for row in json.loads((tmp_path / "a" / "curves" / "curves.json").read_text())]
    assert curve[-1] < 0.6 * curve[0]
    if kind == "cosine":
        assert metrics["val"]["loss"] == pytest.approx(1 - metrics["val"]["cosine"], abs=1e-6)


class Stopped(PretextTask):
    """At its sixth batch the process is asked to stop."""

    batches = 0

    def prepare(self, batch: Batch, draws: Draws, train: bool) -> Any:
        self.batches += 1
        if self.batches == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().prepare(batch, draws, train)


def test_a_run_that_was_stopped_ends_with_the_same_bits_and_holds_no_weight_of_the_teacher(
    staged: Any, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(folders / "dinov2", teacher)
    staged("a", teacher=teacher)
    with monkeypatch.context() as patch, pytest.raises(FacerepError, match="stopped by SIGTERM"):
        patch.setattr(stage, "PretextTask", Stopped)
        staged("b", teacher=teacher)
    saved = torch.load(max((tmp_path / "b" / "scratch").rglob("*.pt")), weights_only=True)  # the last one
    own = {name for name in saved["model"] if name.startswith("heads.")}
    assert own == {"heads.teacher.layers.weight", "heads.teacher.layers.bias"}
    student = ConvNextModel(ConvNextConfig(depths=[1] * 4, hidden_sizes=WIDTHS))
    assert saved["model"].keys() - own == {f"backbone.{name}" for name in student.state_dict()}
    assert len(saved["optimizer"]["state"]) == len(saved["model"]), "an entry for each of the student's own"
    capsys.readouterr()
    staged("b", teacher=teacher)
    assert "going on in epoch 2" in capsys.readouterr().out
    assert result_of(tmp_path / "a") == result_of(tmp_path / "b")
    head = load_file(tmp_path / "a" / "pretrained" / "pretext_head.safetensors")
    assert head.keys() == {"teacher.layers.weight", "teacher.layers.bias"}
    assert load_file(tmp_path / "a" / "pretrained" / "model.safetensors").keys() == student.state_dict().keys()


def test_what_another_teacher_left_is_not_gone_on_with(
    staged: Any, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the same name, in the same folder."""
    teacher = tmp_path / "teacher"
    shutil.copytree(folders / "dinov2", teacher)
    with monkeypatch.context() as patch, pytest.raises(FacerepError, match="stopped by SIGTERM"):
        patch.setattr(stage, "PretextTask", Stopped)
        staged("a", teacher=teacher)
    weights = load_file(teacher / "model.safetensors")
    save_file({name: 2 * value for name, value in weights.items()}, teacher / "model.safetensors", {"format": "pt"})
    capsys.readouterr()
    staged("a", teacher=teacher, epochs=4)
    assert "going on" not in capsys.readouterr().out


def test_a_relative_folder_is_taken_from_the_repositorys_root(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the copies that DVC makes for its experiments, too."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "one"
    (copy / ".dvc").mkdir(parents=True)
    shutil.copytree(folders / "vit", tmp_path / "teachers" / "vit")
    monkeypatch.chdir(copy)
    pretext = Pretext("distillation", settings("teachers/vit"))
    assert load_teacher("teachers/vit").width == 16
    assert pretext.files == sorted((tmp_path / "teachers" / "vit").iterdir())
    assert Pretext("distillation", settings("facebook/dinov2-small")).files == []
    assert Pretext("rotated", settings("teachers/vit")).files == [], "nobody asks it"


def test_the_student_is_loaded_and_shown_when_the_teacher_is_gone(
    data_folder: Path, folders: Path, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(folders / "vit", teacher)
    pretext = Pretext("rotated+distillation", settings(teacher))
    model = PretextModel(ConvNextModel(ConvNextConfig(depths=[1] * 4, hidden_sizes=WIDTHS)), pretext)
    save_pretext_model(model, pretext, tmp_path / "pretrained")
    shutil.rmtree(teacher)
    found = load_pretext_model(tmp_path / "pretrained")
    assert found is not None
    for name, value in model.state_dict().items():
        assert torch.equal(found[1].state_dict()[name], value)
    pixels = FacePixels(data_folder / "faces", read_selection(data_folder / "selection.parquet", "test"), 32)
    (tmp_path / "pictures").mkdir()
    draw_pretext(tmp_path / "pictures", *found, pixels, 0, torch.device("cpu"))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["turns.png"]
