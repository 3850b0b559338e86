"""Feed a batch of each version of the faces to a ConvNeXt. After `make demo`: `python examples/dataset_use.py`."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from transformers import ConvNextConfig, ConvNextForImageClassification

from facerep.core.errors import FacerepError
from facerep.dataset import FaceDataset


def main(root: Path) -> None:
    """Print, for each version, the shapes that go in and come out, and the loss of an untrained network."""
    for version in ("original", "rotated", "grayscale", "rotated_grayscale"):
        faces = FaceDataset(root, version=version, role="train")
        batch = next(iter(DataLoader(faces, batch_size=8)))
        torch.manual_seed(0)
        model = ConvNextForImageClassification(
            ConvNextConfig(depths=[2, 2, 6, 2], hidden_sizes=[40, 80, 160, 320], num_labels=batch["label"].shape[1])
        )
        with torch.no_grad():
            logits = model(batch["image"]).logits
        # turns and identities are one-hot: cross-entropy takes them; pixels are numbers: mean squared error
        classes = version in ("original", "rotated")
        loss = (torch.nn.functional.cross_entropy if classes else torch.nn.functional.mse_loss)(logits, batch["label"])
        shapes = " → ".join(str(tuple(t.shape)) for t in (batch["image"], logits))
        print(f"{version:18} {len(faces)} faces   {shapes}   loss {loss.item():.3f}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
    except FacerepError as error:
        sys.exit(str(error))
