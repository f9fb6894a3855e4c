"""What starts a program inside the sandbox: a script that `sandbox.py` runs, with the standard library alone.

Three processes: the first makes new namespaces and waits; the second, process 1 of the new process namespace, makes a
root folder that holds little and watches; the third gives up every right, sets the limits and becomes the program.
Under bubblewrap, which does the first two's work, the first one only watches.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

# From Linux' <sched.h>, <sys/mount.h>, <sys/prctl.h>, <linux/seccomp.h>.
NEW_NAMESPACES = 0x7E020000  # mount, control group, host name, IPC, user, process, network
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 36, 38, 47, 4
SECCOMP_MODE_FILTER = 2
INNER_ID = 1000  # user and group that the program believes to be
DEVICES = ("null", "zero", "urandom")

# Runs the program. It has passed when this comes to its last line: leaving earlier, however quietly, is failing.
RUNNER = """
import os, sys
key, source = sys.stdin.buffer.read().split(b"\\n", 1)
os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
status = int(sys.argv.pop())
exec(compile(source, "program.py", "exec"), {})
sys.stdout.flush()
os.write(status, b"done " + key + b"\\n")
"""

# What a program without rights could still ask of the kernel and has no need of: numbers by machine, as in
# <asm/unistd.h>. It may not make namespaces, look into other processes, or hold memory that no limit counts.
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
DENIED = {
    "unshare": (272, 97), "setns": (308, 268), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
}  # fmt: skip
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
SOCKET_FAMILIES = (1, 2, 10)  # of this machine, IPv4, IPv6: the network namespace closes the last two
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Do what the settings, a JSON object, say."""
    settings = json.loads(sys.argv[1])
    if settings["mechanism"] == "namespaces":
        enter_namespaces(settings["host_id"])
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        make_root(settings["folder"], settings["readable"], settings["folder_bytes"])
    else:
        _call("prctl", PR_SET_CHILD_SUBREAPER, 1)
    watch(settings)


def enter_namespaces(host_id: int | None) -> None:
    """Enter new namespaces; what is forked from now on is in all of them.

    Args:
        host_id: The user and group outside that the program is to run as; only root can choose. None for its own.
    """
    user, group, me = os.getuid(), os.getgid(), os.getpid()
    read, write = os.pipe()
    if host_id is not None and not os.fork():  # rights over the namespace's users are held outside of it
        os.close(write)
        if not os.read(read, 1):
            os._exit(1)
        for name, own in (("uid_map", user), ("gid_map", group)):
            _write(f"/proc/{me}/{name}", f"0 {own} 1\n{INNER_ID} {host_id} 1\n")
        os._exit(0)
    _call("unshare", NEW_NAMESPACES)
    if host_id is None:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{INNER_ID} {user} 1\n")
        _write("/proc/self/gid_map", f"{INNER_ID} {group} 1\n")
    else:
        os.write(write, b".")
        if os.wait()[1]:
            raise OSError("the users of a new namespace could not be set")
    os.close(read)
    os.close(write)
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)


def make_root(folder: str, readable: Sequence[str], folder_bytes: int) -> None:
    """Leave nothing in sight but what is readable, and an empty /tmp of limited size, the only place to write.

    Args:
        folder: One that exists; the root is made over it, which is seen in here alone.
        readable: Paths of folders and files that stay, as they are; symbolic links stay symbolic.
        folder_bytes: Size of /tmp.
    """
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in ("old", "new"):
        os.mkdir(f"{folder}/{name}")
    _pivot(folder, f"{folder}/old")
    _mount("/new", "/new", None, MS_BIND)
    for path in readable:
        _show(path)
    os.mkdir("/new/dev")
    for name in DEVICES:
        _show(f"/dev/{name}")
    _seal()
    os.makedirs("/new/tmp", exist_ok=True)
    _mount("tmpfs", "/new/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={folder_bytes},nr_inodes=4096,mode=777")
    _mount(None, "/new", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir("/new")
    _pivot(".", ".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/tmp")


def _show(path: str) -> None:
    old, new = f"/old{path}", f"/new{path}"
    if os.path.lexists(new):
        return
    os.makedirs(os.path.dirname(new), exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), new)
    elif os.path.isdir(old):
        os.mkdir(new)
        _mount(old, new, None, MS_BIND | MS_REC)
    elif os.path.exists(old):
        os.close(os.open(new, os.O_CREAT))
        _mount(old, new, None, MS_BIND)


