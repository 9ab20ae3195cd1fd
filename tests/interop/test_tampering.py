"""A delivered recording cannot be touched unseen: every byte of every object counts, and `verify` names the place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from recorder.keys import FileKeyService, load_public_key
from recorder.segment import SegmentReader
from recorder.verification import Verification
from recorder.verify import verify_contact
from tests.interop.agent import agent
from tests.interop.phone import Phone
from tests.interop.relay_process import RelayProcess

pytestmark = [pytest.mark.interop, pytest.mark.slow]

CIPHERTEXT_SAMPLES = 24
"""Of each segment; its headers, tags and ends are changed byte by byte."""

Objects = Mapping[str, bytes]


@dataclass(frozen=True)
class Archive:
    """Two delivered contacts of one instance, and what an auditor and the instance have to check them with."""

    relay: RelayProcess
    objects: Objects
    contacts: tuple[str, str]

    def verify(self, objects: Objects, contact: str, *, decrypt: bool = False) -> Verification:
        keys = self.relay.data / "keys"
        service = FileKeyService.open(keys / "wrapping.json", create=False) if decrypt else None
        return verify_contact(_Held(objects), contact, load_public_key(keys / "signing.pem.pub"), service)

    def of(self, contact: str) -> list[str]:
        return [key for key in self.objects if contact in key]


@dataclass(frozen=True)
class _Held:
    """A store in memory."""

    objects: Objects

    def object_keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self.objects if key.startswith(prefix))

    def read(self, key: str) -> bytes:
        return self.objects[key]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    relay = RelayProcess(tmp_path_factory.mktemp("relay"))
    first, second = asyncio.run(_record(relay, ((), ("hold", "resume", "mute", "unmute"))))
    store = relay.data / "store"
    objects = {file.relative_to(store).as_posix(): file.read_bytes() for file in store.rglob("*") if file.is_file()}
    found = Archive(relay, objects, (first, second))
    for contact in found.contacts:
        assert {name_of(key).split("-")[0] for key in found.of(contact)} == {"key", "manifest", "log", "track"}
        assert found.verify(objects, contact, decrypt=True).verified
    return found


async def _record(relay: RelayProcess, calls: Iterable[tuple[str, ...]]) -> list[str]:
    """Calls with these actions, delivered."""
    contacts: list[str] = []
    async with relay, agent(relay.ready) as there:
        for actions in calls:
            async with Phone(relay.ready) as phone:
                await phone.call()
                contacts.append(str((await there.wait("contact.connected"))["contact_id"]))
                await phone.media.hear(1.0)
                for action in actions:
                    await there.do(action)
                    await phone.media.hear(0.3)
                phone.hang_up()
                await there.wait("contact.ended")
                await there.do("complete")
                await there.wait("contact.closed")
            await relay.wait_delivered(contacts[-1])
    return contacts


def name_of(key: str) -> str:
    return key.rpartition("/")[2]


def positions(key: str, data: bytes) -> list[int]:
    """Every byte of documents' and segments' structure, and a sample of what is sealed."""
    if key.endswith(("/key", "/manifest")):
        return list(range(0, len(data), 3)) + list(range(len(data) - 120, len(data)))
    rng = random.Random(len(data))
    chosen = {*rng.sample(range(len(data)), min(CIPHERTEXT_SAMPLES, len(data))), len(data) - 1}
    placed = list(SegmentReader(data).chunks())
    chosen |= set(range(0, placed[0].offset, 2))
    for each in placed:
        header = each.offset + len(each.chunk.header)
        tag = each.offset + len(bytes(each.chunk))
        chosen |= set(range(each.offset, header, 5)) | {header, tag - 16, tag - 1}
    return sorted(chosen)


def changes(data: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    """What can become of a byte."""
    yield "changed", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
    yield "dropped", data[:at] + data[at + 1 :]
    yield "doubled", data[: at + 1] + data[at:]
    if at and data[at - 1] != data[at]:
        yield "swapped", data[: at - 1] + data[at : at + 1] + data[at - 1 : at] + data[at + 1 :]
    yield "truncated", data[:at]


def test_every_byte_counts_without_any_key(archive):
    contact = archive.contacts[1]
    tried = 0
    for key in archive.of(contact):
        data = archive.objects[key]
        for at in positions(key, data):
            for what, changed in changes(data, at):
                found = archive.verify({**archive.objects, key: changed}, contact)
                named = [finding for finding in found.findings if finding.file == key]
                assert named, (key, at, what)
                assert all(finding.what for finding in named)
                assert any(finding.place for finding in named), (key, at, what)
                assert found.exit_code == 1
                tried += 1
    assert tried > 5_000


def test_a_changed_chunk_is_named(archive):
    """Without a key the chain breaks behind it at the latest; with it, it does not open itself."""
    contact = archive.contacts[0]
    segments = [key for key in archive.of(contact) if "/track-" in key or "/log-" in key]
    assert len(segments) == 3
    for key in segments:
        data = archive.objects[key]
        for each in SegmentReader(data).chunks():
            inside = each.offset + len(each.chunk.header)
            changed = data[:inside] + bytes([data[inside] ^ 0x80]) + data[inside + 1 :]
            found = archive.verify({**archive.objects, key: changed}, contact, decrypt=True)
            assert each.place in {finding.place for finding in found.findings if finding.file == key}


def test_objects_cannot_be_removed_added_or_swapped(archive):
    mine, other = (archive.of(contact) for contact in archive.contacts)
    folder = mine[0].rpartition("/")[0]
    contact = archive.contacts[0]

    def blamed(objects: Objects, *keys: str) -> None:
        found = archive.verify(objects, contact)
        # Without its manifest nothing else can be judged.
        named = [key for key in keys if key.endswith("/manifest")] or keys
        assert {finding.file for finding in found.findings} >= set(named)
        assert found.exit_code == 1

    for key in mine:
        blamed({name: data for name, data in archive.objects.items() if name != key}, key)
        blamed({**archive.objects, key: b""}, key)
        for foreign in other:  # of the same kind, or of another
            blamed({**archive.objects, key: archive.objects[foreign]}, key)
        for neighbour in mine:
            if neighbour != key:
                swapped = {key: archive.objects[neighbour], neighbour: archive.objects[key]}
                blamed({**archive.objects, **swapped}, key, neighbour)
    blamed({**archive.objects, f"{folder}/extra": b"x"}, f"{folder}/extra")
    blamed({**archive.objects, f"elsewhere/{contact}/track": b"x"}, f"elsewhere/{contact}/track")


def test_chunks_cannot_be_dropped_or_swapped(archive):
    contact = archive.contacts[0]
    for key in archive.of(contact):
        if key.endswith(("/key", "/manifest")):
            continue
        data = archive.objects[key]
        placed = list(SegmentReader(data).chunks())
        cut = [data[: placed[0].offset], *(bytes(each.chunk) for each in placed)]
        assert b"".join(cut) == data
        for first in range(1, len(cut)):
            without = b"".join(cut[:first] + cut[first + 1 :])
            assert archive.verify({**archive.objects, key: without}, contact).exit_code == 1
            for second in range(first + 1, len(cut)):
                swapped = cut[:]
                swapped[first], swapped[second] = cut[second], cut[first]
                assert archive.verify({**archive.objects, key: b"".join(swapped)}, contact).exit_code == 1


def test_a_whole_contact_under_anothers_name_is_found(archive):
    mine, other = archive.contacts
    renamed = {
        key.replace(mine, "\0").replace(other, mine).replace("\0", other): data for key, data in archive.objects.items()
    }
    for contact in (mine, other):
        found = archive.verify(renamed, contact)
        assert any(finding.file.endswith("/manifest") and finding.place == "contact_id" for finding in found.findings)


async def test_the_command_says_so_and_names_file_and_place(archive, tmp_path):
    relay, contact = archive.relay, archive.contacts[0]
    for key in archive.of(contact):
        file = relay.data / "store" / key
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        with _instead(file, bytes(data)):
            ran = await relay.koppel("verify", contact, "--json")
            assert ran.code == 1
            assert not ran.json()["verified"]
            assert {finding["file"] for finding in ran.json()["findings"]} >= {key}
            plain = await relay.koppel("verify", contact)
            assert plain.code == 1
            assert key in plain.out
    manifest = next(relay.data / "store" / key for key in archive.of(contact) if key.endswith("/manifest"))
    with _instead(manifest, None):
        whole = await relay.koppel("verify", "--instance", "--json")
        assert whole.code == 1
        assert any("missing" in finding["what"] for finding in whole.json()["findings"])
    await relay.verify(contact)


class _instead:  # noqa: N801 - reads as a statement
    """Another content, or none, until the end of the block."""

    def __init__(self, file: Path, content: bytes | None) -> None:
        self._file, self._content, self._before = file, content, file.read_bytes()

    def __enter__(self) -> None:
        self._file.unlink()
        if self._content is not None:
            self._file.write_bytes(self._content)

    def __exit__(self, *_: object) -> None:
        self._file.write_bytes(self._before)
