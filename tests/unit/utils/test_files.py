"""Settings from text, where the cache is, and that a file system without locks is no reason to stop."""

import errno
import json
import os
import pwd

import pytest

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import exclusive, load_settings, user_cache


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_the_work_goes_on(tmp_path, monkeypatch, code):
    def no_locks(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", no_locks)
    done = []
    with exclusive(tmp_path / "folder"):
        done.append(1)
    assert done


def test_errors_of_the_work_and_other_errors_of_the_lock_are_passed_on(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="in the work"), exclusive(tmp_path):
        raise OSError(errno.ENOSYS, "in the work")

    def broken(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr("fcntl.flock", broken)
    with pytest.raises(OSError, match="broken disk"), exclusive(tmp_path):
        pass


@pytest.fixture
def homeless(tmp_path, monkeypatch):
    """A user without a home, and without an entry in the password file."""

    def no_entry(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    for name in ("HOME", "MLFF_DISTILLER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"mlff-distiller-{os.getuid()}"


def test_a_user_without_a_home_has_a_cache_closed_to_others(homeless, monkeypatch):
    assert user_cache() == user_cache() == homeless
    assert homeless.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("HOME", "/nonexistent")
    assert user_cache() == homeless


def test_a_temporary_cache_that_others_can_write_to_is_refused(homeless):
    homeless.mkdir()
    homeless.chmod(0o777)
    with pytest.raises(UserError, match="MLFF_DISTILLER_CACHE"):
        user_cache()


def test_a_temporary_cache_that_belongs_to_another_user_is_refused(homeless, monkeypatch):
    """Closed to all but its owner, who is somebody else: whoever made it there first could have put programs into it."""
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    other = homeless.with_name(f"mlff-distiller-{me + 1}")
    other.mkdir(mode=0o700)
    with pytest.raises(UserError, match="not a folder of this user alone; set MLFF_DISTILLER_CACHE"):
        user_cache()


def test_a_temporary_cache_that_is_a_link_is_refused(homeless, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    homeless.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="not a folder of this user alone"):
        user_cache()


def test_a_home_and_the_variables_come_first(tmp_path, monkeypatch, homeless):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "mlff-distiller"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(user_cache()) == "/xdg/mlff-distiller"
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", "/mine")
    assert str(user_cache()) == "/mine"


def test_a_small_number_of_json_is_a_number():
    given = {"learning_rate": 1e-05, "note": "1e-05"}
    assert load_settings(json.dumps(given)) == given
    assert load_settings("{learning_rate: 1.0e-05}") == {"learning_rate": 1e-05}
