"""Starting weights that people have: each original class with random weights, in a folder, compared with what we load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    ConvNextV2Config,
    ConvNextV2ForImageClassification,
    ConvNextV2Model,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
)

from facerep.core.errors import FacerepError
from facerep.faces.transforms import IMAGENET_MEAN, IMAGENET_STD
from facerep.nets.convnext import (
    build_backbone,
    freeze,
    image_processor,
    load_backbone,
    load_classifier,
    new_classifier,
    reset_last_stage,
)
from facerep.nets.fast import make_fast
from facerep.nets.features import stages_of
from facerep.nets.groups import parameter_groups
from facerep.params import Model

DEPTHS, WIDTHS, NAMES = [1, 2, 2, 1], [8, 12, 16, 24], ["ann", "bob", "cem"]


def settings(name: object, layer_scale: float = 0.1) -> Model:
    return Model(name=str(name), image_size=64, layer_scale=layer_scale)


def stirred(model: nn.Module) -> Any:
    """The model in eval, each weight moved by chance: what is left out, drawn anew or exchanged is seen."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def assert_gives(backbone: nn.Module, images: Tensor, last_map: Tensor, pooled: Tensor) -> None:
    """The last map and the pooled output, by transformers' own forward and by the fast blocks."""
    for quick in (False, True):
        if quick:
            make_fast(backbone)
        with torch.no_grad():
            got = backbone.eval()(images)
        assert last_map.std() > 0.1
        assert (got.last_hidden_state - last_map).abs().max() < 1e-5 * max(1, last_map.abs().max())
        assert (got.pooler_output - pooled).abs().max() < 1e-5 * max(1, pooled.abs().max())


def assert_goes_through_the_stages(backbone: nn.Module, kind: type, images: Tensor, place: Path) -> None:
    """Saved, it is transformers' own; a classifier is made of it, and comes back, too."""
    backbone.save_pretrained(place / "pretrained")  # type: ignore[operator]
    image_processor(64).save_pretrained(place / "pretrained")
    theirs = AutoModel.from_pretrained(place / "pretrained").eval()
    assert type(theirs) is kind
    classifier = new_classifier(place / "pretrained", NAMES, seed=1, drop_path=0.1).eval()
    assert classifier.config.id2label == dict(enumerate(NAMES))
    classifier.save_pretrained(place / "finetuned")
    again = AutoModelForImageClassification.from_pretrained(place / "finetuned").eval()
    with torch.no_grad():
        pooled = theirs(images).pooler_output
        assert torch.equal(pooled, load_backbone(place / "pretrained").eval()(images).pooler_output)
        expected = classifier.classifier(pooled)
        for model in (classifier, again, load_classifier(place / "finetuned").eval()):
            torch.testing.assert_close(model(images).logits, expected)


# ConvNeXt V2


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's folder, as facebook/convnextv2-atto-1k-224 is one."""
    folder = tmp_path_factory.mktemp("v2") / "convnextv2"
    stirred(ConvNextV2ForImageClassification(ConvNextV2Config(depths=DEPTHS, hidden_sizes=WIDTHS))).save_pretrained(
        folder
    )
    return folder


def test_v2_gives_what_it_gave_and_goes_through_the_stages(v2: Path, images: Tensor, tmp_path: Path) -> None:
    theirs = ConvNextV2ForImageClassification.from_pretrained(v2).eval().convnextv2
    backbone = build_backbone(settings(v2), seed=0, drop_path=0.2)
    assert (type(backbone), backbone.config.drop_path_rate, backbone.config.image_size) == (ConvNextV2Model, 0.2, 64)
    with torch.no_grad():
        expected = theirs(images, output_hidden_states=True)
        for stage, known in zip(stages_of(backbone.eval(), images).maps, expected.hidden_states[-4:], strict=True):
            torch.testing.assert_close(stage, known)
    assert_gives(backbone, images, expected.last_hidden_state, expected.pooler_output)
    assert_goes_through_the_stages(build_backbone(settings(v2), seed=0), ConvNextV2Model, images, tmp_path)


