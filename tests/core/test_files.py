"""Files are flushed in the way that Windows requires, too."""

import errno
import fcntl
import os
import stat

from sft_keras.core.files import sync_file, sync_folder, write_atomic


def _windows_fsync(descriptor):
    """Fail as Windows does for handles that are not open for writing, and for folders."""
    is_readable_only = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if is_readable_only or stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor")


def test_files_and_folders_are_flushed_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _windows_fsync)
    path = tmp_path / "a.txt"
    write_atomic(path, "text")
    sync_file(path)
    sync_folder(tmp_path)
    assert path.read_text() == "text"
