"""One sealed run: checked in advance, measured from outside, stripped of private facts, signed, and verified.

Everything that can refuse a bundle and is known beforehand refuses before anything is measured. What works is in the
container, what measures is here.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from energylab import store
from energylab.devices import resolve_devices
from energylab.errors import BundleError, MeasurementError, MeterError, ParameterError
from energylab.files import write_whole
from energylab.measuring import choose_instruments, measure_subject
from energylab.meters import Instruments
from energylab.meters.estimate import EstimateMeter
from energylab.parameters import Parameters
from energylab.protocol.session import Session
from energylab.record import Record
from energylab_portal.sealed import bundle as bundles
from energylab_portal.sealed import checks, container, derive, keys, statement
from energylab_portal.sealed.container import Container
from energylab_portal.sealed.derive import Known
from energylab_portal.sealed.remote import RemoteSubject
from energylab_portal.sealed.statement import Attested, attest
from energylab_portal.sealed.verify import Official, OfficialData, list_entry, read_list, verify, write_list
from energylab_portal.sealed.watch import WatchedMeter, watched
from energylab_portal.sealed.weights import survey

BUNDLE, OPENING, RECORD, OFFICIAL, PUBLIC = "bundle.json", "opening.json", "private", "official.json", "owner.pub"
#: Shorter names are only searched as whole words.
MIN_PART = 5
#: Meters that measure the container's work from outside.
OUTSIDE = ("nvml", "rapl", "estimate")
#: Parameters with a separate option, or derived from the model's folder.
_GIVEN = ("model", "model_source", "task", "gpus", "device", "params", "output_folder", "record")

#: Wraps meters: what `energylab_portal.sealed.watch.watched` does.
Watch = Callable[..., tuple[WatchedMeter, ...]]


@dataclass(frozen=True)
class Request:
    parameters: Parameters  # as for any session; ``model`` is the model's folder, ``model_source`` is ``path``
    plan: container.Plan
    alias: str  # public name of the model
    key: keys.PrivateKey
    out: Path  # folder for the bundle and the private files
    attested: Attested
    private_names: tuple[str, ...] = ()  # more names that must not appear in the bundle


def request(
    *, model: Path, task: str, alias: str, key: Path, out: Path, gpus: int, device: str, data: Path | None,
    settings: Sequence[str], params: Path | None, private: Sequence[str], attested: str, **limits: Any,
) -> Request:  # fmt: skip
    folder = model.expanduser().resolve()
    if not folder.is_dir():
        raise ParameterError(f"--model {str(model)!r} is not a folder; name the folder in which the model was saved")
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
    names = [name.strip() for name in attested.split(",") if name.strip()]
    return Request(parameters, plan, alias, keys.load(key), out, attest(names), tuple(private))


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` as the parameters they set."""
    found = {}
    for setting in settings:
        name, sign, value = setting.partition("=")
        if not sign:
            raise ParameterError(f"--set {setting!r} is not NAME=VALUE; write for example --set samples=1000")
        if name in _GIVEN:
            raise ParameterError(f"--set {name}=… has its own option or follows from the folder; leave it out")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ParameterError(f"--set {setting!r}: {value!r} is not a number, text or true/false") from None
    return found


def run(
    asked: Request, *, container: Any = None, instruments: Instruments | None = None, watch: Watch = watched
) -> Path:
    """Measure a closed model in a sealed container; return the signed and verified bundle.

    Beside it lie the owner's public key and list of images, and what stays with the owner. `container`, `instruments`
    and `watch` are stand-ins, for tests.
    """
    known = rehearse(asked)
    weights, hashes = survey(asked.plan.model)
    container = container or Container(asked.plan)
    instruments = _instruments(asked.parameters, container, instruments, watch)
    clock = instruments.rated_meters[0].clock
    began_s = clock.now()
    try:
        record, session = _session(asked, container, known, instruments)
    finally:
        container.remove()
    finished_utc = datetime.now(UTC)
    folder = asked.out / RECORD
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = store.write(record, folder)
    if not record.valid:
        raise MeasurementError(f"no bundle: {'; '.join(record.reasons)}; the private record is {kept}")
    commitments, opening = keys.commit(derive.private_of(record, dict(session.answers), hashes))
    shown = derive.shown(
        record, session.edges, session.origin_s, asked.alias,
        started_utc=finished_utc - timedelta(seconds=clock.now() - began_s), finished_utc=finished_utc,
        timelines=tuple(meter.timeline(session.origin_s) for meter in instruments.rated_meters), image=container.image,
        seal=container.seal, weights=weights, commitments=commitments, attestations=asked.attested,
    )  # fmt: skip
    payload = statement.write(shown)
    _refuse_leaks(asked, payload, hashes.items())
    own = Official(images=(list_entry(container.image, asked.plan.image),), key_id=asked.key.key_id)
    data = bundles.sign(payload, asked.key)
    _refuse_what_nobody_accepts(asked, data, own, kept)
    keys.write_private(asked.out / OPENING, json.dumps(opening, indent=1, ensure_ascii=False).encode())
    write_whole(asked.out / OFFICIAL, write_list(own, asked.key).decode())
    write_whole(asked.out / PUBLIC, f"{asked.key.public}\n")
    return write_whole(asked.out / BUNDLE, data.decode())