def test_grn_does_not_decay_and_lies_in_its_blocks_layer(v2: Path) -> None:
    model = new_classifier(v2, ["a", "b"], seed=0)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        name_of[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in parameter_groups(model, 0.05, 0.5)
        for parameter in group["params"]
    }
    assert found.keys() == set(name_of.values())
    grn = [name for name in found if ".grn." in name]
    assert len(grn) == 2 * sum(DEPTHS)
    for name in grn:
        linear = name.replace("grn.weight", "pwconv2.weight").replace("grn.bias", "pwconv2.weight")
        assert found[name] == (found[linear][0], 0.0)
        assert found[linear][1] == 0.05


def v1_classifier() -> nn.Module:
    return ConvNextForImageClassification(ConvNextConfig(depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=3))


def v2_classifier() -> nn.Module:
    return ConvNextV2ForImageClassification(ConvNextV2Config(depths=DEPTHS, hidden_sizes=WIDTHS, num_labels=3))


@pytest.mark.parametrize("kind", [v1_classifier, v2_classifier])
@pytest.mark.parametrize("trainable", ["all", "last_stage", "norms", "head"])
def test_freeze_leaves_trainable_what_it_says(kind: Any, trainable: str) -> None:
    model = kind()
    freeze(model, trainable)
    assert {p.requires_grad for p in model.classifier.parameters()} == {True}
    for name, parameter in model.base_model.named_parameters():
        expected = {
            "all": True,
            "last_stage": name.startswith(("encoder.stages.3.", "layernorm.")),
            "norms": "norm" in name or "downsampling_layer.0." in name or ".grn." in name,
            "head": False,
        }
        assert parameter.requires_grad == expected[trainable], name


def test_norms_are_few() -> None:
    """Of atto some 6,000 of 3.4 million."""
    model = new_atto()
    freeze(model, "norms")
    backbone = [p for p in model.base_model.parameters() if p.requires_grad]
    # each block has a norm of its width, each downsampling one of the width before, then the stem's and the last
    widths, depths = [40, 80, 160, 320], [2, 2, 6, 2]
    count = sum(2 * depth * width for depth, width in zip(depths, widths, strict=True)) + 2 * (40 + 80 + 160) + 80 + 640
    assert sum(p.numel() for p in backbone) == count


def new_atto() -> ConvNextForImageClassification:
    return ConvNextForImageClassification(ConvNextConfig(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320]))


# DINOv3's ConvNeXt


def dinov3(folder: Path, **more: Any) -> DINOv3ConvNextModel:
    config = DINOv3ConvNextConfig(depths=DEPTHS, hidden_sizes=WIDTHS, **more)
    model = stirred(DINOv3ConvNextModel(config))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("old_names", [False, True])
