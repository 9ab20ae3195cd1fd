"""Every class of byte of every object: changed, cut, dropped, swapped, spelled otherwise, put beside."""

import functools
import random
from dataclasses import replace

import pytest

from recorder import ExitCode, FileKeyService, FileSigner, Verification, verify_contact
from recorder.document import parse_unchecked, signed
from recorder.errors import Unavailable
from recorder.manifest import Manifest
from recorder.names import belongs_to
from tests.recorder.calls import held_call
from tests.recorder.world import CONTACT, KEY_SERVICE, OTHER, SIGNER, Bucket, Relay, settings_of


@functools.cache
def delivered() -> dict[str, bytes]:
    """Two contacts of one relay, with segments in parts."""
    relay = Relay(settings=settings_of(part_bytes_max=12_000))
    for contact_id in (CONTACT, OTHER):
        for values in held_call(contact_id):
            relay.record(values)
    relay.deliver()
    return relay.bucket.objects


def bucket() -> Bucket:
    return Bucket(dict(delivered()))


def key_of(name: str, contact_id: str = CONTACT) -> str:
    (key,) = [key for key in delivered() if contact_id in key and key.rsplit("/", 1)[1].startswith(name)]
    return key


def names(contact_id: str = CONTACT) -> list[str]:
    return [key for key in delivered() if contact_id in key]


def verify(store: Bucket, contact: str = CONTACT, *, decrypt: bool = False) -> Verification:
    return verify_contact(store, contact, SIGNER.public_key, KEY_SERVICE if decrypt else None)


def assert_found(store: Bucket, file: str, contact: str = CONTACT) -> Verification:
    found = verify(store, contact)
    assert found.exit_code == ExitCode.NOT_AUTHENTIC
    assert any(finding.file == file for finding in found.findings), found.findings
    return found


def test_untouched_contacts_verify_at_both_levels():
    for contact in (CONTACT, OTHER, key_of("manifest")):
        for decrypt in (False, True):
            answer = verify(bucket(), contact, decrypt=decrypt)
            assert answer.findings == ()
            assert (answer.verified, answer.exit_code, answer.level) == (True, ExitCode.AUTHENTIC, 1 + decrypt)


def test_the_answer_in_the_contracts_words():
    assert verify(bucket()).to_json() == {
        "verified": True,
        "level": 1,
        "findings": [],
        "tracks": [
            {
                "track": "customer",
                "participant": "p-customer",
                "expected": 182_400,
                "stored": 114_240,
                "concealed": 1_920,
                "lost": 960,
                "withheld": {"G1": 9_600, "G2": 57_600},
            },
            {
                "track": "agent",
                "participant": "p-agent",
                "expected": 172_800,
                "stored": 172_800,
                "concealed": 0,
                "lost": 0,
                "withheld": {},
            },
        ],
        "ended": "closed",
        "shredded": False,
    }


def test_the_log_and_the_withheld_ranges_are_there_for_the_replay():
    answer = verify(bucket(), decrypt=True)
    assert answer.log is not None
    assert [(line.position, line.data) for line in answer.log] == [
        (0, b'{"event":"started"}'),
        (9_600, b'{"event":"agent_connected"}'),
        (48_000, b'{"event":"held"}'),
        (105_600, b'{"event":"resumed"}'),
    ]
    customer = answer.tracks[0]
    assert [(gap.first, gap.positions, gap.rule) for gap in customer.withheld_ranges] == [
        (0, 9_600, "G1"),
        (48_000, 57_600, "G2"),
    ]
    assert verify(bucket()).log is None


@pytest.mark.slow
@pytest.mark.parametrize("key", names())
def test_any_flipped_byte_of_any_object_is_found(key):
    data = delivered()[key]
    # Every byte of headers, documents and ends; of long ciphertext a thinner but seeded choice.
    places = {
        *range(min(len(data), 700)),
        *range(len(data) - 40, len(data)),
        *random.Random(key).sample(range(len(data)), 60),
    }
    for place in sorted(places):
        store = bucket()
        store.objects[key] = data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :]
        assert_found(store, key)


