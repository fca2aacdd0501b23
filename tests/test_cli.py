"""The command line's own manners: one line an error, one line a warning."""

import subprocess
import sys


def test_a_warning_and_an_error_are_one_line_each_without_code(tmp_path):
    (tmp_path / "record.json").write_text("{")
    words = ["export", "table", str(tmp_path), "--output", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "energylab.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(f"warning: skipped: {tmp_path / 'record.json'}")
    assert second.startswith("error: no record under")