def _seal() -> None:
    """Make every mount below /new read-only; what else is forbidden there stays so, as it must."""
    with open("/old/proc/self/mountinfo", "rb") as lines:
        for fields in map(bytes.split, lines):
            place = os.fsdecode(re.sub(rb"\\(\d{3})", lambda found: bytes([int(found[1], 8)]), fields[4]))
            if not place.startswith("/new/"):
                continue
            flags = MS_NOEXEC if b"noexec" in fields[5].split(b",") else 0
            device = 0 if place.startswith("/new/dev/") else MS_NODEV
            _mount(None, place, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | device | flags)


def watch(settings: dict[str, Any]) -> NoReturn:
    """Run the program, and tell how it ended and whether it left processes behind, which end with this one."""
    _call("prctl", PR_SET_DUMPABLE, 0)
    child = os.fork()
    if not child:
        os.setsid()
        confine(settings)
        os.set_inheritable(settings["status"], True)
        os.write(settings["status"], b"ready\n")
        python = settings["python"]
        os.execve(python, [python, "-I", "-S", "-B", "-c", RUNNER, str(settings["status"])], {"LANG": "C.UTF-8"})
    while True:
        ended, status = os.wait()
        if ended == child:
            break
    left = 0
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        left = 1
    except ChildProcessError:
        pass
    os.write(settings["status"], f"end {os.waitstatus_to_exitcode(status)} {left}\n".encode())
    os._exit(0)


def confine(settings: dict[str, Any]) -> None:
    """Give up every right, for good, and take on the limits."""
    if os.getuid() == 0:
        inner = INNER_ID if settings["mechanism"] == "namespaces" else settings["host_id"]
        for capability in range(64):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(inner, inner, inner)
        os.setresuid(inner, inner, inner)
    for name, value in settings["limits"].items():
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1)
    if platform.machine() in AUDIT_ARCHITECTURES:
        filter_calls(platform.machine())


def filter_calls(machine: str) -> None:
    """Refuse the system calls of DENIED, new namespaces and sockets of unknown families; for good."""
    index = list(AUDIT_ARCHITECTURES).index(machine)
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCHITECTURES[machine]), _refuse(EPERM), (0x20, 0, 0, 0)]
    if machine == "x86_64":  # numbers of the x32 interface
        code += [(0x35, 0, 1, 0x40000000), _refuse(EPERM)]
    for numbers in DENIED.values():
        code += [(0x15, 0, 1, numbers[index]), _refuse(EPERM)]
    code += [(0x15, 0, 1, CLONE3[index]), _refuse(ENOSYS)]  # its flags cannot be seen; libraries then call clone
    code += [(0x15, 0, 4, CLONE[index]), (0x20, 0, 0, 16), (0x45, 0, 1, NEW_NAMESPACES), _refuse(EPERM), _ALLOW]
    families = [(0x15, len(SOCKET_FAMILIES) - each, 0, family) for each, family in enumerate(SOCKET_FAMILIES)]
    code += [(0x15, 0, len(families) + 2, SOCKET[index]), (0x20, 0, 0, 16), *families, _refuse(EAFNOSUPPORT), _ALLOW]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(packed)))
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


_ALLOW = (0x06, 0, 0, 0x7FFF0000)


def _refuse(error: int) -> tuple[int, int, int, int]:
    return (0x06, 0, 0, 0x00050000 | error)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [os.fsencode(each) if each is not None else None for each in (source, target, kind)]
    _call("mount", *texts, flags, options.encode())


def _pivot(new: str, old: str) -> None:
    number = {"x86_64": 155}.get(platform.machine(), 41)
    _call("syscall", number, os.fsencode(new), os.fsencode(old))
    os.chdir("/" if new != "." else ".")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _call(name: str, *arguments: Any) -> None:
    padded = [*arguments, 0, 0, 0, 0][:5] if name == "prctl" else arguments
    values = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in padded]
    if getattr(_libc, name)(*values) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{tuple(arguments)}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
