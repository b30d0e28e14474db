"""Makes Python behave as on Windows where that breaks programs written on Linux.

Imported at start-up by a process whose PYTHONPATH holds this folder. Libraries are left alone: they
have their own code for Windows.
"""

import builtins
import errno
import fcntl
import os
import stat
import sys

_POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")
_RESERVED = frozenset('<>:"|?*')
_real_import, _real_fsync, _real_open = builtins.__import__, os.fsync, os.open
_real_rename, _real_mkdir = os.rename, os.mkdir


def _import(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if name in _POSIX_ONLY and importer.partition(".")[0] == "sft_keras":
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _real_import(name, globals, locals, fromlist, level)


def _fsync(file):
    descriptor = file if isinstance(file, int) else file.fileno()
    is_read_only = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if is_read_only or stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor")
    _real_fsync(descriptor)


def _is_of_the_package():
    return sys._getframe(2).f_globals.get("__name__", "").startswith("sft_keras")


def _open(path, *arguments, **options):
    if _is_of_the_package() and os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return _real_open(path, *arguments, **options)


def _rename(source, target, **options):
    if os.path.exists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file that exists", str(target))
    _refuse_open_files(source)
    _real_rename(source, target, **options)


def _refuse_open_files(source):
    """Fail if this process has a file open in a folder, or a file, to be renamed."""
    prefix = os.path.realpath(source)
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if path == prefix or path.startswith(prefix + os.sep):
            raise PermissionError(errno.EACCES, f"It is open: {path}", str(source))


def _mkdir(path, *arguments, **options):
    if _RESERVED & set(os.path.basename(os.fspath(path))):
        raise OSError(errno.EINVAL, "The directory name is invalid", str(path))
    _real_mkdir(path, *arguments, **options)


builtins.__import__, os.fsync, os.open = _import, _fsync, _open
os.rename, os.mkdir = _rename, _mkdir
del os.fork
