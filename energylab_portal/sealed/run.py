"""One sealed run: rehearsed, measured from outside, shown without what is private, signed, and verified as others will.

Everything that can refuse a bundle and is known beforehand refuses before anything is measured.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from energylab import store
from energylab.devices import resolve_devices
from energylab.errors import BundleError, MeasurementError, ParameterError, unknown_name
from energylab.meters import Instruments
from energylab.parameters import Parameters
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed import checks, container, derive, keys, statement
from energylab_portal.sealed import official as listing
from energylab_portal.sealed.measure import Measured, Watch, check, measure
from energylab_portal.sealed.statement import ATTESTATION_VERSION, ATTESTATIONS, Attested
from energylab_portal.sealed.verify import verify
from energylab_portal.sealed.watch import watched

BUNDLE, OPENING, RECORD, OFFICIAL, PUBLIC = "bundle.json", "opening.json", "private", "official.json", "owner.pub"
#: Shorter names are looked for as whole words only.
MIN_PART = 5


@dataclass(frozen=True)
class Request:
    """One sealed run as asked for.

    Attributes
    ----------
    parameters : Parameters
        As for any session; ``model`` is the model's folder, ``model_source`` is ``path``.
    plan : Plan
        The container.
    alias : str
        The name the model is shown under.
    key : PrivateKey
        Signs the bundle.
    out : Path
        Folder for the bundle, and for what stays with the owner.
    attested : Attested
        What the owner attests.
    private_names : tuple of str
        Further names that must not appear in the bundle.
    """

    parameters: Parameters
    plan: container.Plan
    alias: str
    key: keys.PrivateKey
    out: Path
    attested: Attested
    private_names: tuple[str, ...] = ()


def request(
    *, model: Path, task: str, alias: str, key: Path, out: Path, gpus: int, device: str, data: Path | None,
    settings: Sequence[str], params: Path | None, private: Sequence[str], attest: str, **limits: Any,
) -> Request:  # fmt: skip
    """Build a request from the plain values of the command line.

    Raises
    ------
    EnergylabError
        Names the bad value, what is allowed, and what to do.
    """
    folder = model.expanduser().resolve()
    if not folder.is_dir():
        raise ParameterError(f"--model {str(model)!r} is not a folder; name the folder the model was saved to")
    given = {
        **parse_settings(settings), "task": task, "model": str(folder), "model_source": "path", "gpus": gpus,
        "device": device, "params": None if params is None else str(params),
    }  # fmt: skip
    parameters = Parameters.check(given)
    boards = resolve_devices(device, gpus)
    plan = container.Plan(
        model=folder,
        data=None if data is None else data.expanduser().resolve(),
        gpus=tuple(str(board.uuid) for board in boards if board.type == "cuda"),
        **limits,
    )
    return Request(parameters, plan, alias, keys.load(key), out, parse_attestations(attest), tuple(private))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as the parameters they set.

    Raises
    ------
    ParameterError
        If one has no equals sign, or names what another option says.
    """
    found = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign:
            raise ParameterError(f"--set {setting!r} must be NAME=VALUE, for example --set samples=1000")
        if name in ("model", "model_source", "task", "gpus", "device", "params", "output_folder", "record"):
            raise ParameterError(f"--set {name}=… is given by its own option, or follows from the folder")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ParameterError(f"--set {setting!r}: {value!r} is no plain value") from None
    return found


