"""The ready file."""

from pathlib import Path

from relay.ready import DemoAgent, Ready

READY = Ready("https://h/", "https://h/api", "https://h/metrics", "h:5061", "ca.pem", 42, DemoAgent("demo", "secret"))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "ready.json"
    READY.write(file)
    assert Ready.parse(file.read_bytes()) == READY
    assert [each.name for each in tmp_path.iterdir()] == ["ready.json"]


def test_it_is_not_written_into_a_file_that_somebody_has_laid_there(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.touch(0o666)
    (tmp_path / ".ready.json.42").symlink_to(theirs)
    file = tmp_path / "ready.json"
    READY.write(file)
    assert theirs.read_bytes() == b""
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.is_symlink()


def test_it_does_not_show_its_token() -> None:
    assert "secret" not in repr(READY)
