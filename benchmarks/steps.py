"""Training steps on one resident batch: facerep's own, the plain way's, and timm's."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.profiler import record_function
from torchvision.transforms.v2 import functional as tvf
from transformers import ConvNextConfig, ConvNextForImageClassification

from benchmarks.common import Case, preset
from benchmarks.operators import PHASES
from benchmarks.peer_packages import peer
from benchmarks.variants import Work, timed
from facerep.faces.draws import Draws
from facerep.faces.pixels import Batch
from facerep.faces.transforms import IMAGENET_MEAN, IMAGENET_STD, normalize, to_float, turn
from facerep.nets.convnext import SIZES, build_backbone
from facerep.nets.fast import compile_blocks, draw_drop_path, make_fast
from facerep.nets.groups import parameter_groups
from facerep.params import Model, Pretrain
from facerep.pretrain.model import PretextModel
from facerep.pretrain.pretext import Answers, Pretext
from facerep.pretrain.stage import PretextTask
from facerep.training.meters import Means
from facerep.training.runtime import Runtime, accelerator_for, has_bf16

SEED = 0


def settings_of_pretraining(**changes: Any) -> Pretrain:
    """The demo's: crops, mirrors, clipped gradients; with changes."""
    return preset("demo").pretrain.model_copy(update=changes)


def resident(case: Case, device: torch.device | str = "cpu") -> Batch:
    """Noise in the place of photographs: no step's time depends on what they show. Uint8 B×3×H×H, on the device."""
    generator = torch.Generator().manual_seed(SEED)
    shape = (case.batch_size, 3, case.image_size, case.image_size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.full((case.batch_size,), -1)
    return Batch(images.to(device), labels.to(device), torch.arange(case.batch_size))


def quarter_turns(case: Case, device: torch.device | str = "cpu") -> Tensor:
    """Int64 B."""
    return Draws(SEED, 0, device).integers(torch.arange(case.batch_size), 0, 4)


def model_of(case: Case) -> Model:
    """Of any side, 112 px among them, where the last map loses an edge."""
    return Model.model_construct(name=case.model, image_size=case.image_size, layer_scale=0.1)


def build_model(pretext: str, case: Case, settings: Pretrain) -> PretextModel:
    """As facerep.pretrain.stage.pretrain builds it."""
    backbone = build_backbone(model_of(case), SEED, settings.drop_path)
    return PretextModel(backbone, Pretext(pretext, settings))


class Ours:
    """The step of facerep.training.loop, out of its pieces: crops, turns and greys of uint8 batches, scores, clipping."""

    def __init__(
        self, pretext: str, case: Case, threads: int, device: str = "cpu", compiled: bool = False, **settings: Any
    ) -> None:
        self.settings = settings_of_pretraining(batch_size=case.batch_size, **settings)
        self.accelerator = accelerator_for(Runtime(device, "auto", threads, SEED))
        model = build_model(pretext, case, self.settings).to(self.accelerator.device)
        self.model = model.to(memory_format=torch.channels_last)
        make_fast(self.model)
        if compiled:
            compile_blocks(self.model)
        groups = parameter_groups(self.model, self.settings.weight_decay, self.settings.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, fused=True)
        self.network = self.accelerator.prepare_model(self.model).train()
        self.task = PretextTask(Pretext(pretext, self.settings))
        self.means = Means(self.accelerator)
        self.batch, self.draws = resident(case, device), Draws(SEED, 0, device)

    def prepare(self) -> tuple[dict[str, Tensor], Any]:
        """The batch as the network takes it, by name, and the truth."""
        inputs, truth = self.task.prepare(self.batch, self.draws, train=True)
        return {name: each.contiguous(memory_format=torch.channels_last) for name, each in inputs.items()}, truth

    def forward(self, inputs: dict[str, Tensor], truth: Any) -> tuple[Tensor, Answers]:
        """The losses, float32 B, and the answers that they judge."""
        views = sum(map(len, inputs.values())) // len(self.batch.samples)
        draw_drop_path(self.model, self.batch.samples.repeat(views), self.draws)
        answers = self.network(inputs)
        return self.task.losses(answers, truth), answers

    def step(self) -> None:
        """All that happens to a batch; the profiler sees the parts by their names."""
        preparation, scoring, update = map(record_function, PHASES)
        with preparation:
            inputs, truth = self.prepare()
        losses, answers = self.forward(inputs, truth)
        with scoring, torch.no_grad():
            self.means.add(losses, self.task.scores(answers, truth))
        losses.mean().backward()
        with update:
            if self.settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

    def bare_step(self, inputs: dict[str, Tensor], truth: Any) -> None:
        """Forward, backward and the optimizer, and nothing else."""
        losses, _ = self.forward(inputs, truth)
        losses.mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def ours(pretext: str, case: Case, threads: int) -> Work:
    """facerep's step."""
    return timed(Ours(pretext, case, threads).step, case.batch_size)


def ours_bare(pretext: str, case: Case, threads: int) -> Work:
    """facerep's network and optimizer in a bare loop on a batch that is prepared."""
    network = Ours(pretext, case, threads)
    inputs, truth = network.prepare()
    return timed(lambda: network.bare_step(inputs, truth), case.batch_size)


def plain_grayscale(case: Case, threads: int) -> Work:
    """Pooled features → Linear to all pixels, fp32, NCHW, Adam; inputs and targets made an image at a time."""
    torch.set_num_threads(threads)
    backbone = build_backbone(model_of(case), SEED)
    head = nn.Linear(backbone.config.hidden_sizes[-1], 3 * case.image_size**2)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()])
    backbone.train()
    images = resident(case).images

    def step() -> None:
        photographs = [image / 255 for image in images]
        grey = [tvf.rgb_to_grayscale(image, num_output_channels=3) for image in photographs]
        inputs = torch.stack([_normalized(image) for image in grey])
        targets = torch.stack([_normalized(image).flatten() for image in photographs])
        optimizer.zero_grad()
        mse_loss(head(backbone(inputs).pooler_output), targets).backward()
        optimizer.step()

    return timed(step, case.batch_size)


def plain_rotated(case: Case, threads: int) -> Work:
    """transformers' own ConvNext and AdamW, eager, fp32, NCHW; turned an image at a time."""
    torch.set_num_threads(threads)
    depths, widths = SIZES[case.model]
    model = ConvNextForImageClassification(
        ConvNextConfig(depths=list(depths), hidden_sizes=list(widths), image_size=case.image_size, num_labels=4)
    ).train()
    optimizer = torch.optim.AdamW(model.parameters())
    images, turns = resident(case).images, quarter_turns(case)

    def step() -> None:
        inputs = torch.stack(
            [_normalized(torch.rot90(image / 255, int(k), (1, 2))) for image, k in zip(images, turns, strict=True)]
        )
        optimizer.zero_grad()
        model(inputs, labels=turns).loss.backward()
        optimizer.step()

    return timed(step, case.batch_size)


def _normalized(image: Tensor) -> Tensor:
    return tvf.normalize(image, list(IMAGENET_MEAN), list(IMAGENET_STD))


def timm_bare(case: Case, threads: int, folder: str | None) -> Work:
    """timm's convnext in a bare loop on a batch that is turned already: bf16 where we use it, channels_last, fused."""
    torch.set_num_threads(threads)
    model = peer("timm", folder).create_model(f"convnext_{case.model}", num_classes=4)
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    turns = quarter_turns(case)
    inputs = normalize(turn(to_float(resident(case).images), turns)).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu")):
            loss = cross_entropy(model(inputs), turns)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return timed(step, case.batch_size)