def parse_attestations(text: str) -> Attested:
    """Read what the owner attests.

    Raises
    ------
    UnknownNameError
        If a name is none of the attestations.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ATTESTATIONS:
            raise unknown_name("attestation", name, ATTESTATIONS)
    return Attested(version=ATTESTATION_VERSION, **{name: name in names for name in ATTESTATIONS})


def run(
    asked: Request, *, container: Any = None, instruments: Instruments | None = None, watch: Watch = watched
) -> Path:
    """Measure a closed model in a sealed container and leave a signed bundle that verifies.

    Parameters
    ----------
    asked : Request
    container, instruments, watch : optional
        Stand-ins, for tests; see `energylab_portal.sealed.measure.measure`.

    Returns
    -------
    Path
        The bundle. Beside it lie the owner's public key and list of images, and what stays with the owner.

    Raises
    ------
    SealError
        If the container cannot be sealed or broke the rules.
    MeasurementError
        If the session has no total.
    BundleError
        If something private would be in the bundle, or nobody would accept it; nothing is written then.
    """
    rehearse(asked)
    named = {"name": asked.plan.model.name, "source": "path"}
    made = measure(asked.parameters, asked.plan, named, container=container, instruments=instruments, watch=watch)
    folder = asked.out / RECORD
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = store.write(made.record, folder)
    if not made.record.valid:
        raise MeasurementError(f"no bundle: {'; '.join(made.record.reasons)}; the private record is {kept}")
    return _leave(asked, made, kept)


def rehearse(asked: Request) -> None:
    """Refuse before measuring what would be refused after it: names, attestations, files that are there, the list.

    Raises
    ------
    EnergylabError
        Says what, and what to do.
    """
    if asked.parameters.model_source != "path":
        raise ParameterError("a closed model is a folder: model_source='path'")
    if not all(getattr(asked.attested, name) for name in ATTESTATIONS):
        raise ParameterError(
            f"a bundle counts with all attestations alone: --attest {','.join(ATTESTATIONS)}. "
            + " ".join(f"{name}: {text}" for name, text in ATTESTATIONS.items())
        )
    for name in (BUNDLE, OPENING):
        if (asked.out / name).exists():
            raise BundleError(f"{asked.out / name} exists; name another folder with --output")
    if asked.parameters.max_relative_bound > checks.LOOSEST:
        raise ParameterError(
            f"max_relative_bound={asked.parameters.max_relative_bound:g}: windows of a bundle may be "
            f"{checks.LOOSEST:g} wrong at most; leave it out, and lengthen window_s"
        )
    check(asked.parameters)
    asked.out.mkdir(parents=True, exist_ok=True)
    alias = derive.checked_alias(asked.alias)
    draft = {name: getattr(asked.parameters, name) for name in derive.SHOWN}
    _refuse_leaks(asked, json.dumps([alias, draft]).encode(), ())


def _leave(asked: Request, made: Measured, kept: Path) -> Path:
    """Write the bundle once it is free of names and verifies; else say why, and where the private record is."""
    private = derive.private_of(made.record, dict(made.session.answers), dict(made.hashes))
    commitments, opening = keys.commit(private)
    shown = derive.shown(
        made.record, made.session.edges, made.session.origin_s, asked.alias,
        started_utc=made.started_utc, finished_utc=datetime.now(UTC), timelines=made.timelines, image=made.image,
        seal=made.seal, weights=made.weights, commitments=commitments, attestations=asked.attested,
    )  # fmt: skip
    payload = statement.write(shown)
    _refuse_leaks(asked, payload, made.hashes.items())
    data = bundles.sign(payload, asked.key)
    own = listing.Official(images=(listing.entry(made.image, asked.plan.image),), key_id=asked.key.key_id)
    verdict = verify(data, keys={asked.key.key_id: asked.key.public}, official=own, params=asked.parameters.params)
    if not verdict.accepted:
        failed = "; ".join(f"{one.name}: {one.words}" for one in verdict.failed)
        raise BundleError(f"no bundle was written, nobody would accept it: {failed}; the private record is {kept}")
    keys.write_opening(opening, asked.out / OPENING)
    _write(listing.sign(own, asked.key), asked.out / OFFICIAL)
    _write(f"{asked.key.public}\n".encode(), asked.out / PUBLIC)
    return _write(data, asked.out / BUNDLE)


def list_official(sources: Sequence[str], data: Sequence[str], key: Path, output: Path) -> listing.Official:
    """Sign a list of images on this machine, of lists that are taken over, and of published rows.

    Raises
    ------
    EnergylabError
        If an image is not here or not built on the runner, or data is not TASK=SAMPLES=DIGEST.
    """
    signer, images, rows = keys.load(key), [], []
    for source in sources:
        if source.endswith(".json"):
            images += listing.read(Path(source)).images
            rows += listing.read(Path(source)).data
        else:
            images.append(listing.entry(container.describe(source)[0], source))
    for text in data:
        task, _, rest = text.partition("=")
        count, _, digest = rest.partition("=")
        if not count.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ParameterError(f"--data {text!r} must be TASK=SAMPLES=DIGEST, the digest a sha256 in hex")
        rows.append(listing.OfficialData(task=task, samples=int(count), digest=digest))
    listed = listing.Official(images=tuple(images), data=tuple(rows), key_id=signer.key_id)
    output.parent.mkdir(parents=True, exist_ok=True)
    _write(f"{signer.public}\n".encode(), output.with_name("operator.pub"))
    _write(listing.sign(listed, signer), output)
    return listed


def _write(data: bytes, target: Path) -> Path:
    """Write a file so that it is either whole or not there."""
    descriptor, temporary = tempfile.mkstemp(prefix=".sealed-", dir=target.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    return Path(temporary).replace(target)


def _refuse_leaks(asked: Request, payload: bytes, files: Iterable[tuple[str, str]]) -> None:
    """Refuse a statement that holds a name, a path or a hash of the model; never say which.

    What leaves is listed field by field in `energylab_portal.sealed.statement`; this finds a name in a text of it.
    """
    texts = list(_texts(json.loads(payload)))
    open_texts = {asked.alias.lower(), asked.parameters.task.lower()}
    secrets = {name: what for what, name in _secrets(asked, files) if name.lower() not in open_texts}
    leaked = [what for name, what in secrets.items() if holds(texts, name)]
    if leaked:
        raise BundleError(
            f"no bundle was written: it would hold {', '.join(dict.fromkeys(leaked))}; choose another public name, or "
            "rename the model's folder where a public word happens to equal it"
        )


def _secrets(asked: Request, files: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    folder = asked.plan.model
    yield from (("the model's name", folder.name), ("the model's path", str(folder)))
    yield from (("a private name", name) for name in asked.private_names)
    for name, digest in files:
        yield "a hash of the weights", digest
        if not re.fullmatch(r"(model|pytorch_model|diffusion_pytorch_model|tf_model)([-.].*)?", Path(name).stem):
            yield "a weight file's name", Path(name).stem
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for key in ("_name_or_path", "name_or_path", "architectures", "model_type"):
        value = config.get(key, ()) if isinstance(config, dict) else ()
        yield from (("a name in the configuration", str(one)) for one in ([value] if isinstance(value, str) else value))


def holds(texts: Sequence[str], name: str) -> bool:
    """Tell whether a name is in texts: as it is, in other case and separators, in base64, hex or a URL."""
    name = name.strip()
    if len(name) < MIN_PART:
        return any(name.lower() in re.split(r"[\W_]+", text.lower()) for text in texts) if name else False
    whole = "\n".join(texts).lower()
    raw, squeezed = name.encode("utf-8", "surrogatepass"), re.sub(r"[\W_]+", "", name.lower())
    if len(squeezed) >= MIN_PART and squeezed in re.sub(r"[\W_]+", "", whole):
        return True
    shifted = [base64.b64encode(b"\0" * offset + raw).decode().rstrip("=") for offset in range(3)]
    # the first and last characters of a shifted encoding depend on its neighbours
    inner = [text[4 if offset else 0 : -1] for offset, text in enumerate(shifted)]
    written = [name, raw.hex(), urllib.parse.quote(name), *(text for text in inner if len(text) >= 2 * MIN_PART)]
    return any(spelling.lower() in whole for spelling in written)


def _texts(content: Any) -> Iterator[str]:
    stack = [content]
    while stack:
        item = stack.pop()
        stack += [*item, *item.values()] if isinstance(item, dict) else item if isinstance(item, list) else []
        if isinstance(item, str):
            yield item
