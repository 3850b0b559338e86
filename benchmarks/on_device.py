"""Training steps by turns in one process on a GPU: images/s, memory, how busy it is. What train_step.py runs there.

For each case facerep's own step, with all that it does to a batch, and transformers' and timm's networks in a bare loop
on a batch that is prepared. `--device cpu` is the rehearsal.
"""

import argparse
import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.profiler import ProfilerActivity, profile
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextModel

from benchmarks.common import Case, closing, number, save, show
from benchmarks.peer_packages import peer
from benchmarks.roofline import flops_of_image
from benchmarks.steps import Ours, quarter_turns, resident, settings_of_pretraining
from benchmarks.variants import Done, Measured, Work, measure
from facerep.faces.transforms import normalize, to_float, turn
from facerep.nets.convnext import SIZES
from facerep.nets.features import Features
from facerep.pretrain.color_spaces import COLOR_SPACES
from facerep.pretrain.colors import Decoder

Step = Callable[[], Any]
CASES = {
    "grayscale": ["base:224:64"],
    "rotated": ["tiny:224:256", "atto:64:512", "atto:112:1024", "atto:64:1024", "atto:112:512"],
}
OURS, COMPILED, FREE = "facerep", "facerep, compiled", "facerep, cuDNN chooses"
FP32, BF16, TIMM = "transformers, fp32", "transformers, bf16", "timm, bf16, channels_last"
REACH = {  # on an H100
    "grayscale_base_224_64_mfu": 0.40,
    "tiny_224_256_mfu": 0.35,
    "atto_64_512_images_per_s": 20_000,
    "atto_64_1024_images_per_s": 20_000,
}
REACH_VS_TIMM = 1.2
WARM_UP = 3  # steps that compile, choose algorithms and ask for memory


class OnDevice(Measured):
    """A step on a device; what goes wrong is noted in `failed`, and the others go on.

    Args:
        build: gives the step, its network on the device.
        free: whether cuDNN tries its algorithms and takes the fastest, as timm's train.py has it; else deterministic
            ones alone are taken, as in facerep's training.
    """

    def __init__(self, name: str, build: Callable[[], Step], case: Case, device: str, free: bool) -> None:
        super().__init__(name)
        self.case, self.device, self.free = case, device, free
        self.step: Step | None = None
        before = _start_of_memory(device)
        try:
            self.step = build()
        except Exception as error:
            self._fail(error)
        self.run(WARM_UP)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # what cuDNN tried and compilers asked for is no part of a step
            self.run(1)
        if device == "cuda" and not self.failed:
            self.peak_mb = (torch.cuda.max_memory_allocated() - before) / 2**20

    def run(self, times: int) -> Done | None:
        """So many steps, to the end of the last."""
        if self.failed or self.step is None:
            return None
        torch.use_deterministic_algorithms(not self.free, warn_only=True)
        torch.backends.cudnn.benchmark = self.free
        try:
            return timed_on(self.device, self.step, self.case.batch_size)(times)
        except Exception as error:
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        self.failed, self.step = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200], None


def steps_on(device: str, options: argparse.Namespace) -> None:
    """Measure and print; the closing line's file is written anew after each case."""
    peak = best_product(device)
    print(f"a large bf16 matrix product: {peak / 1e12:.3g} TFLOP/s", flush=True)
    ratios: dict[str, float] = {}
    cases: dict[str, Any] = {}

    def line() -> dict[str, Any]:
        more = {
            "peak_tflops": peak / 1e12,
            "reach": {key: REACH.get(key, REACH_VS_TIMM) for key in ratios if key in REACH or is_vs_timm(key)},
            "cases": cases,
        }
        return closing("train_step", options.threads, ratios, device, **more)

    for pretext in CASES:
        for case in getattr(options, pretext):
            name = f"{'' if pretext == 'rotated' else f'{pretext}_'}{case}_{case.batch_size}"
            cases[name], found = measured(pretext, case, device, options, peak)
            ratios |= {f"{name}_{what}": value for what, value in found.items()}
            save(line(), options.json)
    save(line(), options.json, shown=True)


def is_vs_timm(key: str) -> bool:
    """Whether it is the better of ours against timm's."""
    return key.endswith("_vs_timm") and not key.endswith("eager_vs_timm")


