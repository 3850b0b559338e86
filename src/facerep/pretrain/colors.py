"""Colors: give a grey photograph its colors back.

Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016: Lab's ab from its L, as classes or by regression; or all RGB
pixels from the luma (Larsson, Maire, Shakhnarovich, "Learning representations for automatic colorization", ECCV 2016,
discuss the choices). Beside views the first view of each photograph is the grey one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, pixel_shuffle

from facerep.faces.pixels import FacePixels
from facerep.faces.transforms import to_float, turn
from facerep.nets.features import Features
from facerep.params import Pretrain as Settings
from facerep.pretrain.color_answers import Classes, Numbers
from facerep.pretrain.color_spaces import COLOR_SPACES, Lab
from facerep.pretrain.question import Picture, Question, Shown, as_uint8

WIDTH = 64  # channels of the decoder
SAMPLE = 2048  # photographs that tell how frequent the colors are


class Asked(NamedTuple):
    """The truth about colors; the pixels lie the way the input lies."""

    pixels: Tensor  # float32 N×C×H×H, the colors: C = 3, RGB normalised; or C = 2, Lab's ab over 110
    lightness: Tensor | None  # float32 N×1×H×H in [0, 100], Lab's L, which the input shows; None with RGB


class Decoder(nn.Module):
    """From the maps of stages 2, 3 and 4 together to a map of answers, so that the last one need not carry the picture.

    Each map is brought to WIDTH channels and to H/8 and they are added up, as in a feature pyramid (Lin et al., CVPR 2017,
    section 3); a 3×3 convolution and a pixel shuffle (Shi et al., CVPR 2016) go from there to the answers.

    Args:
        widths: the channels of the three maps.
        out_channels: of the answers.
        per_side: the answers' side is so many times H/8: 8, one for each pixel; 1, one for each cell.
        first: only so many of the photographs, from the first on, are answered: a share of 1 / first of the rows.
    """

    def __init__(self, widths: Sequence[int], out_channels: int, per_side: int = 8, first: int = 1) -> None:
        super().__init__()
        self.first, self.per_side = first, per_side
        self.lateral = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for width in widths)
        self.answers = nn.Conv2d(WIDTH, out_channels * per_side**2, 3, padding=1)

    def forward(self, features: Features) -> Tensor:
        """Features of B×3×H×H to float B/first×out_channels×h×h, h = per_side · H/8."""
        maps = [stage[: len(stage) // self.first] for stage in features.maps[1:]]
        size = maps[0].shape[-2:]
        brought = [layer(stage) for layer, stage in zip(self.lateral, maps, strict=True)]
        summed = brought[0] + sum(interpolate(each, size=size, mode="nearest-exact") for each in brought[1:])
        return pixel_shuffle(self.answers(gelu(summed)), self.per_side)


class Colors(Question):
    """The answer is a map, which facerep.pretrain.color_answers turns into colors; the truth is Asked."""

    name = "colors"
    settings = ("color_space", "reconstruction_loss")
    keeps_colors = True

    def __init__(self, settings: Settings, beside_views: bool = False) -> None:
        super().__init__(settings, beside_views)
        self.space = COLOR_SPACES[settings.color_space]
        self.form: Numbers | Classes
        if settings.reconstruction_loss == "classes":
            assert isinstance(self.space, Lab), "the parameters are checked for it"
            self.form = Classes(self.space)
        else:
            self.form = Numbers(self.space, settings.reconstruction_loss)

    def look(self, photographs: FacePixels) -> None:
        """How frequent each color is, in photographs evenly spread over the rows."""
        rows = range(0, len(photographs), max(1, len(photographs) // SAMPLE))
        batches = (photographs.__getitems__(rows[i : i + 256]).images for i in range(0, len(rows), 256))
        self.form.look(self.space.split(to_float(images))[1] for images in batches)

    def recall(self, weights: Mapping[str, Tensor]) -> None:
        """What `look` found, which lies beside the decoder's weights."""
        self.form.recall({name.removeprefix("colors."): value for name, value in weights.items()})

    def head(self, widths: Sequence[int], identities: int) -> nn.Module:
        """A decoder of stages 2 to 4."""
        first = 2 if self.beside_views else 1
        decoder = Decoder(widths[1:], self.form.channels, self.form.per_side, first)
        for name, value in self.form.state().items():
            decoder.register_buffer(name, value)
        return decoder

    def ask(self, shown: Shown) -> Asked:
        """Make the input grey; beside views, the first view."""
        images = shown.inputs[self.input]
        mine = images[: len(shown.samples)] if self.beside_views else images
        given, pixels, lightness = self.space.split(mine)
        shown.inputs[self.input] = torch.cat([given, images[len(mine) :]]) if self.beside_views else given
        return Asked(pixels, lightness)

    def losses(self, answer: Tensor, truth: Asked) -> Tensor:
        """As the form of the answer has it."""
        return self.form.losses(answer, truth.pixels)

    @torch.no_grad()
    def scores(self, answer: Tensor, truth: Asked) -> dict[str, Tensor]:
        """`psnr` in dB of the RGB pixels in [0, 1], and `psnr_grey`, what handing back the grey input would score."""
        photographs = self.space.to_rgb(truth.pixels, truth.lightness)
        return {
            "psnr": _psnr(self.space.to_rgb(self.form.pixels(answer), truth.lightness), photographs),
            "psnr_grey": _psnr(self.space.grey(photographs, truth.lightness), photographs),
        }

    def notes(self, scores: dict[str, float]) -> list[str]:
        """A sentence where no color was learned."""
        if scores["psnr"] > scores["psnr_grey"]:
            return []
        or_lab = "" if self.params.color_space == "lab" else ", or with pretrain.color_space = lab"
        return [
            f"no color was learned: on held-out photographs the colors given back have a PSNR of {scores['psnr']:.1f} dB, "
            f"and handing back the grey input has {scores['psnr_grey']:.1f} dB; train for longer{or_lab}."
        ]

    def pictures(self, shown: Shown, answers: dict[str, Any], truth: Asked) -> list[Picture]:
        """Input, answer and photograph, turned upright by the turn that the network itself tells, where it is asked."""
        number = len(shown.samples)
        rows = torch.arange(number, device=truth.pixels.device)
        told = answers["turns"] if "turns" in answers and not self.beside_views else None
        if told is not None and len(told) > number:  # all turns of each: show one of them
            rows = rows + number * (rows % 4)
        lightness = None if truth.lightness is None else truth.lightness[rows]
        back = self.space.to_rgb(self.form.pixels(answers[self.name][rows]), lightness)
        back = back if told is None else turn(back, -told.argmax(1)[rows])
        photographs = self.space.to_rgb(truth.pixels, truth.lightness)[rows] if told is None else shown.photographs
        values = {"inputs": as_uint8(shown.inputs[self.input][rows]), "outputs": as_uint8(back)}
        return [Picture("reconstructions.png", "draw_reconstructions", values | {"truths": as_uint8(photographs)})]


def _psnr(pixels: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], float32 N; 60 dB at most, where the error vanishes."""
    return -10 * (pixels - truth).square().mean((1, 2, 3)).clamp_min(1e-6).log10()
