"""Two processes that accelerate's launcher starts, on the CPU, over the loopback interface."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import PICTURES, checkpoint, different

from pcdm_core.model import load_pretrained

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")
if sys.platform != "linux":
    pytest.skip("the name of the loopback interface is Linux'", allow_module_level=True)

CONFIG = """
data = "DATA"
batch_size = 4
steps = 4
precision = "float32"
flip = true

[optimizer]
learning_rate = 1e-2
warmup_steps = 0

[cascade]
image_shape = [1, 8, 8]
networks = [
    { channels = 8, blocks = 1, attention = false, dropout = 0.1 },
    { channels = 8, blocks = 1, attention = false, dropout = 0.1 },
]
"""

# Trains as the command does, and keeps what each process ends with.
SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np
from pcdm_core.model import save_pretrained
from pcdm_core.training import load_config, train

config, data, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
images = np.ascontiguousarray(np.load(data)["images"].transpose(0, 3, 1, 2))
average = train(load_config(config), images, folder)
save_pretrained(average, folder / f"process{os.environ['RANK']}")
"""


def launch(home: Path, *command: object) -> str:
    """Start a command twice; its standard output."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", "0", "--no_python"]
    # With --cpu the launcher starts a single process; more of them only by MPI. This variable is its other way.
    settings = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "HF_HOME": str(home)}
    done = subprocess.run(
        [*launcher, *map(str, command)], env=os.environ | settings, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    data, config, script = (tmp_path / name for name in ("pictures.npz", "tiny.toml", "script.py"))
    np.savez(data, images=PICTURES.transpose(0, 2, 3, 1))
    config.write_text(CONFIG.replace("DATA", str(data)))
    script.write_text(SCRIPT)
    straight, parts = tmp_path / "straight", tmp_path / "parts"

    launch(tmp_path, sys.executable, script, config, data, straight)
    models = [load_pretrained(straight / name) for name in ("model", "process0", "process1")]
    assert len({digest for _, digest in models}) == 1, "the processes went apart"

    pcdm = Path(sys.executable).with_name("pcdm")
    for steps in (2, 4):
        output = launch(tmp_path, pcdm, "train", config, "--output", parts, "--steps", steps)
        assert output.count("the averaged model is in") == 1
        assert int(checkpoint(parts)["step"]) == steps
    assert sorted(file.name for file in parts.iterdir()) == ["checkpoint.safetensors", "model", "tensorboard"]
    assert len(list((parts / "tensorboard").iterdir())) == 2, "one file for each start"
    assert load_pretrained(parts / "model")[1] == models[0][1]
    assert different(checkpoint(straight), checkpoint(parts)) == []
