"""Sound: decode and resample clips, and make synthetic ones with the rhythm and spectrum of speech."""

from __future__ import annotations

import io
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from energylab.errors import DataError

RATE_HZ = 16_000
SHORTEST_S = 0.025  # one window of a speech model's first layers


class DurationSettings(BaseModel):
    """Lengths of synthetic clips: log-normal, as the lengths of utterances roughly are.

    Attributes
    ----------
    mean_s : float
        Mean length in seconds.
    spread : float
        Standard deviation of the logarithm of the length.
    longest_s : float
        No clip is longer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean_s: float = Field(gt=0)
    spread: float = Field(0.0, ge=0)
    longest_s: float = Field(30.0, gt=0)


def decode_audio(encoded: bytes, rate_hz: int = RATE_HZ) -> Any:
    """Decode a clip to one channel at one rate.

    Parameters
    ----------
    encoded : bytes
        A file of any format that libsndfile reads (WAV, FLAC, Ogg, MP3 …).
    rate_hz : int
        Sampling rate to resample to.

    Returns
    -------
    numpy.ndarray
        Samples as float32, shape (samples,).

    Raises
    ------
    DataError
        If it is no sound, cut short, empty, shorter than a model's window, or holds values that are no numbers.
    """
    import numpy as np
    import soundfile

    try:
        samples, found_hz = soundfile.read(io.BytesIO(encoded), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise DataError(f"the clip ({len(encoded)} bytes) cannot be decoded: {error}") from error
    if _cut_short(encoded):
        raise DataError(f"the clip ({len(encoded)} bytes) is cut short: its header states more")
    if len(samples) < SHORTEST_S * found_hz:
        raise DataError(f"the clip lasts {len(samples) / found_hz:.3f} s, less than the {SHORTEST_S:g} s a model needs")
    if not np.isfinite(samples).all():
        raise DataError("the clip holds samples that are no finite numbers")
    mono = samples.mean(axis=1)
    if found_hz == rate_hz:
        return mono
    import soxr

    return soxr.resample(mono, found_hz, rate_hz)


def _cut_short(encoded: bytes) -> bool:
    """Whether a WAV file ends before its header says: the library would read what is left, and a model do less work.

    A file written to a pipe states no length, which is 0 or all ones.
    """
    stated = int.from_bytes(encoded[4:8], "little")
    return encoded[:4] == b"RIFF" and stated not in (0, 2**32 - 1) and stated + 7 > len(encoded)  # 8, less a pad byte


def duration_s(encoded: bytes) -> float:
    """Return the length of a clip in seconds, from its header."""
    import soundfile

    return float(soundfile.info(io.BytesIO(encoded)).duration)


def babble(rng: Any, seconds: float) -> bytes:
    """Make a clip with the rhythm and the spectrum of speech, and no words.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    seconds : float
        Length.

    Returns
    -------
    bytes
        FLAC, 16 kHz, one channel: harmonics of a wandering pitch, four syllables a second, a little noise.
    """
    import numpy as np
    import soundfile

    count = round(seconds * RATE_HZ)
    time_s = np.arange(count) / RATE_HZ
    pitch_hz = rng.uniform(90, 220) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * time_s))
    turns = np.cumsum(pitch_hz) / RATE_HZ
    harmonics = np.arange(1, 25)[:, None]
    phases = 2 * np.pi * (harmonics * np.arange(4096) / 4096 + rng.uniform(size=harmonics.shape))
    period = (np.sin(phases) / harmonics).sum(axis=0)  # of the voice: looked up, not computed for every sample
    voice = period[(turns % 1.0 * len(period)).astype(int)]
    syllables = np.sin(np.pi * 4.0 * time_s + rng.uniform(0, np.pi)) ** 2
    samples = 0.1 * voice * syllables + 0.005 * rng.normal(size=count)
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1).astype(np.float32), RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()
