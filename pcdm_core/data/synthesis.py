"""Short sounds made of numbers alone, and their spectrograms.

Every sound is a function of its kind and its number. All kinds share the frame of a recording: how many events there
are, when they begin, how they fade, how loud the whole is and the noise behind it. They differ in what an event is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "FRAMES", "KINDS", "log_spectrogram", "sound"]

BINS: Final = 32
"""Frequencies of a spectrogram: 125 Hz to 4,000 Hz in steps of 125 Hz."""
FRAMES: Final = 64
"""Moments of a spectrogram, 8 ms apart."""

Wave = NDArray[np.float64]

_RATE: Final = 8000.0  # samples a second
_WINDOW: Final = 2 * BINS
_SAMPLES: Final = _WINDOW * FRAMES
_TIME: Final = np.arange(_SAMPLES) / _RATE
_RANGE_DB: Final = 80.0
_BACKGROUND: Final = 10 ** (-70 / 20)  # standard deviation
_NOTE_RATIOS: Final = np.arange(1.0, 9.0)
# Partials of a tuned church bell in units of its prime (Fletcher, Rossing, "The Physics of Musical Instruments").
_BELL_RATIOS: Final = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.667, 3.0, 4.0, 5.333])


def sound(kind: str, number: int) -> Wave:
    """Half a second of sound at 8,000 samples a second.

    Args:
        kind: A key of `KINDS`.
        number: Which sound of that kind, at least 0; equal numbers give equal sounds.

    Returns:
        Amplitudes, within -1 and 1 but for the background noise, ``[4096]``.
    """
    random = np.random.default_rng((list(KINDS).index(kind), number))
    wave = np.zeros(_SAMPLES)
    for _ in range(random.integers(1, 4)):
        wave += random.uniform(0.3, 1.0) * _envelope(random) * KINDS[kind](random)
    peak = 10 ** (random.uniform(-20, 0) / 20)
    wave *= peak / np.abs(wave).max()
    return wave + _BACKGROUND * random.standard_normal(_SAMPLES)


def log_spectrogram(wave: Wave) -> NDArray[np.uint8]:
    """Short-time spectrum (Hann windows of 64 samples, side by side) on a logarithmic scale.

    Args:
        wave: Amplitudes, ``[4096]``.

    Returns:
        uint8, ``[32, 64]``: frequency (the highest on top, without the constant part) by time. 255 is the magnitude of
        a sine of amplitude 1, 0 is 80 dB or more below it; a step is 0.31 dB.
    """
    window = np.hanning(_WINDOW)
    magnitude = np.abs(np.fft.rfft(wave.reshape(FRAMES, _WINDOW) * window)) / (window.sum() / 2)
    decibel = 20 * np.log10(np.maximum(magnitude[:, :0:-1].T, 10 ** (-_RANGE_DB / 20)))
    return np.asarray(np.clip(np.rint(255 * (1 + decibel / _RANGE_DB)), 0, 255), dtype=np.uint8)


def _envelope(random: np.random.Generator) -> Wave:
    """How an event rises and fades, ``[4096]`` in [0, 1]."""
    begin = random.uniform(0.0, 0.6) * _TIME[-1]
    attack, decay = random.uniform(0.003, 0.03), random.uniform(0.05, 0.4)
    since = np.maximum(_TIME - begin, 0.0)
    return np.asarray(np.minimum(since / attack, 1.0) * np.exp(-since / decay))


def _tone(random: np.random.Generator, ratios: Wave) -> Wave:
    """Sines at multiples of a pitch of the equal-tempered scale (C5 to G6), with vibrato.

    Args:
        random: Source of pitch, vibrato, tone colour and phases.
        ratios: Frequencies of the sines in units of the pitch; those that would lie above 4 kHz are left out.
    """
    pitch = 440.0 * 2 ** ((random.integers(72, 92) - 69) / 12)
    depth, speed = random.uniform(0.0, 0.03), random.uniform(4.0, 8.0)
    frequency = pitch * (1 + depth * np.sin(2 * np.pi * (speed * _TIME + random.uniform())))
    heard = ratios[ratios * pitch * (1 + depth) < _RATE / 2]
    amplitudes = heard ** -random.uniform(0.5, 2.0)
    cycles = heard[:, None] * (np.cumsum(frequency) / _RATE) + random.uniform(size=(len(heard), 1))
    return np.asarray(amplitudes @ np.sin(2 * np.pi * cycles))


def _note(random: np.random.Generator) -> Wave:
    """A tone of harmonic partials."""
    return _tone(random, _NOTE_RATIOS)


def _bell(random: np.random.Generator) -> Wave:
    """A note in all but its partials, which are not harmonic."""
    return _tone(random, _BELL_RATIOS)


def _chirp(random: np.random.Generator) -> Wave:
    """One sine whose frequency moves steadily from one value to another."""
    first, last = random.uniform(300, 3700, size=2)
    cycles = np.cumsum(np.linspace(first, last, _SAMPLES)) / _RATE + random.uniform()
    return np.asarray(np.sin(2 * np.pi * cycles))


def _clicks(random: np.random.Generator) -> Wave:
    """Single samples at regular times."""
    wave = np.zeros(_SAMPLES)
    period = random.uniform(0.02, 0.1)
    moments = np.arange(random.uniform(0.0, period), _TIME[-1], period)
    wave[np.rint(moments * _RATE).astype(int)] = 1.0
    return wave


def _noise(random: np.random.Generator) -> Wave:
    """Noise between white and brown."""
    spectrum = np.fft.rfft(random.standard_normal(_SAMPLES))
    colour = np.maximum(np.arange(len(spectrum)), 1.0) ** -random.uniform(0.0, 1.0)
    return np.fft.irfft(spectrum * colour, _SAMPLES)


KINDS: Final[Mapping[str, Callable[[np.random.Generator], Wave]]] = MappingProxyType(
    {"notes": _note, "bells": _bell, "chirps": _chirp, "clicks": _clicks, "noise": _noise}
)
"""What an event is, by the name of its kind. New ones go to the end: the place of a kind seeds its sounds."""
