"""Models: the published sizes, the same weights from the same seed, and folders that transformers loads by itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ViTConfig,
    ViTForImageClassification,
)

from facerep.core.errors import FacerepError
from facerep.faces.transforms import normalize, to_float
from facerep.nets.convnext import (
    SIZES,
    build_backbone,
    freeze,
    image_processor,
    load_backbone,
    load_classifier,
    new_classifier,
)
from facerep.nets.groups import parameter_groups
from facerep.params import Model

NAMES = ["n000002", "n000007", "n000009"]
# timm's published parameter counts with a head of 1000 classes, and those of the ConvNeXt paper's Table 1 (in millions)
PUBLISHED = {"atto": 3.70, "femto": 5.22, "pico": 9.05, "nano": 15.59, "tiny": 28.59, "small": 50.22, "base": 88.59}


def settings(name: str = "atto") -> Model:
    return Model(name=name, image_size=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of a few thousand weights, saved as the pretrain stage does."""
    out = tmp_path_factory.mktemp("models") / "pretrained"
    torch.manual_seed(5)
    ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 2], hidden_sizes=[8, 8, 16, 16])).save_pretrained(out)
    image_processor(32).save_pretrained(out)
    return out


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def assert_same(a: nn.Module, b: nn.Module) -> None:
    assert weights(a).keys() == weights(b).keys()
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


@pytest.mark.parametrize("name", SIZES)
def test_sizes_have_the_published_numbers_of_weights(name: str) -> None:
    with torch.device("meta"):
        backbone = build_backbone(settings(name), 0)
    head = backbone.config.hidden_sizes[-1] * 1000 + 1000
    count = sum(p.numel() for p in backbone.parameters()) + head
    assert count / 1e6 == pytest.approx(PUBLISHED[name], abs=0.006)


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first = build_backbone(settings(), 3)
    torch.rand(100)
    assert_same(first, build_backbone(settings(), 3))
    other = weights(build_backbone(settings(), 4))
    assert any(not torch.equal(value, other[name]) for name, value in weights(first).items())
    assert first.config.image_size == 32


def test_a_local_folder_gives_its_weights_and_takes_the_settings(folder: Path) -> None:
    backbone = build_backbone(settings(str(folder)), 0, drop_path=0.2)
    assert_same(backbone, AutoModel.from_pretrained(folder))
    assert backbone.config.drop_path_rate == 0.2
    assert backbone.config.image_size == 32


def test_what_is_saved_loads_with_auto_classes_and_gives_the_same_outputs(
    folder: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    ours = new_classifier(folder, NAMES, seed=1, drop_path=0.5).eval()
    ours = ours.to(memory_format=torch.channels_last)  # as training leaves it
    ours.save_pretrained(tmp_path / "finetuned")
    theirs = AutoModelForImageClassification.from_pretrained(tmp_path / "finetuned").eval()
    assert type(theirs) is ConvNextForImageClassification
    assert theirs.config.id2label == dict(enumerate(NAMES))
    assert theirs.config.label2id == {name: n for n, name in enumerate(NAMES)}
    with torch.no_grad():
        assert torch.allclose(theirs(images).logits, ours(images).logits, atol=1e-6)
        assert torch.allclose(
            AutoModel.from_pretrained(folder).eval()(images).pooler_output,
            load_backbone(folder).eval()(images).pooler_output,
            atol=1e-6,
        )
    assert_same(load_classifier(tmp_path / "finetuned"), ours)
    assert list(load_file(tmp_path / "finetuned" / "model.safetensors")) != []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_half_precision_are_loaded_in_single(dtype: torch.dtype, folder: Path, tmp_path: Path) -> None:
    """transformers keeps the precision of the file, in which fine-tuning would then go on."""
    load_backbone(folder).to(dtype).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).dtype == dtype, "else there is nothing to mend"
    for model in (
        load_backbone(tmp_path),
        new_classifier(tmp_path, ["a", "b"], seed=0),
        build_backbone(Model(name=str(tmp_path), image_size=32), seed=0),
    ):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, value in load_backbone(tmp_path).state_dict().items():
        assert torch.equal(value, load_backbone(folder).state_dict()[name].to(dtype).float())


def test_the_classifier_starts_from_the_backbone_with_a_head_from_the_seed(folder: Path) -> None:
    one, same, other = (new_classifier(folder, NAMES, seed=seed) for seed in (1, 1, 2))
    assert_same(one, same)
    assert_same(one.convnext, load_backbone(folder))
    assert_same(other.convnext, one.convnext)
    assert one.classifier.weight.shape == (3, 16)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.classifier.weight.std() > 0
    assert new_classifier(folder, NAMES, seed=1, drop_path=0.3).config.drop_path_rate == 0.3