def test_dinov3_gives_what_it_gave_and_goes_through_the_stages(old_names: bool, images: Tensor, tmp_path: Path) -> None:
    """On the hub its weights lie under the names of transformers 4, without `model.`"""
    theirs = dinov3(tmp_path / "dinov3")
    if old_names:
        file = tmp_path / "dinov3" / "model.safetensors"
        weights = {name.removeprefix("model."): value for name, value in load_file(file).items()}
        save_file(weights, file, {"format": "pt"})
    backbone = build_backbone(settings(tmp_path / "dinov3"), seed=0, drop_path=0.2)
    assert (type(backbone), backbone.config.drop_path_rate, backbone.config.image_size) == (ConvNextModel, 0.2, 64)
    with torch.no_grad():
        expected = theirs(images, output_hidden_states=True)
        for stage, known in zip(stages_of(backbone.eval(), images).maps, expected.hidden_states[-4:], strict=True):
            torch.testing.assert_close(stage, known)
    assert sum(p.numel() for p in backbone.parameters()) == sum(p.numel() for p in theirs.parameters())
    assert_gives(backbone, images, expected.hidden_states[-1], expected.pooler_output)
    assert_goes_through_the_stages(backbone, ConvNextModel, images, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dinov3_in_half_precision_is_loaded_in_single(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = dinov3(tmp_path).to(dtype)
    theirs.save_pretrained(tmp_path)
    backbone = build_backbone(settings(tmp_path), seed=0)
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}
    assert torch.equal(backbone.layernorm.weight, theirs.layer_norm.weight.float())


def test_dinov3_that_lacks_weights_or_has_other_norms_is_refused(tmp_path: Path) -> None:
    dinov3(tmp_path / "lacks")
    file = tmp_path / "lacks" / "model.safetensors"
    weights = load_file(file)
    del weights["layer_norm.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(FacerepError, match=r"lacks: cannot be loaded as a ConvNeXt \(its weights have no layer_norm.b"):
        build_backbone(settings(tmp_path / "lacks"), seed=0)
    dinov3(tmp_path / "norms", layer_norm_eps=1e-5)
    with pytest.raises(FacerepError, match=r"norms: .*eps 1e-05"):
        build_backbone(settings(tmp_path / "norms"), seed=0)


# timm's


def timm_folder(folder: Path, name: str, **more: Any) -> nn.Module:
    """A network of timm's, saved as those on the hub are."""
    timm = pytest.importorskip("timm", reason="needs timm, which is among the tests' packages")
    narrow = {"depths": DEPTHS, "dims": WIDTHS} if "convnext" in name else {}
    model = stirred(timm.create_model(name, num_classes=5, **narrow, **more))
    timm.models.save_for_hf(model, str(folder), safe_serialization=True)
    return model  # type: ignore[no-any-return]


def timms_answer(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The last map, and the norm of its mean: what the classifier sees, or the hidden layer before it."""
    with torch.no_grad():
        last_map = model.forward_features(normalised(pixels, *(model.pretrained_cfg[key] for key in ("mean", "std"))))
        return last_map, model.head.flatten(model.head.norm(model.head.global_pool(last_map)))


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.fixture
def pixels() -> Tensor:
    """Photographs of 0 to 1, which timm's networks see in their own normalisation, and we in ImageNet's."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def assert_gives_timms(backbone: nn.Module, theirs: nn.Module, pixels: Tensor) -> None:
    assert_gives(backbone, normalised(pixels, IMAGENET_MEAN, IMAGENET_STD), *timms_answer(theirs, pixels))


REFUSED = {
    "convnext_atto_ols": "its stem is a convolution of",
    "convnext_femto_ols": "its stem",
    "convnext_pico_ols": "its stem",
    "convnext_nano_ols": "its stem",
    "convnext_atto_rms": "its norms are no LayerNorms with a bias",
    "convnext_zepto_rms": "its norms are no LayerNorms with a bias",
    "convnext_zepto_rms_ols": "its stem",
    "convnext_tiny_hnf": "it norms every place of its last map, not their mean",
    "convnext_xxlarge": "its norms have eps 1e-05",
}


def test_each_of_timms_convnexts_gives_the_same_or_is_refused_by_name(pixels: Tensor, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs timm, which is among the tests' packages")
    names = timm.list_models("convnext*")
    assert len(names) >= 28
    taken = []
    for name in names:
        theirs = timm_folder(tmp_path / name, name)
        if name in REFUSED:
            sentence = rf"{name}: cannot be loaded as a ConvNeXt \(timm's {name}: {REFUSED[name]}.*; take another one\)"
            with pytest.raises(FacerepError, match=sentence):
                build_backbone(settings(tmp_path / name), seed=0)
        else:
            backbone = build_backbone(settings(tmp_path / name), seed=0)
            assert type(backbone) is (ConvNextV2Model if "v2" in name else ConvNextModel), name
            assert_gives_timms(backbone, theirs, pixels)
            taken.append(name)
    assert taken == [name for name in names if name not in REFUSED]


@pytest.mark.parametrize(("name", "kind"), [("convnext_atto", ConvNextModel), ("convnextv2_atto", ConvNextV2Model)])
def test_timms_goes_through_the_stages(name: str, kind: type, images: Tensor, tmp_path: Path) -> None:
    timm_folder(tmp_path / "timm", name)
    backbone = build_backbone(settings(tmp_path / "timm"), seed=0, drop_path=0.2)
    assert (backbone.config.drop_path_rate, backbone.config.image_size) == (0.2, 64)
    assert (backbone.config.depths, backbone.config.hidden_sizes) == (DEPTHS, WIDTHS)
    assert_goes_through_the_stages(backbone, kind, images, tmp_path)


def test_timms_without_layer_scale_has_none(pixels: Tensor, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="needs timm, which is among the tests' packages")
    theirs = timm_folder(tmp_path / "timm", "convnext_tiny")
    for module in theirs.modules():
        if isinstance(module, timm.models.convnext.ConvNeXtBlock):
            module.gamma = None
    save_file(theirs.state_dict(), tmp_path / "timm" / "model.safetensors")
    backbone = build_backbone(settings(tmp_path / "timm"), seed=0)
    assert not [name for name in backbone.state_dict() if "layer_scale" in name]
    assert_gives_timms(backbone, theirs, pixels)


def test_timms_that_was_trained_on_other_pixels_sees_the_same_photograph(pixels: Tensor, tmp_path: Path) -> None:
    """CLIP's, say: its own mean and std, as its config tells."""
    other = {"mean": (0.45, 0.4, 0.5), "std": (0.3, 0.15, 0.22)}
    theirs = timm_folder(tmp_path / "timm", "convnext_base", pretrained_cfg_overlay=other)
    assert_gives_timms(build_backbone(settings(tmp_path / "timm"), seed=0), theirs, pixels)


def test_timms_of_a_masked_autoencoder_gets_a_fresh_last_norm(pixels: Tensor, tmp_path: Path) -> None:
    """Its files on the hub have neither head nor norm."""
    theirs: Any = timm_folder(tmp_path / "timm", "convnextv2_atto")
    file = tmp_path / "timm" / "model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if not name.startswith("head.")}, file)
    nn.init.ones_(theirs.head.norm.weight)
    nn.init.zeros_(theirs.head.norm.bias)
    assert_gives_timms(build_backbone(settings(tmp_path / "timm"), seed=0), theirs, pixels)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("resnet18", {}, "it is timm's resnet18, no convnext"),
        ("convnext_tiny", {"kernel_sizes": [7, 7, 7, 5]}, r"its depthwise convolutions are of \[\(5, 5\), \(7, 7\)\]"),
        ("convnext_tiny", {"norm_eps": 1e-5}, "its norms have eps 1e-05"),
        ("convnext_tiny", {"act_layer": "silu"}, "it was made with act_layer"),
        ("convnext_tiny", {"output_stride": 16}, "it was made with output_stride"),
        ("convnext_tiny", {"conv_bias": False}, "its convolutions have no bias"),
        ("convnext_tiny", {"patch_size": 2}, "its stem"),
        ("convnext_tiny", {"in_chans": 1}, "its stem"),
    ],
)
def test_timms_that_transformers_cannot_be_is_refused(
    name: str, more: dict[str, Any], words: str, tmp_path: Path
) -> None:
    timm_folder(tmp_path / "timm", name, **more)
    with pytest.raises(FacerepError, match=words):
        build_backbone(settings(tmp_path / "timm"), seed=0)


def test_timms_without_its_safetensors_or_with_too_few_weights_is_refused(tmp_path: Path) -> None:
    timm_folder(tmp_path / "timm", "convnext_tiny")
    file = tmp_path / "timm" / "model.safetensors"
    weights = load_file(file)
    for missing in ("stages.1.blocks.1.norm.bias", "stages.3.blocks.0.conv_dw.bias", "stem.0.weight"):
        save_file({name: value for name, value in weights.items() if name != missing}, file)
        with pytest.raises(FacerepError, match="timm: cannot be loaded as a ConvNeXt"):
            build_backbone(settings(tmp_path / "timm"), seed=0)
    file.unlink()
    with pytest.raises(FacerepError, match="timm: cannot be loaded as a ConvNeXt"):
        build_backbone(settings(tmp_path / "timm"), seed=0)


# All of them


def test_a_start_that_lacks_a_weight_is_refused(v2: Path, tmp_path: Path) -> None:
    """transformers would draw it, and nobody would know."""
    (tmp_path / "v2").mkdir()
    for file in v2.iterdir():
        (tmp_path / "v2" / file.name).write_bytes(file.read_bytes())
    weights = load_file(v2 / "model.safetensors")
    del weights["convnextv2.encoder.stages.2.layers.1.grn.weight"]
    save_file(weights, tmp_path / "v2" / "model.safetensors", {"format": "pt"})
    for load in (lambda path: build_backbone(settings(path), 0), load_backbone, load_classifier):
        with pytest.raises(FacerepError, match=r"\(its weights have no .*stages.2.layers.1.grn.weight\)"):
            load(tmp_path / "v2")
    load_backbone(v2).save_pretrained(tmp_path / "headless")
    with pytest.raises(FacerepError, match=r"\(its weights have no classifier.bias and 1 more\)"):
        load_classifier(tmp_path / "headless")


def test_layer_scale_is_that_of_random_starts_and_of_no_other(tmp_path: Path) -> None:
    fresh = build_backbone(settings("atto", 0.3), seed=0)
    scales = {name: value for name, value in fresh.state_dict().items() if "layer_scale" in name}
    assert len(scales) == 12
    assert all(torch.equal(value, torch.full_like(value, 0.3)) for value in scales.values())
    fresh.save_pretrained(tmp_path)
    kept = build_backbone(settings(tmp_path, 0.1), seed=0).state_dict()
    assert all(torch.equal(kept[name], value) for name, value in scales.items())


@pytest.mark.parametrize("source", ["v1", "v2", "random"])
def test_the_last_stage_is_drawn_as_a_random_start_has_it(source: str, v2: Path, tmp_path: Path) -> None:
    if source == "random":
        start = build_backbone(settings("atto", 0.2), seed=5)
    elif source == "v2":
        start = build_backbone(settings(v2), seed=0)
    else:
        stirred(ConvNextModel(ConvNextConfig(depths=DEPTHS, hidden_sizes=WIDTHS))).save_pretrained(tmp_path / "v1")
        start = build_backbone(settings(tmp_path / "v1", 0.2), seed=0)
    start.save_pretrained(tmp_path / "pretrained")
    before, model, other = (new_classifier(tmp_path / "pretrained", NAMES, seed=1) for _ in range(3))
    reset_last_stage(model, seed=5)
    reset_last_stage(other, seed=6)
    parts = {name: name.startswith(("encoder.stages.3.", "layernorm.")) for name in start.state_dict()}
    assert sum(parts.values()) >= 12
    for name, last in parts.items():
        old, new = (network.base_model.state_dict()[name] for network in (before, model))
        if not last:
            assert torch.equal(new, old), name
        elif name.endswith("layer_scale_parameter"):
            assert torch.equal(new, torch.full_like(new, 0.2)), name
        elif ".grn." in name or name.endswith("bias"):
            assert not new.any(), name
        elif "norm" in name or name.endswith("downsampling_layer.0.weight"):
            assert torch.equal(new, torch.ones_like(new)), name
        else:  # transformers' normal draws: 0.02 wide, within five standard errors
            assert abs(new.std() - 0.02) < 5 * 0.02 / (2 * new.numel()) ** 0.5 + 1e-4, name
            assert source == "random" or not torch.equal(new, old), name
            assert not torch.equal(new, other.base_model.state_dict()[name]), name
    assert torch.equal(model.classifier.weight, before.classifier.weight)
    if source == "random":
        assert torch.equal(
            model.base_model.encoder.stages[3].layers[0].pwconv1.weight,
            start.encoder.stages[3].layers[0].pwconv1.weight,
        ), "the same seed as the start's"


def test_another_kind_of_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "swin"}))
    with pytest.raises(FacerepError, match=r"is a swin; facerep needs a convnext, convnextv2, dinov3_convnext or timm"):
        build_backbone(settings(tmp_path), seed=0)
