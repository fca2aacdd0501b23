"""Keys, the request from plain values, what is official, and the commands."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import closed_builders as builders
import pytest
from typer.testing import CliRunner

from energylab.errors import BundleError, ParameterError, UnknownNameError
from energylab.record import DataFacts
from energylab_portal.cli import app
from energylab_portal.sealed import keys, official, request

ROOT = Path(__file__).resolve().parents[3]


def test_key_id_is_the_hash_of_the_raw_public_key(tmp_path) -> None:
    made = keys.make(tmp_path / "key.pem")
    assert made.key_id == hashlib.sha256(base64.b64decode(made.public)).hexdigest()
    assert keys.load(tmp_path / "key.pem").key_id == made.key_id
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    with pytest.raises(BundleError, match="never overwritten"):
        keys.make(tmp_path / "key.pem")


def test_key_that_others_may_read_is_refused(tmp_path) -> None:
    keys.make(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(BundleError, match="chmod 600"):
        keys.load(tmp_path / "key.pem")


def test_what_is_no_key_is_refused(tmp_path) -> None:
    (tmp_path / "key.pem").write_text("hello")
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(BundleError, match="PEM"):
        keys.load(tmp_path / "key.pem")
    with pytest.raises(BundleError, match="energylab-portal sealed key"):
        keys.load(tmp_path / "absent.pem")
    with pytest.raises(BundleError, match="31 bytes"):
        keys.key_id(base64.b64encode(bytes(31)).decode())
    with pytest.raises(BundleError, match="base64"):
        keys.key_id("not base64!")


def test_key_enrolled_under_another_id_is_the_operators_error(honest, judge) -> None:
    with pytest.raises(BundleError, match="another id"):
        judge(builders.signed(honest), keys={builders.owner().key_id: base64.b64encode(bytes(32)).decode()})


def test_settings_and_attestations_are_read_from_text() -> None:
    assert request.parse_settings(["samples=1000", "dtype=float16", "window_s=10.0"]) == {
        "samples": 1000, "dtype": "float16", "window_s": 10.0}  # fmt: skip
    with pytest.raises(ParameterError, match="NAME=VALUE"):
        request.parse_settings(["samples"])
    with pytest.raises(ParameterError, match="own option"):
        request.parse_settings(["model=/etc"])
    assert request.parse_attestations("public, integrity").as_dict() == {
        "public": True, "integrity": True, "representative": False}  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean 'integrity'"):
        request.parse_attestations("integrety")


def test_plug_in_image_is_known_by_the_layers_below_it() -> None:
    own = builders.IMAGE.model_copy(
        update={"digest": f"sha256:{'7' * 64}", "layers": (*builders.IMAGE.layers, f"sha256:{'6' * 64}")}
    )
    passed, words = builders.OFFICIAL.image(own)
    assert passed is None
    assert "1 layer(s) of the owner's" in words
    assert builders.OFFICIAL.image(own.model_copy(update={"layers": own.layers[1:]}))[0] is False


def test_shared_environment_must_be_the_listed_one() -> None:
    listed = builders.OFFICIAL.images[0].model_copy(update={"environment_digest": "a" * 64})
    known = official.Official(images=(listed,))
    shared = builders.IMAGE.model_copy(update={"environment": "shared", "environment_digest": "b" * 64})
    assert known.image(shared)[0] is False
    assert known.image(shared.model_copy(update={"environment_digest": "a" * 64}))[0] is True


def test_published_rows_are_known_by_the_list(tmp_path) -> None:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    entry = f"data:\n- {{task: text_generation, samples: 1000, digest: '{'c' * 64}'}}\n"
    (tmp_path / "params/closed/official.yaml").write_text(entry)
    known = official.load(tmp_path / "params")
    rows = DataFacts(name="any", source="hub", digest="c" * 64, queries=1000)
    assert known.rows("text_generation", rows, 0)[0] is True
    assert known.rows("text_generation", rows.model_copy(update={"digest": "d" * 64}), 0)[0] is False
    assert known.rows("text_generation", rows.model_copy(update={"queries": 10}), 0)[0] is None
    (tmp_path / "params/closed/official.yaml").write_text("images: [{name: x}]\n")
    with pytest.raises(BundleError, match="digest"):
        official.load(tmp_path / "params")


def test_commands_make_a_key_and_judge_a_bundle(honest, tmp_path) -> None:
    runner = CliRunner()
    made = runner.invoke(app, ["sealed", "key", "--output", str(tmp_path / "k.pem")])
    assert made.exit_code == 0
    assert keys.load(tmp_path / "k.pem").public in made.stdout
    shutil.copytree(ROOT / "params", tmp_path / "params")
    listed = builders.OFFICIAL.images[0].model_dump(mode="json")
    (tmp_path / "params/closed/official.yaml").write_text(json.dumps({"images": [listed]}))
    (tmp_path / "bundle.json").write_bytes(builders.signed(honest))
    command = ["sealed", "verify", str(tmp_path / "bundle.json"), "--params", str(tmp_path / "params"), "--key"]
    judged = runner.invoke(app, [*command, builders.owner().public])
    assert judged.exit_code == 0, judged.stdout
    assert judged.stdout.strip().endswith("accepted")
    strangers = runner.invoke(app, [*command, keys.load(tmp_path / "k.pem").public])
    assert strangers.exit_code == 1
    assert "not enrolled" in strangers.stdout


def test_verifying_needs_neither_torch_nor_docker(honest, tmp_path) -> None:
    """The portal runs it: one process that verifies a whole bundle loads no model library and starts no command."""
    (tmp_path / "bundle.json").write_bytes(builders.signed(honest))
    code = (
        "import sys, subprocess\n"
        "subprocess.Popen = None\n"
        "from pathlib import Path\n"
        "from energylab_portal.sealed.verify import verify\n"
        f"verdict = verify(Path({str(tmp_path / 'bundle.json')!r}), keys={builders.enrolled()!r})\n"
        "print([c.name for c in verdict.failed], sorted({'torch', 'transformers', 'docker'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "['image'] []", done.stderr  # the simulated image is listed nowhere
