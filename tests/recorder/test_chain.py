from recorder import verify_instance
from recorder.document import parse_unchecked, signed
from recorder.manifest import link_of
from tests.recorder.calls import held_call
from tests.recorder.world import ACCOUNT, SIGNER, Bucket, MemoryDisk, Relay

CONTACTS = [f"c0ffee00-0000-4000-8000-00000000000{n}" for n in range(1, 6)]


def five_contacts() -> Bucket:
    """One relay's five contacts, over two starts."""
    bucket, disk = Bucket(), MemoryDisk()
    for part, seed in ((CONTACTS[:2], 1), (CONTACTS[2:], 2)):
        relay = Relay(disk, bucket, seed=seed)
        for contact_id in part:
            for values in held_call(contact_id):
                relay.record(values)
            relay.deliver()
    return bucket


def manifests(bucket: Bucket) -> list[str]:
    return [key for key in bucket.objects if key.endswith("/manifest")]


def test_one_chain_over_contacts_and_starts():
    bucket = five_contacts()
    links = [link_of(parse_unchecked(bucket.objects[key])) for key in manifests(bucket)]
    assert [link.sequence for link in links] == [0, 1, 2, 3, 4]
    assert len({link.chain_id for link in links}) == 1
    assert verify_instance(bucket, SIGNER.public_key) == []
    assert verify_instance(bucket, SIGNER.public_key, ACCOUNT) == []


def test_a_removed_contact_is_missed():
    bucket = five_contacts()
    for key in [key for key in bucket.objects if CONTACTS[2] in key]:
        del bucket.objects[key]
    (finding,) = verify_instance(bucket, SIGNER.public_key)
    assert finding.file == manifests(bucket)[2]
    assert finding.what == "what stood before it in the chain is missing: 2"


def test_a_replaced_manifest_breaks_the_chain():
    bucket = five_contacts()
    key = manifests(bucket)[1]
    body = parse_unchecked(bucket.objects[key])
    bucket.objects[key] = signed({**body, "wall": "2026-01-01T00:00:00.000Z"}, SIGNER)
    (finding,) = verify_instance(bucket, SIGNER.public_key)
    assert (finding.file, finding.place) == (manifests(bucket)[2], "sequence 2")


def test_a_second_of_the_same_number_and_junk_are_found():
    bucket = five_contacts()
    one, two, *_ = manifests(bucket)
    bucket.objects[one.replace(CONTACTS[0], "copy")] = bucket.objects[one]
    bucket.objects["x/manifest"] = b"junk"
    del bucket.objects[two]
    findings = verify_instance(bucket, SIGNER.public_key)
    assert {finding.what for finding in findings} == {
        "this place in the chain is taken twice",
        "a document is two lines, each ended by a line feed",
        "what stood before it in the chain is missing: 1",
    }


def test_two_relays_have_two_chains():
    bucket = Bucket()
    for seed, contact_id in ((1, CONTACTS[0]), (2, CONTACTS[1])):
        relay = Relay(bucket=bucket, seed=seed)
        for values in held_call(contact_id):
            relay.record(values)
        relay.deliver()
    assert verify_instance(bucket, SIGNER.public_key) == []
    assert {link_of(parse_unchecked(bucket.objects[key])).sequence for key in manifests(bucket)} == {0}


def test_a_tombstone_takes_its_place_in_the_chain():
    bucket = five_contacts()
    last = bucket.objects[manifests(bucket)[-1]]
    from recorder.document import document_hash

    link = link_of(parse_unchecked(last))
    body = {"type": "tombstone", "chain_id": link.chain_id, "sequence": 5, "previous": document_hash(last)}
    key = manifests(bucket)[0].replace("manifest", "key")
    bucket.objects[key] = signed(body, SIGNER)
    assert verify_instance(bucket, SIGNER.public_key) == []
