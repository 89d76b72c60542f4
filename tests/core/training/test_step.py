"""One optimisation step."""

from typing import cast

import pytest
import torch
from tiny_runs import PICTURES, run_config
from torch import Tensor, nn

from pcdm_core.model import Cascade, NoisePredictor
from pcdm_core.training import OptimizerConfig, Stepper, TrainConfig, make_accelerator, new_state
from pcdm_core.training.step import own_generator

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

IMAGES = torch.from_numpy(PICTURES[:4])


def stepper_of(config: TrainConfig) -> Stepper:
    return Stepper(new_state(config, torch.from_numpy(PICTURES)), config, make_accelerator())


def with_optimizer(**changes: float) -> TrainConfig:
    return run_config(optimizer=OptimizerConfig.model_validate(changes))


def gradient_norm(module: nn.Module) -> float:
    return float(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm())


def weights(cascade: Cascade) -> list[Tensor]:
    return [value.detach().clone() for value in cascade.parameters()]


@pytest.mark.parametrize("clip_norm", [1e-3, 1e6])
def test_the_gradient_is_clipped(clip_norm: float) -> None:
    stepper = stepper_of(with_optimizer(clip_norm=clip_norm))
    stepper.step(IMAGES)
    norm = gradient_norm(stepper.state.cascade.predictors)
    if clip_norm < 1:
        assert norm == pytest.approx(clip_norm, rel=1e-3)
    else:
        assert norm > 1e-2, "this gradient would not notice clipping"


def test_the_first_step_moves_as_far_as_warm_up_lets_it() -> None:
    stepper = stepper_of(with_optimizer(learning_rate=1e-2, warmup_steps=4, weight_decay=0.0))
    predictors = stepper.state.cascade.predictors
    before = [value.detach().clone() for value in predictors.parameters()]
    stepper.step(IMAGES)
    pairs = zip(predictors.parameters(), before, strict=True)
    # The first step of Adam is the learning rate, whatever the size of the gradient.
    assert max(float((value.detach() - old).abs().max()) for value, old in pairs) == pytest.approx(1e-2 / 4, rel=1e-2)


def test_the_average_follows_the_weights() -> None:
    stepper = stepper_of(run_config())
    before = weights(stepper.state.cascade)
    stepper.step(IMAGES)
    expected = [0.1 * old + 0.9 * new for old, new in zip(before, weights(stepper.state.cascade), strict=True)]
    for average, value in zip(stepper.state.ema.average.parameters(), expected, strict=True):
        torch.testing.assert_close(average, value)


@pytest.mark.parametrize(("precision", "inner"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_the_inner_part_has_the_precision_it_was_told(precision: str, inner: torch.dtype) -> None:
    stepper = stepper_of(run_config(precision=precision))
    unet = cast(NoisePredictor, stepper.state.cascade.predictors[1]).unet
    seen: dict[str, torch.dtype] = {}
    for name, layer in {"first": unet.first, "inner": unet.middle1.conv1, "last": unet.last}.items():
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: seen.update({name: output.dtype}))
    stepper.step(IMAGES)
    assert seen == {"first": torch.float32, "inner": inner, "last": torch.float32}


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    stepper = stepper_of(run_config())
    first = next(stepper.state.cascade.predictors.parameters())
    first.register_hook(lambda gradient: gradient + float("inf"))  # type: ignore[no-untyped-call]
    before = weights(stepper.state.cascade)
    with pytest.raises(FloatingPointError, match="not finite at step 1"):
        stepper.step(IMAGES)
    after = weights(stepper.state.cascade), weights(stepper.state.ema.average)
    assert all(torch.equal(value, old) for values in after for value, old in zip(values, before, strict=True))
    assert stepper.state.step == 0


def test_each_process_has_its_own_noise_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    bits, shared = [], []
    for process in (0, 0, 1):
        monkeypatch.setattr(type(make_accelerator()), "process_index", process)
        stepper = stepper_of(run_config())
        bits.append(stepper.step(IMAGES))
        shared.append(stepper.state.generator.get_state())
    assert torch.equal(bits[0], bits[1])
    assert not torch.allclose(bits[0], bits[2])
    assert torch.equal(shared[0], shared[2]), "the next batch would be another one on each process"


def test_noise_and_dropout_of_a_process_are_not_the_same_draws() -> None:
    generator = own_generator(torch.Generator().manual_seed(0), process=0)
    assert not torch.equal(torch.rand(8, generator=generator), torch.rand(8))


def test_each_process_has_its_own_dropout() -> None:
    masks = []
    for process in (0, 0, 1):
        own_generator(torch.Generator().manual_seed(0), process)
        masks.append(torch.rand(8))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_processes_that_do_not_find_each_other_are_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"2 processes were started.*ACCELERATE_USE_CPU=true"):
        make_accelerator()
