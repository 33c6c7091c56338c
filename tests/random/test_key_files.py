"""Keys in files: what was saved comes back, nobody else can read it, and nothing is overwritten."""

import os
import stat

import pytest

import dpfunc as dp


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_it_comes_back_and_is_the_owners_alone(tmp_path, umask):
    path, key = tmp_path / "run.key", dp.key()
    dp.save_key(key, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert dp.load_key(path) == key
    assert dp.load_key(str(path)) == key


def test_its_name_is_on_the_disk_as_well(tmp_path, monkeypatch):
    """Else a crash may leave releases whose key is gone with the folder's last change."""
    written, before = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: written.append(os.fstat(handle)) or before(handle)
    )
    dp.save_key(dp.key(), tmp_path / "run.key")
    assert [stat.S_ISDIR(one.st_mode) for one in written] == [False, True]
    assert written[1].st_ino == tmp_path.stat().st_ino


def test_no_key_is_overwritten(tmp_path):
    path, key = tmp_path / "run.key", dp.key()
    dp.save_key(key, path)
    with pytest.raises(FileExistsError, match=r"^save_key: .*load that key"):
        dp.save_key(dp.key(), path)
    assert dp.load_key(path) == key


def test_a_link_is_not_followed(tmp_path):
    """Somebody else's link would put the secret where they can read it."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        dp.save_key(dp.key(), tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_what_others_may_touch_is_refused(tmp_path, mode):
    path = tmp_path / "run.key"
    dp.save_key(dp.key(), path)
    path.chmod(mode)
    with pytest.raises(ValueError, match=r"^load_key: .*mode 600.*chmod 600"):
        dp.load_key(path)


CHANGES = {
    "cut short": lambda content: content[:-9],
    "something in front": lambda content: b"x" + content,
    "something behind": lambda content: content + b"0",
    "capitals": bytes.upper,
    "no text": lambda content: b"\xff" * 9,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_another_file_is_refused_without_a_word_of_it(tmp_path, change):
    path, key = tmp_path / "run.key", dp.key()
    dp.save_key(key, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^load_key: .*save_key wrote") as caught:
        dp.load_key(path)
    assert key.secret_bytes.hex()[:16] not in str(caught.value).lower()


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match=r"^save_key: expected a dpfunc\.Key"):
        dp.save_key(b"0" * 32, tmp_path / "run.key")
    assert not (tmp_path / "run.key").exists()
    with pytest.raises(FileNotFoundError):
        dp.load_key(tmp_path / "nothing")


def test_nothing_is_left_of_a_key_that_could_not_be_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        dp.save_key(dp.key(), tmp_path / "run.key")
    assert not list(tmp_path.iterdir())
