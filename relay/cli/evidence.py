"""`koppel recordings`, `koppel export` and `koppel verify`: what was recorded, and whether it is whole."""

from __future__ import annotations

import asyncio
import getpass
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli.options import COULD_NOT, NO, ConfigFile, DataDir, Json, effective, existing, print_json, print_table
from relay.errors import OperatorError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from recorder.archive import ObjectReader
    from recorder.keys import FileKeyService
    from recorder.verification import Finding, Verification
    from relay.config import Settings
    from relay.data_directory import Layout

__all__ = ["register"]


def register(application: typer.Typer) -> None:
    """Add the commands."""
    application.command(epilog="Example: koppel recordings --json")(recordings)
    application.command(epilog="Example: koppel export 0b0c9d52-… call.wav")(export)
    application.command(epilog="Example: koppel verify 0b0c9d52-… --decrypt --replay")(verify)


@dataclass(frozen=True, slots=True)
class _Instance:
    """What these commands work on."""

    settings: Settings
    data: Layout

    @classmethod
    def of(cls, config_file: Path | None, data_dir: Path | None) -> _Instance:
        """The instance of this machine."""
        loaded = effective(config_file, data_dir)
        return cls(loaded.settings, existing(loaded))

    @classmethod
    def of_auditor(cls, config_file: Path | None, data_dir: Path | None) -> _Instance:
        """Somebody's who has the public key and the store, and perhaps no data directory."""
        from relay.data_directory import Layout  # noqa: PLC0415 - see relay.cli.application

        settings = effective(config_file, data_dir).settings
        return cls(settings, Layout(settings.data_dir))

    def store(self) -> ObjectReader:
        """The store that the settings name, as far as it is this instance's; an auditor without one sees all of it."""
        from recorder.store import Store  # noqa: PLC0415
        from relay.catalogue import OwnObjects  # noqa: PLC0415
        from relay.data_directory import DataDirectory  # noqa: PLC0415
        from relay.recording_setup import store_settings  # noqa: PLC0415

        store = Store.open(store_settings(self.settings, self.data))
        return OwnObjects(store, self.data.identity.instance_id) if isinstance(self.data, DataDirectory) else store

    def key_service(self) -> FileKeyService:
        """What unwraps the keys of recordings."""
        from recorder.keys import FileKeyService  # noqa: PLC0415
        from relay.recording_setup import key_files  # noqa: PLC0415

        return FileKeyService.open(key_files(self.settings, self.data).wrapping, create=False)

    def public_key(self, file: Path | None = None) -> Ed25519PublicKey:
        """What signatures are checked with: the operator's choice, or the data directory's, never a manifest's."""
        from recorder.keys import load_public_key  # noqa: PLC0415
        from relay.recording_setup import key_files  # noqa: PLC0415

        own = key_files(self.settings, self.data).public
        if file is None and not own.exists():
            raise OperatorError(f"{own}: the relay makes this key at its first start; or name one with --public-key")
        return load_public_key(file or own)


def recordings(config_file: ConfigFile = None, data_dir: DataDir = None, json: Json = False) -> None:
    """List the recordings in the store, by day, with signatures checked."""
    from relay.catalogue import entries  # noqa: PLC0415

    instance = _Instance.of(config_file, data_dir)
    found = list(entries(instance.store(), instance.public_key()))
    if json:
        print_json([entry.to_json() for entry in found])
        return
    rows = [
        (entry.contact_id, entry.started_at[:19], f"{entry.seconds:.1f} s", ", ".join(entry.tracks), entry.ended)
        for entry in found
    ]
    print_table(["contact", "started (UTC)", "length", "tracks", "ended"], rows)


ContactId = Annotated[
    str, typer.Argument(metavar="CONTACT_ID", show_default=False, help="As `koppel recordings` lists it.")
]
Format = Annotated[
    Literal["wav", "flac", "opus"] | None,
    typer.Option("--format", help="wav is 16-bit PCM.", show_default="by the file's name, else wav"),
]


def export(
    contact_id: ContactId,
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="File to write, 0600.")],
    file_format: Format = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Decrypt a recording into a stereo file: the agent right, everyone else left, from the agent's joining on."""
    from recorder.archive import open_contact  # noqa: PLC0415
    from recorder.export import export_recording  # noqa: PLC0415
    from recorder.playback import Rendering  # noqa: PLC0415

    chosen = file_format or _format_of(out)
    instance = _Instance.of(config_file, data_dir)
    store = instance.store()
    contact = open_contact(store, contact_id, instance.public_key(), instance.key_service())
    asyncio.run(_audit(instance, contact.manifest.identity.contact_id, chosen))
    rendering = Rendering(store, contact)
    export_recording(rendering, out, chosen, _progress if sys.stderr.isatty() else None)
    seconds = rendering.samples / rendering.rate
    if json:
        answer = {"contact_id": contact.manifest.identity.contact_id, "file": str(out), "format": chosen}
        print_json({**answer, "rate": rendering.rate, "seconds": round(seconds, 3)})
    else:
        print(f"{out}: {seconds:.1f} s, {rendering.rate} Hz; right: agent, left: everyone else")


async def _audit(instance: _Instance, contact_id: str, file_format: str) -> None:
    """Every hearing of a recording leaves an entry before the first sample leaves."""
    from relay.data_directory import DataDirectory  # noqa: PLC0415 - see relay.cli.application
    from relay.instance_database import open_database  # noqa: PLC0415

    wall = time.time()
    database = await open_database(instance.settings, DataDirectory.existing(instance.data.path), wall=wall)
    try:
        actor, details = f"local:{getpass.getuser()}", {"format": file_format}
        await database.append_audit(actor, "recording.exported", f"contact:{contact_id}", wall=wall, details=details)
    finally:
        await database.close()