def test_drop_path_is_at_work_in_training_and_only_there(folder: Path, images: torch.Tensor) -> None:
    """Stochastic depth: no two passes alike in training, where the layer scales are not next to nothing."""
    model = new_classifier(folder, NAMES, seed=1, drop_path=0.9)
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:
            nn.init.ones_(parameter)
    with torch.no_grad():
        model.train()
        assert len({model(images).logits.sum().item() for _ in range(8)}) > 1
        model.eval()
        assert len({model(images).logits.sum().item() for _ in range(3)}) == 1


@pytest.mark.parametrize("size", [32, 64])
def test_the_image_processor_comes_back_and_resizes_the_whole_photograph(size: int, tmp_path: Path) -> None:
    image_processor(size).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    photograph = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    got = processor(Image.fromarray(photograph), return_tensors="pt")["pixel_values"]
    assert torch.allclose(got, normalize(to_float(torch.from_numpy(photograph).permute(2, 0, 1)[None])), atol=1e-6)
    # nothing is cut off: a frame in the outermost pixels is still there in an image of twice the size
    framed = np.zeros((2 * size, 2 * size, 3), np.uint8)
    framed[:4], framed[-4:], framed[:, :4], framed[:, -4:] = 255, 255, 255, 255
    small = processor(Image.fromarray(framed), return_tensors="pt")["pixel_values"][0]
    assert small.shape == (3, size, size)
    assert (small[:, [0, -1]] > 1.5).all()
    assert (small[:, :, [0, -1]] > 1.5).all()


def test_biases_norms_and_layer_scales_do_not_decay(folder: Path) -> None:
    model = new_classifier(folder, NAMES, seed=0)
    decays, rest = parameter_groups(model, 0.05)
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.05, 0.0)
    name_of = {id(p): name for name, p in model.named_parameters()}
    decaying = {name_of[id(p)] for p in decays["params"]}
    kept = {name_of[id(p)] for p in rest["params"]}
    assert decaying | kept == set(name_of.values())
    assert not decaying & kept
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    assert decaying == {f"{name}.weight" for name in layers}
    assert {name for name in name_of.values() if "layer_scale" in name or name.endswith("bias")} <= kept


# layers by the authors' get_num_layer_for_convnext (facebookresearch/ConvNeXt, optim_factory.py); the top one has scale 1
ATTO_LAYERS = {
    "embeddings.": 0,
    "encoder.stages.0.": 1,
    "encoder.stages.1.": 2,
    "encoder.stages.2.downsampling_layer.": 3,
    **{f"encoder.stages.2.layers.{block}.": layer for block, layer in enumerate([3, 3, 3, 4, 4, 4])},
    "encoder.stages.3.": 5,
    "layernorm.": 6,
}
THREES = [3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 10, 11, 11, 11]
BASE_LAYERS = {
    "embeddings.": 0,
    "encoder.stages.0.": 1,
    "encoder.stages.1.": 2,
    "encoder.stages.2.downsampling_layer.": 3,
    **{f"encoder.stages.2.layers.{block}.": layer for block, layer in enumerate(THREES)},
    "encoder.stages.3.": 12,
    "layernorm.": 13,
}
DEPTHS = {(2, 2, 6, 2): ATTO_LAYERS, (3, 3, 27, 3): BASE_LAYERS}


def narrow(depths: tuple[int, ...], kind: str) -> nn.Module:
    config = ConvNextConfig(depths=list(depths), hidden_sizes=[4, 4, 8, 8], num_labels=3)
    if kind == "classifier":
        return ConvNextForImageClassification(config)
    return pretext_like(ConvNextModel(config))


def pretext_like(backbone: nn.Module) -> nn.Module:
    """A backbone and heads, under the names that facerep.pretrain.model gives them."""
    return nn.ModuleDict({"backbone": backbone, "heads": nn.ModuleDict({"turns": nn.Linear(8, 4)})})


@pytest.mark.parametrize("kind", ["classifier", "pretext"])
@pytest.mark.parametrize("depths", DEPTHS)
def test_the_learning_rate_decays_by_layer_as_in_the_authors_own_code(depths: tuple[int, ...], kind: str) -> None:
    model, layers = narrow(depths, kind), DEPTHS[depths]
    top = layers["layernorm."]
    groups = parameter_groups(model, 0.05, 0.7)
    found = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        bare = name.removeprefix("convnext.").removeprefix("backbone.")
        layer = next((layer for prefix, layer in layers.items() if bare.startswith(prefix)), top)
        scale, decay = found[id(parameter)]
        assert scale == pytest.approx(0.7 ** (top - layer)), name
        assert decay == (0.05 if parameter.ndim > 1 else 0.0), name
    assert len(groups) == 2 * (top + 1)


