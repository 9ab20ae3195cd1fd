import pytest

from recorder.disk import Folder
from recorder.errors import RemoteError, Unavailable
from recorder.journal import Record, RecordKind
from recorder.stage import Stage
from tests.recorder.world import NO_SPACE, MemoryDisk


def appended(contact_id: str, data: bytes, name: str = "object") -> Record:
    return Record(RecordKind.APPENDED, contact_id, name, data)


def stage_of(disk: MemoryDisk, file_bytes_max: int = 200) -> tuple[Stage, list[Record]]:
    stage = Stage(disk, file_bytes_max)
    recovered = list(stage.recover())
    stage.begin(Record(RecordKind.HEAD, data=b"head0"))
    return stage, recovered


def test_a_group_is_one_write_and_one_sync():
    disk = MemoryDisk()
    stage, _ = stage_of(disk)
    assert stage.commit() is False
    stage.add([appended("a", b"1"), appended("b", b"2")])
    assert disk.written == {}
    assert stage.commit() is True
    assert len(disk.boundaries) == 2  # the head of the file, and the group
    assert disk.durable == {"journal-0000000001": disk.bytes_written}


def test_objects_are_cut_from_all_files():
    disk = MemoryDisk()
    stage, _ = stage_of(disk, file_bytes_max=1)
    for data in (b"one ", b"two ", b"three"):
        stage.add([appended("a", data), appended("b", b"x")])
        stage.commit()
    assert len(disk.names()) == 3
    assert stage.read("a", "object") == b"one two three"
    again, records = stage_of(disk.after_power_loss(), 1)
    assert again.read("a", "object") == b"one two three"
    assert [r.data for r in records if r.contact_id == "a"] == [b"one ", b"two ", b"three"]


def test_files_are_freed_oldest_first_and_the_newest_stays():
    disk = MemoryDisk()
    stage, _ = stage_of(disk, file_bytes_max=1)
    for contact_id in ("a", "b", "a", "c"):
        stage.add([appended(contact_id, b"x")])
        stage.commit()
    stage.free("b")
    assert len(disk.names()) == 4
    stage.free("a")
    assert disk.names() == ["journal-0000000004"]
    stage.free("c")
    assert disk.names() == ["journal-0000000004"]


def test_after_an_error_the_group_goes_whole_to_a_new_file():
    disk = MemoryDisk()
    stage, _ = stage_of(disk, 10_000)
    stage.add([appended("a", b"1")])
    stage.commit()
    disk.failing = NO_SPACE
    stage.add([appended("a", b"2")])
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            stage.commit()
    assert stage.pending_bytes == 1
    disk.failing = None
    stage.add([appended("a", b"3")])
    stage.commit()
    assert stage.read("a", "object") == b"123"
    assert len(disk.names()) == 2  # failed attempts leave no files
    assert stage_of(disk.after_power_loss())[0].read("a", "object") == b"123"


class FailingSync(MemoryDisk):
    def sync(self, name: str) -> None:
        if self.failing_sync:
            raise NO_SPACE
        super().sync(name)

    failing_sync = False


def test_a_group_that_stands_in_two_files_counts_once():
    disk = FailingSync()
    stage, _ = stage_of(disk, 10_000)
    stage.add([appended("a", b"1")])
    stage.commit()
    disk.failing_sync = True
    stage.add([appended("a", b"2"), Record(RecordKind.HEAD, data=b"head1")])
    with pytest.raises(OSError, match="No space"):
        stage.commit()
    disk.failing_sync = False
    stage.commit()
    # The failed write did reach the disk after all: keep everything that was not synced.
    left = disk.after_power_loss(lambda size: size)
    stage, records = stage_of(left)
    assert stage.read("a", "object") == b"12"
    assert [r.data for r in records] == [b"head0", b"1", b"2", b"head1", b"head0"]


def test_a_torn_tail_is_counted_and_not_read():
    disk = MemoryDisk()
    stage, _ = stage_of(disk, 10_000)
    stage.add([appended("a", b"1")])
    stage.commit()
    disk.written["journal-0000000001"] += appended("a", b"2").encode(9)[:-1]
    stage, records = stage_of(disk)
    assert [r.data for r in records] == [b"head0", b"1"]
    assert stage.recovery.torn_bytes == len(appended("a", b"2").encode(9)) - 1
    assert stage.recovery.damaged_files == []


def test_a_damaged_file_is_kept_aside():
    disk = MemoryDisk()
    stage, _ = stage_of(disk, 10_000)
    for data in (b"1", b"22", b"3"):
        stage.add([appended("a", data)])
        stage.commit()
    file = disk.written["journal-0000000001"]
    file[file.index(b"22")] ^= 1
    stage, records = stage_of(disk)
    assert [r.data for r in records] == [b"head0", b"1"]
    assert stage.recovery.damaged_files == ["journal-0000000001"]
    stage.add([appended("b", b"x")])
    stage.commit()
    stage.free("a")
    assert disk.names() == ["damaged-0000000001", "journal-0000000002"]


def test_numbers_go_on_after_a_start():
    disk = MemoryDisk()
    stage, _ = stage_of(disk)
    stage.add([appended("a", b"1")])
    stage.commit()
    stage, _ = stage_of(disk)
    stage.add([appended("a", b"2")])
    stage.commit()
    assert stage_of(disk)[0].read("a", "object") == b"12"


def test_a_shortened_journal_is_not_delivered():
    disk = MemoryDisk()
    stage, _ = stage_of(disk)
    stage.add([appended("a", b"12345")])
    stage.commit()
    del disk.written["journal-0000000001"][-2:]
    with pytest.raises(RemoteError):
        stage.read("a", "object")


def test_a_real_folder(tmp_path):
    path = tmp_path / "stage"
    disk = Folder(path)
    assert path.stat().st_mode & 0o777 == 0o700
    stage = Stage(disk, 1)
    stage.begin(Record(RecordKind.HEAD))
    for data in (b"1", b"2"):
        stage.add([appended("a", data)])
        stage.commit()
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o600}
    with pytest.raises(Unavailable, match="in use"):
        Folder(path)
    stage.close()
    disk = Folder(path)
    stage = Stage(disk, 1)
    assert len(list(stage.recover())) == 4
    assert stage.read("a", "object") == b"12"
    stage.free("a")
    assert disk.names() == ["journal-0000000002"]
    disk.rename("journal-0000000002", "damaged-0000000002")
    assert disk.size("damaged-0000000002") > 0
    stage.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file"):
        Folder(tmp_path / "file" / "stage")