@pytest.mark.parametrize("key", names())
def test_any_cut_or_added_byte_is_found(key):
    data = delivered()[key]
    for changed in (
        data[:-1],
        data[1:],
        data[: len(data) // 2],
        b"",
        data + b"\0",
        data + b"\n",
        b"\0" + data,
        data + data,
    ):
        store = bucket()
        store.objects[key] = changed
        found = assert_found(store, key)
        assert all(finding.what for finding in found.findings)


@pytest.mark.parametrize("key", names())
def test_any_missing_object_is_found(key):
    store = bucket()
    del store.objects[key]
    assert_found(store, key)


@pytest.mark.parametrize("key", names())
def test_an_object_of_another_contact_in_its_place_is_found(key):
    kind = key.rsplit("/", 1)[1].split("-")[0 if "track" not in key else 1]
    same = [other for other in names(OTHER) if kind in other.rsplit("/", 1)[1]]
    same = [other for other in same if (".seg." in other) == (".seg." in key)]
    store = bucket()
    store.objects[key] = delivered()[same[0]]
    assert delivered()[key] != delivered()[same[0]]
    assert_found(store, key)


def test_objects_swapped_within_a_contact_are_found():
    store = bucket()
    one, two = [key for key in names() if key.endswith(".seg")]
    store.objects[one], store.objects[two] = store.objects[two], store.objects[one]
    found = assert_found(store, one)
    assert {one, two} <= {finding.file for finding in found.findings}


def test_a_whole_contact_under_anothers_id_is_found():
    store = Bucket()
    for key in names():
        store.objects[key.replace(CONTACT, OTHER)] = delivered()[key]
    found = verify(store, OTHER)
    assert [(f.file, f.place) for f in found.findings] == [(key_of("manifest").replace(CONTACT, OTHER), "contact_id")]


@pytest.mark.parametrize("addition", ["extra", "manifest.1", "track-x-00.seg", "deeper/key"])
def test_a_stranger_under_the_contacts_prefix_is_found(addition):
    store = bucket()
    key = key_of("manifest").removesuffix("manifest") + addition
    store.objects[key] = b"anything"
    assert_found(store, key)


def test_a_stranger_elsewhere_that_names_the_contact_is_found():
    store = bucket()
    store.objects[f"rendered/{CONTACT}.wav"] = b"RIFF"
    assert_found(store, f"rendered/{CONTACT}.wav")
    assert verify(store, OTHER).verified


def test_other_spellings_of_documents_are_found():
    for name in ("key", "manifest"):
        key = key_of(name)
        body, rest = delivered()[key].split(b"\n", 1)
        for changed in (body.replace(b":", b": ", 1), body.replace(b"{", b"{ ", 1), body + b" "):
            store = bucket()
            store.objects[key] = changed + b"\n" + rest
            assert_found(store, key)


def resigned(**changes: object) -> Bucket:
    """A manifest that says something else, signed by the right key: then its content must contradict the objects."""
    store = bucket()
    key = key_of("manifest")
    manifest = Manifest.parse(parse_unchecked(store.objects[key]))
    store.objects[key] = signed(replace(manifest, **changes).body(), SIGNER)  # type: ignore[arg-type]
    return store


def manifest() -> Manifest:
    return Manifest.parse(parse_unchecked(delivered()[key_of("manifest")]))


@pytest.mark.parametrize(
    "change",
    [
        {"stored": 1},
        {"concealed": 0},
        {"lost": 0},
        {"withheld": {"G1": 9_600}},
        {"gaps": ()},
        {"chunks": 3},
        {"expected": 10},
        {"head": "0" * 64},
        {"role": "agent"},
        {"participant_id": "someone"},
        {"rate": 16_000},
        {"first": 960},
        {"session_id": "0" * 32},
        {"track_id": "agent"},
    ],
)
def test_an_account_that_differs_from_the_chunks_is_found(change):
    customer, agent = manifest().tracks
    assert not verify(resigned(tracks=(replace(customer, **change), agent))).verified


def test_an_unexplained_hole_is_found_and_named():
    customer, agent = manifest().tracks
    gaps = tuple(replace(gap, rule=None, reason="missing") for gap in customer.gaps)
    lost = customer.lost + sum(gap.positions for gap in gaps)
    changed = replace(customer, gaps=gaps, lost=lost, withheld={})
    found = verify(resigned(tracks=(changed, agent)))
    assert [finding.place for finding in found.findings] == [
        "track customer, position 0",
        "track customer, position 48000",
    ]


def test_a_dropped_track_or_object_entry_is_found():
    made = manifest()
    assert not verify(resigned(tracks=made.tracks[:1])).verified
    assert not verify(resigned(objects=made.objects[1:])).verified
    assert not verify(resigned(objects=(*made.objects, made.objects[0]))).verified
    assert not verify(resigned(ended=replace(made.ended, position=960))).verified
    assert not verify(resigned(log=replace(made.log, entries=3))).verified


def test_a_flip_in_ciphertext_names_chunk_and_byte():
    key = next(key for key in names() if "track-agent" in key and key.endswith(".seg"))
    store = bucket()
    data = store.objects[key]
    store.objects[key] = data[:1_000] + bytes([data[1_000] ^ 1]) + data[1_001:]
    found = verify_contact(store, CONTACT, SIGNER.public_key, KEY_SERVICE)
    places = [finding.place for finding in found.findings if finding.file == key]
    assert places[:3] == ["whole object", "chunk 0 at byte 235", "chunk 1 at byte 3510"]


def test_another_public_key_or_key_file_is_not_taken():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    other = FileSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    assert verify_contact(bucket(), CONTACT, other.public_key).exit_code == ExitCode.NOT_AUTHENTIC
    keyless = verify_contact(bucket(), CONTACT, SIGNER.public_key, FileKeyService("x", {"x": bytes(32)}))
    assert (keyless.exit_code, keyless.verified) == (ExitCode.NOT_CHECKED, False)
    assert "k1" in str(keyless.to_json()["unchecked"])
    wrong = verify_contact(bucket(), CONTACT, SIGNER.public_key, FileKeyService("k1", {"k1": bytes(32)}))
    assert wrong.exit_code == ExitCode.NOT_AUTHENTIC


def test_a_signed_tombstone_instead_of_the_key_is_a_shredded_contact():
    store = bucket()
    made = manifest()
    body = {
        "type": "tombstone",
        "format": 1,
        "account_id": made.identity.account_id,
        "instance_id": made.identity.instance_id,
        "contact_id": CONTACT,
        "chain_id": made.link.chain_id,
        "sequence": 2,
        "previous": "0" * 64,
    }
    store.objects[key_of("key")] = signed(body, SIGNER)
    answer = verify(store, decrypt=True)
    assert (answer.exit_code, answer.shredded, answer.level) == (ExitCode.AUTHENTIC, True, 1)
    store.objects[key_of("key")] = signed({**body, "contact_id": OTHER}, SIGNER)
    assert_found(store, key_of("key"))


def test_a_missing_manifest_is_found_by_its_key_too():
    store = bucket()
    key = key_of("manifest")
    del store.objects[key]
    assert_found(store, key, key)


class Away(Bucket):
    def read(self, key: str) -> bytes:
        raise Unavailable("store: connection refused")


def test_what_cannot_be_checked_says_why():
    assert verify(Bucket()).exit_code == ExitCode.NOT_CHECKED
    answer = verify(Away(dict(delivered())))
    assert (answer.exit_code, answer.unchecked) == (ExitCode.NOT_CHECKED, "store: connection refused")


def test_a_replay_adds_its_findings():
    from recorder import Finding

    answer = verify(bucket(), decrypt=True).with_replay([Finding("log", "position 3", "the gate was open")])
    assert (answer.level, answer.exit_code) == (3, ExitCode.NOT_AUTHENTIC)


def test_ids_are_words_in_object_keys():
    assert belongs_to(f"a/{CONTACT}/key", CONTACT)
    assert belongs_to(f"a/{CONTACT}_20261124.wav", CONTACT)
    assert not belongs_to(f"a/{CONTACT}0/key", CONTACT)
