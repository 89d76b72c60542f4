"""`pcdm train`: where a run begins, and what it needs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import PICTURES, checkpoint, different, run_config
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.model import Cascade, load_pretrained, save_pretrained
from pcdm_core.training import load_initial, new_state

CONFIG = """
data = "DATA"
batch_size = 4
steps = 4
precision = "float32"
ema_decay = 0.9

[optimizer]
learning_rate = 1e-9
schedule_learning_rate = 1e-9

[cascade]
image_shape = [1, 8, 8]
networks = [{ channels = 8, blocks = 1, attention = false }, { channels = 8, blocks = 1, attention = false }]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run that hardly moves the weights, on a few pictures."""
    np.savez(tmp_path / "pictures.npz", images=PICTURES.transpose(0, 2, 3, 1))
    file = tmp_path / "tiny.toml"
    file.write_text(CONFIG.replace("DATA", str(tmp_path / "pictures.npz")))
    return file


def train(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments)])
    return result.exit_code, result.stdout.replace("\n", " "), result.stderr.replace("\n", " ")


def other_model(folder: Path, **changes: object) -> Cascade:
    """Save a cascade of the tests' size, or a changed one, with weights that no run begins with."""
    torch.manual_seed(7)
    plain = {"image_shape": (1, 8, 8), "networks": ({"channels": 8, "blocks": 1, "attention": False},) * 2}
    cascade = Cascade(run_config().cascade.model_validate(plain | changes))
    cascade.fit_variance(torch.from_numpy(PICTURES // 3))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_pretrained(cascade, folder)
    return cascade


def assert_same_weights(one: Cascade, other: Cascade) -> None:
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0, msg=name)


def test_a_run_begins_with_the_weights_of_a_model(tmp_path: Path, config: Path) -> None:
    pytest.importorskip("accelerate")
    given = other_model(tmp_path / "given")
    code, _, error = train(config, "--output", tmp_path / "run", "--init-from", tmp_path / "given")
    assert code == 0, error
    assert_same_weights(load_pretrained(tmp_path / "run/model")[0], given)
    trained = {name[8:]: value for name, value in checkpoint(tmp_path / "run").items() if name.startswith("cascade.")}
    for name, expected in given.state_dict().items():
        torch.testing.assert_close(trained[name], expected, atol=1e-6, rtol=0, msg=name)


def test_weights_and_average_begin_as_the_given_ones() -> None:
    settings = run_config()
    given = Cascade(settings.cascade)
    given.fit_variance(torch.from_numpy(PICTURES // 3))
    state = new_state(settings, torch.from_numpy(PICTURES), initial=given)
    assert_same_weights(state.cascade, given)
    assert_same_weights(state.ema.average, given)


def test_another_cascade_is_refused_by_the_library_too() -> None:
    settings = run_config()
    given = Cascade(settings.cascade.model_copy(update={"lattice": False}))
    with pytest.raises(ValueError, match="lattice: False there, True here"):
        new_state(settings, torch.from_numpy(PICTURES), initial=given)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"transform": "laplacian"}, "transform: laplacian there, haar here"),
        ({"networks": ({"channels": 8, "blocks": 1, "attention": False},)}, "scales: 1 there, 2 here"),
        (
            {"networks": ({"channels": 8, "blocks": 1, "attention": False}, {"channels": 16, "attention": False})},
            "scale 2, channels: 16 there, 8 here; scale 2, blocks: 2 there, 1 here",
        ),
    ],
)
def test_a_model_of_another_cascade_is_refused_with_the_difference(
    tmp_path: Path, config: Path, changes: dict[str, object], named: str
) -> None:
    pytest.importorskip("accelerate")
    other_model(tmp_path / "given", **changes)
    # The data is not there: it would be complained of first if it were read first.
    arguments = ("--output", tmp_path / "run", "--init-from", tmp_path / "given", "--data", tmp_path / "none.npz")
    code, _, error = train(config, *arguments)
    assert code == 2
    assert named in error
    assert str(tmp_path / "given") in error
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_initial(tmp_path, run_config().cascade)


def test_a_run_with_a_checkpoint_goes_on_from_that(tmp_path: Path, config: Path) -> None:
    pytest.importorskip("accelerate")
    other_model(tmp_path / "given")
    for folder, steps, initial in (
        ("straight", 3, []),
        ("parts", 1, []),
        ("parts", 3, ["--init-from", tmp_path / "given"]),
    ):
        code, output, error = train(config, "--output", tmp_path / folder, "--steps", steps, *initial)
        assert code == 0, error
    assert "going on from the checkpoint" in output
    assert different(checkpoint(tmp_path / "straight"), checkpoint(tmp_path / "parts")) == []


@pytest.mark.parametrize("package", ["accelerate", "tensorboard"])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Path, package: str
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    # Said before the images are read: these are not there.
    code, _, error = train(config, "--output", tmp_path / "run", "--data", tmp_path / "none.npz")
    assert code == 2
    assert f'training needs the package {package}; install it with: pip install "pcdm[train]"' in error
    assert not (tmp_path / "run").exists()


def test_a_run_that_diverges_is_told_in_one_line(tmp_path: Path, config: Path) -> None:
    pytest.importorskip("accelerate")
    text = config.read_text().replace("learning_rate = 1e-9", "learning_rate = 1e30", 1)
    config.write_text(text.replace("[optimizer]", "[optimizer]\nwarmup_steps = 0"))
    code, _, error = train(config, "--output", tmp_path / "run")
    assert code == 2
    assert "lower the learning rate" in error