def _format_of(out: Path) -> Literal["wav", "flac", "opus"]:
    suffixes: dict[str, Literal["wav", "flac", "opus"]] = {".flac": "flac", ".opus": "opus", ".ogg": "opus"}
    return suffixes.get(out.suffix.lower(), "wav")


def _progress(done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    print(f"\r{100 * done // max(total, 1)} %", end=end, file=sys.stderr, flush=True)


def verify(
    contact: Annotated[
        str | None,
        typer.Argument(
            metavar="CONTACT_ID|MANIFEST", show_default=False, help="A contact, or its manifest's object key."
        ),
    ] = None,
    instance: Annotated[bool, typer.Option("--instance", help="Every contact of the store, and their chain.")] = False,
    decrypt: Annotated[bool, typer.Option("--decrypt", help="Level 2: open every chunk (needs the keys).")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Level 3: hold log and gaps together (needs the keys).")
    ] = False,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Key to check signatures with.", show_default="the data directory's"),
    ] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Prove that a recording is authentic and that every gap in it is explained.

    Exit code 0: it is. 1: it is not. 2: it could not be checked.
    """
    if (contact is None) == (not instance):
        raise OperatorError("name one contact, or --instance for all of them")
    work = (_Instance.of if public_key is None else _Instance.of_auditor)(config_file, data_dir)
    check = _Check(work, public_key, decrypt=decrypt or replay, replay=replay)
    if contact is not None:
        answer = check.contact(contact)
        print_json(answer.to_json()) if json else _tell(contact, answer)
        raise typer.Exit(answer.exit_code)
    chain, answers = check.instance()
    code = max((int(answer.exit_code) for answer in answers.values()), default=0)
    code = NO if chain or any(answer.findings for answer in answers.values()) else code
    if json:
        print_json(_instance_json(chain, answers, verified=code == 0))
    else:
        for name, answer in answers.items():
            _tell(name, answer)
        _tell_chain(chain, len(answers))
    raise typer.Exit(code)


class _Check:
    """One store, one public key, one level."""

    def __init__(self, work: _Instance, public_key: Path | None, *, decrypt: bool, replay: bool) -> None:
        self._work = work
        self._public_key = work.public_key(public_key)
        self._keys = work.key_service() if decrypt else None
        self._replay = replay

    def contact(self, contact: str) -> Verification:
        """A contact of the store; or the one whose manifest is this file, wherever it lies."""
        file = Path(contact)
        if not file.is_file():
            return self._examine(self._work.store(), contact)
        from recorder.store import Store, StoreSettings  # noqa: PLC0415

        manifest = file.resolve()
        folder = self._work.data.store.resolve()
        if self._work.settings.recording.store is not None or not manifest.is_relative_to(folder):
            folder = manifest.parent.parent
        store = Store.open(StoreSettings(folder.as_uri()))
        return self._examine(store, manifest.relative_to(folder).as_posix())

    def instance(self) -> tuple[list[Finding], dict[str, Verification]]:
        """The chain of manifests, and every contact."""
        from recorder.archive import manifest_keys  # noqa: PLC0415
        from recorder.chain import verify_instance  # noqa: PLC0415

        store = self._work.store()
        answers = {key: self._examine(store, key) for key in manifest_keys(store)}
        return verify_instance(store, self._public_key), answers

    def _examine(self, store: ObjectReader, contact: str) -> Verification:
        from recorder.verify import verify_contact  # noqa: PLC0415

        answer = verify_contact(store, contact, self._public_key, self._keys)
        if not self._replay:
            return answer
        from relay.evidence import replayed  # noqa: PLC0415

        return replayed(answer)


def _instance_json(chain: list[Finding], answers: dict[str, Verification], *, verified: bool) -> dict[str, object]:
    return {
        "verified": verified,
        "contacts": len(answers),
        "level": min((answer.level for answer in answers.values()), default=0),
        "findings": [_finding(finding) for finding in chain]
        + [_finding(finding) for answer in answers.values() for finding in answer.findings],
        "unchecked": {name: answer.unchecked for name, answer in answers.items() if answer.unchecked},
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"file": finding.file, "place": finding.place, "what": finding.what}


def _tell(name: str, answer: Verification) -> None:
    """The answer in plain words."""
    words = {0: "authentic, and every gap is explained", NO: "NOT AUTHENTIC", COULD_NOT: "could not be checked"}
    print(f"{name}: {words[int(answer.exit_code)]} (level {answer.level})")
    if answer.unchecked:
        print(f"  {answer.unchecked}")
    for finding in answer.findings:
        print(f"  {finding.file}{', ' if finding.place else ''}{finding.place}: {finding.what}")
    for track in answer.tracks:
        withheld = "".join(f", {count / 48_000:.2f} s withheld by {rule}" for rule, count in track.withheld.items())
        print(
            f"  {track.participant}: {track.stored / 48_000:.2f} of {track.expected / 48_000:.2f} s stored, "
            f"{track.concealed / 48_000:.2f} s concealed, {track.lost / 48_000:.2f} s lost{withheld}"
        )
    if answer.ended:
        print(f"  ended: {answer.ended}")


def _tell_chain(chain: list[Finding], contacts: int) -> None:
    for finding in chain:
        print(f"  {finding.file}, {finding.place}: {finding.what}")
    print(f"chain of manifests: {'BROKEN' if chain else 'whole'} ({contacts} contacts)")
