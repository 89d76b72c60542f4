"""A small CIFAR-10 classifier, for the supervised peers of `pcdm benchmark`.

    python benchmarks/classifier.py benchmarks/classifier.safetensors      # about ten minutes of one core

A residual network of 0.86 M parameters, trained with labels on the images that the shipped cascade was trained on: SGD
with momentum, one cycle of the learning rate, random crops and mirroring, bfloat16 autocast. Needs PCDM_DATA_DIR.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from pcdm_core.benchmark.classifier import Classifier, ClassifierCard, save_classifier
from pcdm_core.data import Preprocessing, open_images

TRAIN, TEST = "cifar10:train[:-5000]", "cifar10:test"
EPOCHS, BATCH, RATE, DECAY, MARGIN = 8, 128, 0.2, 5e-4, 4
SIZE = Preprocessing(channels=3, height=32, width=32)


def labelled(spec: str) -> tuple[NDArray[np.uint8], Tensor]:
    items = list(open_images(spec))
    images = np.stack([SIZE.prepare(item.image, name=item.source).pixels for item in items])
    return images, torch.tensor([item.label for item in items])


def crops(padded: NDArray[np.uint8], random: np.random.Generator) -> Tensor:
    """A random window of each image of a batch, mirrored half of the time."""
    count, _, height, width = padded.shape
    rows = random.integers(2 * MARGIN + 1, size=(count, 1)) + np.arange(height - 2 * MARGIN)
    columns = random.integers(2 * MARGIN + 1, size=(count, 1)) + np.arange(width - 2 * MARGIN)
    columns = np.where(random.random((count, 1)) < 0.5, columns, columns[:, ::-1])
    found = padded[np.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return torch.from_numpy(found).permute(0, 3, 1, 2)


def train(images: NDArray[np.uint8], labels: Tensor) -> Classifier:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    card = ClassifierCard(image_shape=images.shape[1:], classes=int(labels.max()) + 1)
    network = Classifier(card).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), RATE, 0.9, weight_decay=DECAY, nesterov=True)
    steps = len(images) // BATCH
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps, pct_start=0.25)
    padded = np.pad(images, ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="reflect")
    for epoch in range(EPOCHS):
        order, right = random.permutation(len(images)), 0
        for step in track(range(steps), f"epoch {epoch + 1}"):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            wanted = labels[torch.from_numpy(chosen)]
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(crops(padded[chosen], random))
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits.float(), wanted).backward()
            optimizer.step()
            cycle.step()
            right += int((logits.argmax(1) == wanted).sum())
        print(
            f"epoch {epoch + 1}: {right / (steps * BATCH):.4f}, {time.process_time() / 60:.1f} core-minutes", flush=True
        )
    return network.eval()


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    images, labels = labelled(TRAIN)
    started = time.process_time()
    network = train(images, labels)
    minutes = (time.process_time() - started) / 60
    test_images, test_labels = labelled(TEST)
    right = (network.outputs(test_images).logits.argmax(1) == test_labels).float().mean()
    network.card = network.card.model_copy(
        update={"trained_on": TRAIN, "test_images": TEST, "test_accuracy": round(float(right), 4)}
        | {"core_minutes": round(minutes, 1)}
    )
    save_classifier(network, Path(sys.argv[1]))
    print(network.card.model_dump_json(indent=2))


if __name__ == "__main__":
    main()