def test_groups_that_agree_are_one_and_come_in_the_same_order_every_time() -> None:
    model = narrow((2, 2, 6, 2), "classifier")
    for changes, expected in {
        (0.05, 1.0): [(1.0, 0.05), (1.0, 0.0)],
        (0.0, 1.0): [(1.0, 0.0)],
        (0.0, 0.5): [(0.5**n, 0.0) for n in range(6, -1, -1)],
        (0.1, 0.5): [(0.5**n, decay) for n in range(6, -1, -1) for decay in (0.1, 0.0)],
    }.items():
        groups = parameter_groups(model, *changes)
        assert [(group["lr_scale"], group["weight_decay"]) for group in groups] == expected
    place = {id(p): n for n, p in enumerate(model.parameters())}
    for group in groups:
        places = [place[id(p)] for p in group["params"]]
        assert places == sorted(places)
    torch.optim.AdamW(groups, lr=1.0)  # refuses a weight that stands in two groups


def test_what_does_not_decay_is_timms_choice() -> None:
    """timm 1.0's param_groups_weight_decay for convnext_atto: 41 tensors decay and 87 do not."""
    with torch.device("meta"):
        model = ConvNextForImageClassification(
            ConvNextConfig(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320], num_labels=1000)
        )
    groups = parameter_groups(model, 0.05)
    assert [len(group["params"]) for group in groups] == [41, 87]
    assert [sum(p.numel() for p in group["params"]) for group in groups] == [3_676_080, 19_440]


def test_freezing_does_not_change_the_scales_of_what_is_trained() -> None:
    middle = narrow((2, 2, 6, 2), "classifier")
    middle.convnext.encoder.stages[1].requires_grad_(False)
    scales = [group["lr_scale"] for group in parameter_groups(middle, 0.0, 0.5)]
    assert scales == [0.5**n for n in (6, 5, 3, 2, 1, 0)]
    model = narrow((2, 2, 6, 2), "classifier")
    freeze(model, "last_stage")
    assert {group["lr_scale"] for group in parameter_groups(model, 0.05, 0.5)} == {0.5, 1.0}
    freeze(model, "head")
    assert {group["lr_scale"] for group in parameter_groups(model, 0.05, 0.5)} == {1.0}


@pytest.mark.parametrize(
    ("trainable", "prefixes"),
    [
        ("all", ("convnext.", "classifier.")),
        ("last_stage", ("convnext.encoder.stages.3.", "convnext.layernorm.", "classifier.")),
        ("head", ("classifier.",)),
    ],
)
def test_freeze_leaves_trainable_what_it_says(folder: Path, trainable: str, prefixes: tuple[str, ...]) -> None:
    model = new_classifier(folder, NAMES, seed=0)
    freeze(model, trainable)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == name.startswith(prefixes), name
    groups = parameter_groups(model, 0.05)
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    for load in (load_backbone, load_classifier, lambda folder: new_classifier(folder, NAMES, 0)):
        with pytest.raises(FacerepError, match=r"nowhere: holds no model.*dvc"):
            load(tmp_path / "nowhere")
    with pytest.raises(FacerepError, match=r"model\.name = "):
        build_backbone(settings(str(tmp_path)), 0)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    """Its weights would all be new and random, and nobody would know."""
    small = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32)
    ViTForImageClassification(small).save_pretrained(tmp_path / "vit")
    with pytest.raises(FacerepError, match=r"vit'?: is a vit; facerep needs a convnext"):
        build_backbone(settings(str(tmp_path / "vit")), 0)
    for load in (load_backbone, load_classifier, lambda folder: new_classifier(folder, NAMES, 0)):
        with pytest.raises(FacerepError, match=r"vit: .*convnext"):
            load(tmp_path / "vit")


def test_a_broken_model_folder_is_named(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    load_backbone(folder).save_pretrained(broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FacerepError, match="broken: cannot be loaded"):
        load_backbone(broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(FacerepError, match="broken: cannot be loaded"):
        load_backbone(broken)
    with pytest.raises(FacerepError, match="broken: cannot be loaded"):
        build_backbone(settings(str(broken)), 0)
    (broken / "config.json").write_text("{")
    with pytest.raises(FacerepError, match="broken: cannot be loaded"):
        load_backbone(broken)


def test_weights_that_do_not_fit_the_config_are_refused(folder: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    load_backbone(folder).save_pretrained(wrong)
    config = json.loads((wrong / "config.json").read_text())
    config["hidden_sizes"] = [8, 8, 16, 32]
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(FacerepError, match="wrong: cannot be loaded"):
        load_backbone(wrong)


def test_a_model_name_that_is_not_there_is_a_sentence_without_a_network_too() -> None:
    """In a process of its own, since transformers reads HF_HUB_OFFLINE when it is imported."""
    names = ["nobody/convnext-that-is-not-there", "attoo", "../no such name!"]
    code = f"""
from facerep.core.errors import FacerepError
from facerep.nets.convnext import build_backbone
from facerep.params import Model
for name in {names!r}:
    try:
        build_backbone(Model(name=name, image_size=32), 0)
    except FacerepError as error:
        print(error)
"""
    environment = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    sentences = done.stdout.splitlines()
    assert len(sentences) == len(names)
    for name, sentence in zip(names, sentences, strict=True):
        assert sentence.startswith(f"model.name = {name!r}: neither one of atto, femto")
        assert sentence.endswith(").")