def rehearse(asked: Request) -> Known:
    """Raise an error before measuring for everything that would be refused later; return the host's task."""
    parameters = asked.parameters
    if parameters.model_source != "path":
        raise ParameterError("a sealed run needs a model folder: set model_source='path'")
    if parameters.protocol != "steady":
        raise ParameterError(f"protocol={parameters.protocol!r}: a sealed run always uses steady; leave it out")
    if parameters.precision_target is not None or parameters.star_probability is not None:
        raise ParameterError("a sealed run makes all runs; leave out precision_target and star_probability")
    if parameters.max_relative_bound > checks.LOOSEST:
        raise ParameterError(
            f"max_relative_bound is at most {checks.LOOSEST:g} in a sealed run; leave it out, and increase window_s"
        )
    for name in (BUNDLE, OPENING):
        if (asked.out / name).exists():
            raise BundleError(f"{asked.out / name} exists; name another folder with --output")
    asked.out.mkdir(parents=True, exist_ok=True)
    draft = {name: getattr(parameters, name) for name in derive.SHOWN}
    _refuse_leaks(asked, json.dumps([derive.checked_alias(asked.alias), draft]).encode(), ())
    return derive.known(draft, parameters.params)


def _session(asked: Request, container: Any, known: Known, instruments: Instruments) -> tuple[Record, Session]:
    """Run the session; raise the container's violation of the protocol, if any, instead of its effects."""
    mounted = {"model": "/model", "model_source": "path", "revision": None}
    inside = asked.parameters.model_copy(update={**mounted, "params": None, "output_folder": None, "record": None})
    subject = RemoteSubject(inside, container.start, known)
    try:
        record, session = measure_subject(subject, asked.parameters, instruments, instruments.rated_meters[0].clock)
    except Exception:
        if subject.broken is not None:
            raise subject.broken from None
        raise
    if subject.broken is not None:
        raise subject.broken
    model = record.model.model_copy(update={"name": asked.plan.model.name, "source": "path"})
    host = record.host.model_copy(update=subject.software)
    return record.model_copy(update={"model": model, "host": host}), session


def _instruments(parameters: Parameters, container: Any, given: Instruments | None, watch: Watch) -> Instruments:
    """Choose meters that measure the container from outside; processor time is that of the container."""
    instruments = replace(given or choose_instruments(parameters), extra_meters=())
    for meter in instruments.rated_meters:
        if meter.name not in OUTSIDE:
            raise MeterError(f"meter {meter.name!r} measures this process, not the container; use {', '.join(OUTSIDE)}")
    meters = [
        EstimateMeter(parameters.cpu_core_w, clock=meter.clock, cpu_time=container.cpu_s)
        if meter.name == "estimate"
        else meter
        for meter in instruments.rated_meters
    ]
    return replace(instruments, rated_meters=watch(meters, parameters.window_s, container.processes))


def _refuse_what_nobody_accepts(asked: Request, data: bytes, own: Official, kept: Path) -> None:
    verdict = verify(data, keys={asked.key.key_id: asked.key.public}, official=own, params=asked.parameters.params)
    if not verdict.accepted:
        failed = "; ".join(f"{one.name}: {one.words}" for one in verdict.failed)
        raise BundleError(f"no bundle was written, since its checks failed: {failed}; the private record is {kept}")


def list_official(sources: Sequence[str], data: Sequence[str], key: Path, output: Path) -> Official:
    """Sign a list of images on this machine, entries of other lists, and digests of published rows."""
    signer, images, rows = keys.load(key), [], []
    for source in sources:
        if source.endswith(".json"):
            taken = read_list(Path(source))
            images, rows = images + [*taken.images], rows + [*taken.data]
        else:
            images.append(list_entry(container.describe(source)[0], source))
    for text in data:
        match = re.fullmatch(r"([^=]+)=(\d+)=([0-9a-f]{64})", text)
        if match is None:
            raise ParameterError(f"--data {text!r} is not TASK=SAMPLES=DIGEST with a sha256 in hex")
        rows.append(OfficialData(task=match[1], samples=int(match[2]), digest=match[3]))
    listed = Official(images=tuple(images), data=tuple(rows), key_id=signer.key_id)
    write_whole(output.with_name("operator.pub"), f"{signer.public}\n")
    write_whole(output, write_list(listed, signer).decode())
    return listed


def _refuse_leaks(asked: Request, payload: bytes, files: Iterable[tuple[str, str]]) -> None:
    """Refuse a statement that contains a name, a path or a hash of the model, without repeating it.

    What leaves is listed field by field in `energylab_portal.sealed.statement`; this finds a name in a text of it.
    """
    texts = list(_texts(json.loads(payload)))
    open_texts = {asked.alias.lower(), asked.parameters.task.lower()}
    secrets = {name: what for what, name in _secrets(asked, files) if name.lower() not in open_texts}
    leaked = [what for name, what in secrets.items() if holds(texts, name)]
    if leaked:
        raise BundleError(f"no bundle: it would contain {', '.join(dict.fromkeys(leaked))}; choose another --name")


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
    """Whether texts contain a name: as it is, in other case and separators, in base64, hex or a URL."""
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