def measured(
    pretext: str, case: Case, device: str, options: argparse.Namespace, peak: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """What was measured of each variant, and what the case comes to: `mfu`, `images_per_s`, `vs_…`."""
    ours = partial(Ours, pretext, case, options.threads, device)
    timm = partial(timm_network, pretext, case, options.peers)
    works = [
        OnDevice(name, build, case, device, free)
        for name, build, free in (
            (OURS, lambda: ours().step, False),
            (COMPILED, lambda: ours(compiled=True).step, False),
            (FREE, lambda: ours().step, True),
            (FP32, lambda: bare(transformers_network(pretext, case), pretext, case, device, False), True),
            (BF16, lambda: bare(transformers_network(pretext, case), pretext, case, device, True), True),
            (TIMM, lambda: bare(timm(), pretext, case, device, True, torch.channels_last), True),
        )
        if name not in options.without
    ]
    measure(works, options.repeats, options.seconds)
    flops, told, rows = flops_of_image(pretext, case), {}, []
    for work in works:
        told[work.name] = told_of(work, flops, peak)
        mfu, busy = told[work.name].get("mfu"), told[work.name].get("busy")
        name = f"{work.name}: {work.failed}" if work.failed else work.name
        cells = (work.median, max(work.rates), work.peak_mb, mfu or float("nan"), busy or float("nan"))
        rows.append([name, *map(number, cells)])
    title = f"{pretext}, ConvNeXt {case.model}, {case.image_size} px, batch {case.batch_size}"
    show(
        f"{title}: {flops / 1e9:.3g} GFLOP an image",
        ["", "images/s", "best", "peak MiB", "of peak FLOP/s", "GPU busy"],
        rows,
    )
    rate = {work.name: work.median for work in works}
    best = max((rate[name] for name in (OURS, COMPILED) if rate.get(name, 0) > 0), default=float("nan"))
    found = {"images_per_s": best, "mfu": best * flops / peak}
    against = {"timm": TIMM, "transformers_fp32": FP32, "transformers_bf16": BF16}
    found |= {f"vs_{what}": best / rate[name] for what, name in against.items() if name in rate}
    if OURS in rate and TIMM in rate:
        found["eager_vs_timm"] = rate[OURS] / rate[TIMM]
    works.clear()
    gc.collect()
    torch._dynamo.reset()
    return told, found


def told_of(work: OnDevice, flops: int, peak: float) -> dict[str, Any]:
    """Plain data: rates, memory, the share of the peak's arithmetic, and on a GPU how busy it was and with what."""
    if work.failed:
        return {"failed": work.failed}
    out: dict[str, Any] = {"images_per_s": work.median, "best": max(work.rates), "mfu": work.median * flops / peak}
    if work.device == "cuda":
        out["peak_mb"] = work.peak_mb
        try:
            seconds, kernels = kernels_of(work)
            out |= {"busy": seconds * work.median / work.case.batch_size, "kernels": kernels}
        except Exception as error:  # a profiler may not be allowed to look
            out["not_profiled"] = f"{type(error).__name__}: {error}"[:200]
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in out.items()}


def kernels_of(work: OnDevice, steps: int = 5) -> tuple[float, dict[str, float]]:
    """Seconds that a step's kernels take, and the share of the 15 that take most of them, by name."""
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        work.run(steps)
    spent: Counter[str] = Counter()
    for event in watched.events() or ():
        # the optimizer's, the compiler's and our own names for parts of a step hold kernels that stand for themselves
        if event.device_type.name == "CUDA" and not event.is_user_annotation:
            spent[event.name[:100]] += event.time_range.elapsed_us()
    whole = spent.total()
    if not whole:
        raise RuntimeError("the profiler saw no kernel")
    return whole / 1e6 / steps, {name: round(each / whole, 4) for name, each in spent.most_common(15)}


def bare(
    network: nn.Module,
    pretext: str,
    case: Case,
    device: str,
    bf16: bool,
    layout: torch.memory_format = torch.contiguous_format,
) -> Step:
    """Forward, backward and a fused AdamW on a batch that is turned, or made grey, and normalised already."""
    network = network.to(device).to(memory_format=layout).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    photographs, turns = to_float(resident(case, device).images), quarter_turns(case, device)
    if pretext == "grayscale":
        given, truth, _ = color_space().split(photographs)
    else:
        given, truth = turn(photographs, turns), turns
    inputs = normalize(given).contiguous(memory_format=layout)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            answer: Tensor = network(inputs)
        loss = mse_loss(answer.float(), truth) if pretext == "grayscale" else cross_entropy(answer.float(), truth)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def color_space() -> Any:
    """In which our own step gives colors back."""
    return COLOR_SPACES[settings_of_pretraining().color_space]


class Answering(nn.Module):
    """A peer's network that answers: the turn's four logits, or the colors, by our decoder on its last three maps."""

    def __init__(self, network: nn.Module, answer: Callable[[Any], Any], decoder: nn.Module | None) -> None:
        super().__init__()
        self.network, self.answer, self.decoder = network, answer, decoder

    def forward(self, inputs: Tensor) -> Tensor:
        """B×3×H×H to B×4, or to B×C×H×H."""
        answer: Any = self.answer(inputs)
        if self.decoder is not None:
            maps: Sequence[Tensor] = answer[-3:]
            answer = self.decoder(Features((inputs, *maps), inputs))  # which looks at the maps of stages 2 to 4 alone
        logits_or_colors: Tensor = answer
        return logits_or_colors


def transformers_network(pretext: str, case: Case) -> nn.Module:
    """Its own ConvNext, eager."""
    depths, widths = SIZES[case.model]
    config = ConvNextConfig(depths=list(depths), hidden_sizes=list(widths), image_size=case.image_size, num_labels=4)
    if pretext == "grayscale":
        model = ConvNextModel(config)
        model.layernorm.requires_grad_(False)
        decoder = Decoder(widths[1:], color_space().channels)
        return Answering(model, lambda x: model(x, output_hidden_states=True).hidden_states, decoder)
    classifier = ConvNextForImageClassification(config)
    return Answering(classifier, lambda x: classifier(x).logits, None)


def timm_network(pretext: str, case: Case, folder: str | None) -> nn.Module:
    """Its convnext of the same size."""
    timm, name = peer("timm", folder), f"convnext_{case.model}"
    if pretext == "grayscale":
        model = timm.create_model(name, features_only=True)
        return Answering(model, model, Decoder(SIZES[case.model][1][1:], color_space().channels))
    model = timm.create_model(name, num_classes=4)
    return Answering(model, model, None)


def best_product(device: str) -> float:
    """The rate of a large bf16 matrix product of random numbers, FLOP/s, the best of five times ten."""
    side, times = (8192, 10) if device == "cuda" else (1024, 2)
    first, second = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(6):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(times):
            first @ second
        synchronize(device)
        best = max(best, times * 2 * side**3 / (time.perf_counter() - start))
    return best


def timed_on(device: str, step: Step, images: int) -> Work:
    """As variants.timed, to the end of what the device was given."""

    def work(times: int) -> Done:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(times):
            step()
        synchronize(device)
        return Done(times * images, time.perf_counter() - start)

    return work


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def _start_of_memory(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()
