import pytest
import torch
from pydantic import ValidationError
from tiny_cascades import random_images, tiny_cascade, tiny_config

from pcdm_core.model import Cascade, CascadeConfig

CASCADES = [
    ("identity", 1),
    ("haar", 1),
    ("haar", 2),
    ("haar", 3),
    ("laplacian", 2),
    ("laplacian", 3),
    ("downsample", 2),
]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("transform", "scales"), CASCADES)
def test_every_transform_takes_a_step(transform: str, scales: int) -> None:
    config = tiny_config(transform, scales)
    cascade = tiny_cascade(config).train()
    before = {name: value.clone() for name, value in cascade.named_parameters()}
    optimizer = torch.optim.Adam(cascade.parameters(), lr=1e-3)
    loss = cascade.training_loss(random_images(config, 4), generator())
    (loss.bound + loss.schedule).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert loss.bound.isfinite()
    assert all(not torch.equal(value, before[name]) for name, value in cascade.named_parameters())


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 2), ("laplacian", 2)])
def test_the_bound_reaches_every_network_parameter(transform: str, scales: int, patch: int) -> None:
    config = tiny_config(transform, scales, network={"patch": patch})
    cascade = tiny_cascade(config)
    cascade.training_loss(random_images(config, 8), generator()).bound.backward()  # type: ignore[no-untyped-call]
    unmoved = [
        name
        for name, value in cascade.predictors.named_parameters()
        if value.grad is None or not (value.grad != 0).any() or not value.grad.isfinite().all()
    ]
    assert unmoved == []


def test_the_bound_leaves_the_schedule_alone() -> None:
    config = tiny_config()
    cascade = tiny_cascade(config)
    cascade.training_loss(random_images(config, 8), generator()).bound.backward()  # type: ignore[no-untyped-call]
    assert cascade.schedule.logits.grad is None


def test_the_schedule_loss_moves_the_schedules_alone() -> None:
    config = tiny_config()
    cascade = tiny_cascade(config)
    cascade.training_loss(random_images(config, 8), generator()).schedule.backward()  # type: ignore[no-untyped-call]
    moved = [name for name, value in cascade.named_parameters() if value.grad is not None]
    assert moved == ["schedule.logits"]
    assert cascade.schedule.logits.grad is not None
    assert (cascade.schedule.logits.grad != 0).any(dim=1).all()


@torch.no_grad()
def test_scales_sum_to_the_bound() -> None:
    config = tiny_config(scales=3)
    loss = tiny_cascade(config).training_loss(random_images(config, 8), generator())
    assert loss.scales.shape == (3,)
    torch.testing.assert_close(loss.scales.sum(), loss.bound)


@torch.no_grad()
def test_the_same_draws_give_the_same_loss() -> None:
    config = tiny_config()
    cascade, images = tiny_cascade(config), random_images(config, 8)
    one, two = (cascade.training_loss(images, generator()).bound for _ in range(2))
    other = cascade.training_loss(images, torch.Generator().manual_seed(1)).bound
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@torch.no_grad()
def test_one_haar_scale_is_the_identity() -> None:
    images = random_images(tiny_config("identity", 1), 8)
    haar, identity = (
        tiny_cascade(tiny_config(name, 1)).training_loss(images, generator()).bound for name in ("haar", "identity")
    )
    assert torch.equal(haar, identity)


@torch.no_grad()
def test_the_finer_network_sees_the_sampled_coarse_image() -> None:
    config = tiny_config(gamma_min=-3.0)
    cascade = tiny_cascade(config)
    clean = cascade.transform.forward(cascade.pixels(random_images(config, 256)))
    noise = cascade.transform.noise(torch.randn(256, cascade.transform.noise_dimensions))
    condition = cascade.condition(2, cascade.sample_z0(clean, noise))
    assert condition is not None
    expected_sigma = torch.sigmoid(torch.tensor(-3.0)).sqrt()
    left = condition - torch.sigmoid(torch.tensor(3.0)).sqrt() * clean[0]
    assert float(left.std()) == pytest.approx(float(expected_sigma), rel=0.03)


def test_pixels_sit_in_the_middle_of_their_cells() -> None:
    cascade = Cascade(tiny_config("identity", 1, (1, 1, 4), levels=4))
    pixels = cascade.pixels(torch.tensor([[[[0, 1, 2, 3]]]], dtype=torch.uint8))
    assert pixels.flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]


def test_a_wrong_image_shape_is_refused() -> None:
    cascade = tiny_cascade(tiny_config())
    with pytest.raises(ValueError, match=r"expected images"):
        cascade.training_loss(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), generator())


def test_an_unknown_transform_is_named() -> None:
    with pytest.raises(ValidationError, match="unknown transform 'fourier'; known are"):
        tiny_config("fourier")


def test_a_network_that_cannot_halve_its_input_is_named() -> None:
    with pytest.raises(ValidationError, match="the network of scale 1 halves its 2x2 input to multiples of 4"):
        tiny_config("haar", 3, network={"multipliers": (1, 1), "patch": 2})


def test_ends_of_the_schedule_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="must lie below"):
        tiny_config(gamma_min=5.0)


def test_a_configuration_reads_its_own_dictionary() -> None:
    config = tiny_config("laplacian", 3, levels=16, lattice=False)
    assert CascadeConfig.model_validate(config.to_dict()) == config
