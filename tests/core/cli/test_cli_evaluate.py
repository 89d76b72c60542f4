import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained


def model(folder: Path, transform: str = "haar") -> Path:
    torch.manual_seed(1)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    cascade = Cascade(CascadeConfig(image_shape=(1, 8, 8), transform=transform, networks=(network, network)))
    save_pretrained(cascade, folder)
    return folder


def evaluate(folder: Path, *options: object, transform: str = "haar") -> dict[str, Any]:
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(folder / "pictures.npz", images=pictures)
    arguments = ["evaluate", str(model(folder / "model", transform)), str(folder / "pictures.npz"), "--json"]
    result = CliRunner().invoke(app, arguments + [str(option) for option in options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_terms_are_told_apart_in_bits_and_nats(tmp_path: Path) -> None:
    answer = evaluate(tmp_path)
    to_nats = 64 * np.log(2)
    assert sum(answer["terms"].values()) == pytest.approx(answer["bits_per_dim"]["mean"])
    assert sum(answer["terms_nats"].values()) == pytest.approx(answer["nats"]["mean"])
    assert answer["nats"]["mean"] == pytest.approx(to_nats * answer["bits_per_dim"]["mean"])


def test_diffusion_is_told_by_scale_and_noise_level(tmp_path: Path) -> None:
    answer = evaluate(tmp_path, "--nodes", 5)
    assert list(answer["diffusion"]) == ["scale_1", "scale_2"]
    for scale, nodes in answer["diffusion"].items():
        assert [node["gamma"] for node in nodes] == sorted(node["gamma"] for node in nodes)
        assert sum(node["bits_per_dim"] for node in nodes) == pytest.approx(answer["terms"][f"diffusion_{scale}"])


def test_errors_are_told_apart(tmp_path: Path) -> None:
    errors = evaluate(tmp_path, "--replicates", 2)["errors"]
    assert errors["images"] > 0
    assert errors["noise"] > 0
    assert errors["time"] > 0


def test_one_replicate_tells_no_error_by_noise(tmp_path: Path) -> None:
    assert evaluate(tmp_path)["errors"]["noise"] is None


def test_a_certified_bound_is_labelled_and_has_no_error_by_time(tmp_path: Path) -> None:
    answer = evaluate(tmp_path, "--method", "certified", "--nodes", 4)
    assert answer["kind"] == "bound, certified in expectation"
    assert answer["fidelity"]["method"] == "certified"
    assert answer["errors"]["time"] is None


def test_the_flow_has_terms_of_its_own(tmp_path: Path) -> None:
    answer = evaluate(tmp_path, "--method", "flow", "--nodes", 12, "--limit", 2)
    assert answer["terms"].keys() == {"reconstruction", "dequantisation", "flow_scale_1", "flow_scale_2"}
    assert answer["diffusion"] == {}
    assert answer["network_calls"] == 6 * 12 * 2
    assert answer["errors"]["time"] > 0


def test_draws_that_share_a_probe_are_an_estimate(tmp_path: Path) -> None:
    options = ("--method", "flow", "--nodes", 1, "--limit", 1, "--replicates", 2)
    assert "an estimate" in evaluate(tmp_path, *options)["kind"]
    exact = evaluate(tmp_path, *options, "--divergence", "exact")
    assert "an estimate" not in exact["kind"]
    assert exact["terms"]["importance"] <= 0


def test_the_flow_takes_a_tolerance(tmp_path: Path) -> None:
    options = ("--method", "flow", "--nodes", 12, "--limit", 2, "--tolerance")
    loose, tight = (evaluate(tmp_path, *options, tolerance) for tolerance in (1e-1, 1e-4))
    assert tight["fidelity"]["tolerance"] == 1e-4
    assert tight["network_calls"] > loose["network_calls"]
    assert tight["errors"]["time"] < loose["errors"]["time"]


def test_a_map_that_loses_volume_has_a_loose_bound(tmp_path: Path) -> None:
    answer = evaluate(tmp_path, transform="downsample")
    assert "loose" in answer["kind"]
    assert "loose" not in evaluate(tmp_path)["kind"]
    # Both scales are there: the coarse image, and all pixels again.
    assert {"prior_scale_1", "diffusion_scale_1", "diffusion_scale_2", "reconstruction"} <= answer["terms"].keys()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--tolerance", 1e-3), "error: tolerance: only the flow has one, the method is bound"),
        (("--method", "flow", "--tolerance", 0), "error: tolerance: Input should be greater than 0"),
        (("--nodes", 2000), "error: nodes: Input should be less than or equal to 1000"),
    ],
)
def test_a_setting_that_does_not_fit_is_told_in_one_line(
    options: tuple[object, ...], complaint: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "pictures.npz", images=np.zeros((1, 8, 8), np.uint8))
    arguments = ["evaluate", str(model(tmp_path / "model")), str(tmp_path / "pictures.npz"), *map(str, options)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == complaint
    assert "pydantic" not in result.stderr
