"""Make the sample of speech: speak sentences with espeak-ng, store them as 16 kHz mono Ogg Vorbis.

Run once, by hand; the clips are kept in the repository, so that nobody else needs espeak-ng:
``python make_speech.py`` (needs the ``espeak-ng`` command, soundfile and librosa).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import librosa
import soundfile

RATE_HZ = 16_000
FOLDER = Path(__file__).parent / "speech_recognition"

#: Voice, words per minute, and the sentence: written for this sample.
SENTENCES = [
    ("en-us", 150, "The river was quiet that morning, and two fishermen pushed their boat slowly into the mist."),
    ("en-gb", 160, "Please leave the keys under the blue pot."),
    (
        "en-us+f3",
        145,
        "She had promised to write every week, but the letters came less and less often, and in the winter "
        "they stopped.",
    ),
    ("en-gb-scotland", 155, "Nobody expected the bridge to hold for more than an hour."),
    (
        "en-us+m3",
        165,
        "Cut the onions finely, warm the oil in a heavy pan, and let them cook until they are soft but not brown.",
    ),
    ("en-gb+f2", 150, "It will rain before dinner."),
    (
        "en-us",
        170,
        "The committee agreed that the library should stay open on Sundays, provided that enough volunteers "
        "could be found to look after the children.",
    ),
    (
        "en-gb-x-rp",
        140,
        "Heat always flows from the warmer body to the colder one, never the other way round without "
        "some work being done.",
    ),
    ("en-us+f4", 160, "Turn left at the station and walk until you see the market."),
    (
        "en-gb+m2",
        150,
        "My grandfather repaired clocks in a small room above the bakery, and the whole street set its "
        "watches by his window.",
    ),
    ("en-us+m1", 155, "A fox crossed the frozen field and looked back once."),
    ("en-gb-scotland+f2", 150, "The train to the coast leaves from the second platform in eleven minutes."),
    (
        "en-us+f2",
        175,
        "When the power failed, the nurses moved quietly from bed to bed with their torches, and not one of "
        "the patients woke.",
    ),
    ("en-gb", 135, "Energy is the one thing that a computer can never give back."),
    ("en-us+m7", 150, "He counted the coins twice and pushed them across the table."),
    (
        "en-gb-x-rp+f3",
        160,
        "Bring warm clothes, good boots, something to eat, and a map that shows the footpaths north of the lake.",
    ),
    (
        "en-us",
        140,
        "The old theatre was sold, painted, and sold again, yet behind the stage the ropes still hung exactly "
        "where the last crew had tied them.",
    ),
    ("en-gb+f4", 165, "Could you read that number to me again?"),
    ("en-us+f1", 155, "Three ships waited outside the harbour for the tide to turn."),
    ("en-gb+m4", 150, "What we measure we can compare, and what we can compare we may one day improve."),
]


def speak(voice: str, words_per_minute: int, text: str) -> list[float]:
    """Return the sentence as samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", voice, "-s", str(words_per_minute), "-w", str(file), text]
        subprocess.run(command, check=True)
        samples, rate_hz = soundfile.read(file)
    return librosa.resample(samples, orig_sr=rate_hz, target_sr=RATE_HZ)


def main() -> None:
    """Write every clip and the table of rows."""
    rows = []
    for number, (voice, words_per_minute, text) in enumerate(SENTENCES, start=1):
        name = f"{number:02d}.ogg"
        soundfile.write(FOLDER / name, speak(voice, words_per_minute, text), RATE_HZ, format="OGG", subtype="VORBIS")
        rows.append({"audio": name, "text": text})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (FOLDER / "rows.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
