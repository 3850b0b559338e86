"""transformers' ConvNeXt and V2 made quick to train: the same modules, weights and names, another way through a block.

What is different, and why (benchmarks/README.md has what each brought, and what was tried and left out):
- the depthwise convolution's gradient (facerep.nets.depthwise);
- a block's inside runs in autocast's dtype from end to end, its norm too (whose sums are fp32 all the same); the
  residual stream stays fp32;
- the layer scale is multiplied into the second linear layer's weights instead of its outputs: the same product;
- of V2's GRN (Woo et al., "ConvNeXt V2", CVPR 2023) only one product passes over the activations: what a channel is
  multiplied by is one number a sample, and the bias goes through the second linear layer's weights, once;
- stochastic depth draws by sample, so that nothing depends on the batch or the process that a sample is in.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from facerep.faces.draws import Draws
from facerep.nets.depthwise import depthwise

DROP_PATH = 1000  # the streams of facerep.faces.draws from here on, one a block, say which blocks a sample skips


class FastLayer(nn.Module):
    """A block of ConvNeXt, or of V2, whose modules it takes over; B×C×H×W to B×C×H×W, channels_last."""

    dwconv: Any
    layernorm: nn.LayerNorm
    pwconv1: nn.Linear
    pwconv2: nn.Linear
    act: nn.Module
    drop_path: Any

    def forward(self, features: Tensor) -> Tensor:
        """As ConvNextLayer.forward, and ConvNextV2Layer's."""
        device = features.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        with torch.autocast(device, enabled=False):
            x = depthwise(features.to(dtype), self.dwconv.weight, self.dwconv.bias).permute(0, 2, 3, 1)
            norm = self.layernorm
            x = x if device == "cpu" else x.float()  # a CPU's norm takes bf16 with fp32 weights and sums in fp32
            x = layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps).to(dtype)
            x = self.act(linear(x, self.pwconv1.weight.to(dtype), self.pwconv1.bias.to(dtype)))
            weight, bias = self.pwconv2.weight, self.pwconv2.bias
            grn, scale = getattr(self, "grn", None), getattr(self, "layer_scale_parameter", None)
            if grn is not None:
                x = x * (1 + grn.weight * response(x)).to(dtype)
                bias = bias + weight @ grn.bias.flatten()
            if scale is not None:
                weight, bias = scale[:, None] * weight, scale * bias
            x = linear(x, weight.to(dtype), bias.to(dtype)).permute(0, 3, 1, 2)
            added: Tensor = self.drop_path(x)
            return features.to(self.dwconv.weight.dtype) + added


def response(x: Tensor) -> Tensor:
    """How strongly each channel of B×H×W×C answers compared with the mean of all, float32 B×1×1×C: GRN's N(G(x))."""
    norms = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=torch.float32)
    return norms / (norms.mean(-1, keepdim=True) + 1e-6)


class SampleDropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): `kept` says for each sample of the batch whether it takes the block.

    A network that looks at several inputs in a step takes its rows in their order.
    """

    def __init__(self, rate: float, stream: int) -> None:
        super().__init__()
        self.rate = rate
        self.stream = stream
        self.kept: Tensor | None = None  # float32 B: 0, or 1 / (1 - rate)

    def forward(self, features: Tensor) -> Tensor:
        """B×C×H×W, zero for the samples that skip the block; unchanged outside training."""
        if not self.training:
            return features
        assert self.kept is not None, "draw_drop_path comes before each training step"
        kept, self.kept = self.kept[: len(features)], self.kept[len(features) :]
        return features * kept.to(features.dtype).view(-1, 1, 1, 1)


def make_fast(model: nn.Module) -> None:
    """Give every ConvNextLayer and ConvNextV2Layer of `model` its fast forward, in place; weights and their names stay."""
    # here, where a model of theirs has loaded them: facerep.training imports this file, and transformers takes seconds
    from transformers.models.convnext.modeling_convnext import ConvNextLayer
    from transformers.models.convnextv2.modeling_convnextv2 import ConvNextV2Layer

    kinds = (ConvNextLayer, ConvNextV2Layer, FastLayer)
    blocks = [module for module in model.modules() if isinstance(module, kinds)]
    for number, block in enumerate(blocks):
        block.__class__ = FastLayer
        if not isinstance(block.drop_path, nn.Identity | SampleDropPath):
            block.drop_path = SampleDropPath(block.drop_path.drop_prob, DROP_PATH + number)


def compile_blocks(model: nn.Module) -> None:
    """torch.compile each block of make_fast's by itself, in place; the weights and their names stay.

    Blocks of one shape share what is compiled, so base's 36 take no longer than atto's 12, and nothing in them breaks
    the graph. (torch's own recipe: "Reducing torch.compile cold start compilation time with regional compilation".)
    """
    # of each stage the first block and the others (whose input is bf16 or fp32), for one size of batch and then for any,
    # trained and scored; torch would run uncompiled, with a warning, past its default of eight
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for module in model.modules():
        if isinstance(module, FastLayer):
            module.compile()


def draw_drop_path(model: nn.Module, samples: Tensor, draws: Draws) -> None:
    """Draw for the coming training step which of `samples` (int64 B) take which blocks."""
    for module in model.modules():
        if isinstance(module, SampleDropPath):
            kept = draws.uniform(samples, module.stream) >= module.rate
            module.kept = kept.float() / (1 - module.rate)
