"""The configurations of the paper's sizes."""

import gc
from typing import cast

import pytest
import torch

from pcdm_core.model import Cascade, NoisePredictor
from pcdm_core.training import Stepper, TrainConfig, load_config, make_accelerator, new_state, shipped_configs

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

PAPER = [name for name in shipped_configs() if name.startswith("paper-")]

# Channels and blocks of the base and of each scale of details, batch, side of the image.
RELEASED = {
    "paper-cifar10": ((128, 32), (64, 16), 32, 32),
    "paper-imagenet32": ((256, 32), (128, 16), 128, 32),
    "paper-imagenet64": ((256, 64), (128, 32), 128, 64),
    "paper-imagenet128": ((256, 64), (128, 32), 128, 128),
}

MILLIONS = {"paper-cifar10": 39.6, "paper-imagenet32": 158.2, "paper-imagenet64": 307.1, "paper-imagenet128": 377.2}


def test_all_the_sizes_of_the_paper_are_shipped() -> None:
    assert set(PAPER) == set(RELEASED)


@pytest.mark.parametrize("name", PAPER)
def test_sizes_are_those_of_the_paper(name: str) -> None:
    config = load_config(name)
    base, detail, batch, side = RELEASED[name]
    networks = config.cascade.networks
    assert [(network.channels, network.blocks) for network in networks] == [base] + [detail] * (len(networks) - 1)
    assert len(networks) == (4 if side == 128 else 2)
    assert config.batch_size == batch
    assert config.cascade.image_shape == (3, side, side)
    assert config.cascade.transform == "haar"


@pytest.mark.parametrize("name", PAPER)
def test_networks_are_built_as_those_of_the_paper(name: str) -> None:
    for scale, network in enumerate(load_config(name).cascade.networks, start=1):
        assert network.multipliers == (1,)
        assert network.attention
        assert network.dropout == 0.1
        assert network.fourier == (6, 7)
        assert network.patch == (1 if scale == 1 else 2)


@pytest.mark.parametrize("name", PAPER)
def test_the_recipe_is_that_of_the_paper(name: str) -> None:
    config = load_config(name)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.betas, optimizer.weight_decay) == (2e-4, (0.9, 0.99), 0.01)
    assert (optimizer.warmup_steps, optimizer.decay_steps) == (100, 0)
    assert (config.ema_decay, config.steps, config.flip) == (0.9999, 10_000_000, False)
    assert (config.cascade.gamma_min, config.cascade.gamma_max) == (-13.3, 5.0)


@pytest.mark.parametrize("name", PAPER)
def test_has_as_many_weights_as_its_size_says(name: str) -> None:
    with torch.device("meta"):  # weights without memory
        cascade = Cascade(load_config(name).cascade)
    millions = sum(weight.numel() for weight in cascade.parameters()) / 1e6
    assert millions == pytest.approx(MILLIONS[name], abs=0.1)


@torch.no_grad()
def leave_zero(cascade: Cascade) -> None:
    """Move the weights that start as zero, behind which no other weight would have a gradient in the first step."""
    for parameter in cascade.predictors.parameters():
        if not parameter.any():
            parameter.normal_(std=1e-2)


def last_layers(cascade: Cascade) -> list[torch.Tensor]:
    """Copies of each network's last weights; copies of all would be as large as the model."""
    return [cast(NoisePredictor, predictor).unet.last.weight.detach().clone() for predictor in cascade.predictors]


def narrowed(config: TrainConfig) -> TrainConfig:
    """As deep, and of images as large, with an eighth of the channels."""
    networks = tuple(one.model_copy(update={"channels": one.channels // 8}) for one in config.cascade.networks)
    return config.model_copy(update={"cascade": config.cascade.model_copy(update={"networks": networks})})


@pytest.mark.parametrize("name", PAPER)
def test_takes_a_step(name: str) -> None:
    config = load_config(name)
    if name != "paper-cifar10":  # the smallest at full size; of the others a step takes minutes
        config = narrowed(config)
    gc.collect()  # the model before may still hang together in cycles
    images = torch.randint(256, (1, *config.cascade.image_shape), dtype=torch.uint8)
    state = new_state(config, images)
    leave_zero(state.cascade)
    stepper = Stepper(state, config, make_accelerator())
    before = [last_layers(cascade) for cascade in (state.cascade, state.ema.average)]
    bits = stepper.step(images)
    after = [last_layers(cascade) for cascade in (state.cascade, state.ema.average)]
    assert bits.shape == (config.cascade.scales,)
    assert bits.isfinite().all()
    assert not any(torch.equal(*pair) for pairs in zip(before, after, strict=True) for pair in zip(*pairs, strict=True))
    # Further in, Adam's first step may be smaller than float32 can add to a weight: there, the gradient tells.
    assert [
        name for name, value in state.cascade.named_parameters() if value.grad is None or not value.grad.any()
    ] == []
