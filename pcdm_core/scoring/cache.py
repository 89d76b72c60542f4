"""Findings kept in a folder, so that a run that was stopped goes on where it was.

The last bits of what a network computes depend on the images that share its batch. So what is kept is a block of images
that were scored together, found again by the pixels of all of them: a run that finds some of its blocks here ends with
the very numbers of a run that found none.
"""

from __future__ import annotations

import hashlib
import json
import logging
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from pcdm_core.files import write_atomically
from pcdm_core.scoring.findings import Findings
from pcdm_core.scoring.scorer import CascadeScorer
from pcdm_core.scoring.units import Fidelity

__all__ = ["FindingsCache"]

FORMAT_VERSION: Final = 5
"""Of an entry; raised whenever the same model and fidelity give other findings, or the layout changes."""

_log = logging.getLogger(__name__)


class FindingsCache:
    """Findings of one scorer at one fidelity, by the content of the images.

    An entry holds for the model's digest, the fidelity, the preprocessing and the precision. The detector is not among
    these: findings are what it is fitted on. What moves the last bits of a sum is: the batch size, torch's version, its
    number of threads and the processor's instructions.

    Args:
        folder: made when the first entry is written; may be shared by models, fidelities and processes.
        scorer: computes what is not there.
        fidelity: of the findings; for a scorer with a calibration, the calibrated one.
    """

    def __init__(self, folder: Path, scorer: CascadeScorer, fidelity: Fidelity) -> None:
        assert scorer.calibration is None or fidelity == scorer.fidelity
        self._folder, self._scorer, self._fidelity = folder, scorer, fidelity
        self._layout = scorer.layout(fidelity)
        identity = {
            "format_version": FORMAT_VERSION,
            "model_digest": scorer.digest,
            "fidelity": fidelity.settings(),
            "preprocessing": scorer.preprocessing.model_dump(),
            "precision": scorer.precision,
            "batch_size": scorer.batch_size,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "codecs": [PIL.__version__, features.version("webp"), features.version("zlib")] if scorer.codecs else None,
            "processor": [scorer.cascade.device.type, torch.backends.cpu.get_cpu_capability()],
        }
        self._identity = json.dumps(identity, sort_keys=True).encode()

    def findings(self, images: NDArray[np.uint8]) -> Findings:
        """Those of a block of images, uint8, ``[N, C, H, W]``: kept ones, or new ones, which are then kept.

        Raises:
            OSError: the folder cannot be read or written.
        """
        key = hashlib.sha256(self._identity + str(images.shape).encode() + images.tobytes()).digest()
        file = self._folder / f"{key.hex()}.findings"
        kept = self._read(file, key)
        if kept is None:
            kept = self._scorer.findings(images, self._fidelity)
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(file, _packed(kept, key))
        return kept

    def _read(self, file: Path, key: bytes) -> Findings | None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = content[:32], content[32:]
        # The key is part of the digest: an entry under another's name is as good as a damaged one.
        if hashlib.sha256(key + payload).digest() != digest:
            _log.warning("%s is damaged: its images are scored again", file)
            return None
        with np.load(BytesIO(payload), allow_pickle=False) as arrays:
            return Findings(self._layout, arrays["features"])


def _packed(findings: Findings, key: bytes) -> bytes:
    """A digest of key and payload, then the payload."""
    content = BytesIO()
    np.savez(content, features=findings.features)
    payload = content.getvalue()
    return hashlib.sha256(key + payload).digest() + payload
