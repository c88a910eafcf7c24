"""A machine for the tests of the installed service: systemd as process 1 in namespaces of its own.

It runs this machine's /usr below a layer that takes what the tests install, with an /etc and a /var
made for it, in a folder that outlasts a reboot. It shares the caller's network, which is why the
caller has one of its own (see `installed.py`). Needs root and a kernel with overlayfs.

MemoryMax=, TasksMax= and CPUQuota= are accepted in there and not enforced: the controllers stay
with the machine's own systemd.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import uuid

# A boot takes a second on an idle machine.
BOOT_WITHIN_S = 60
# Services drain at a shutdown.
DOWN_WITHIN_S = 120
# The longest that anything takes that a test waits for, on a busy machine.
WITHIN_S = 120
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

# What a machine of its own may do and this one must not: the clock, modules, the kernel's log.
NOT_ALLOWED = "-sys_module,-sys_rawio,-sys_time,-syslog,-wake_alarm,-mac_admin,-mac_override"

# In namespaces of its own: $1/root becomes the root, $2 is the PATH. What can be written of the kernel stays out.
INIT = """
root=$1/root
mount --bind "$root" "$root"
mount -t overlay overlay "$root/usr" -o "lowerdir=/usr,upperdir=$1/upper,workdir=$1/work"
cd "$root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount --bind "$1/boot_id" proc/sys/kernel/random/boot_id
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then mount --bind /dev/null proc/sysrq-trigger; fi
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run dev; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mount -t tmpfs -o mode=1777 tmpfs tmp
for device in null zero full random urandom tty; do
    touch "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${number%:*}" "dev/${number#*:}"; done
mkdir run/outside
pivot_root . run/outside
umount -l /run/outside
rmdir /run/outside
hostname guest
# A service gets its credentials by a mount that is made outside of its own namespace.
mount --make-rshared /
exec env -i container=other "PATH=$2" TERM=dumb /lib/systemd/systemd --system
"""


def missing():
    """Why there can be no guest here; None: there can."""
    if os.geteuid() != 0:
        return "not root"
    if not pathlib.Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    tools = ("unshare", "nsenter", "setpriv", "dpkg", "apt-get", "ip", "strip", "dpkg-deb")
    absent = [tool for tool in tools if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if not control_groups():
        return "no cgroup2 hierarchy is mounted"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "true"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None


def control_groups():
    """Hierarchies in which the guest gets a group: one, or two where version 1 is still there."""
    top = pathlib.Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return [top]
    return [top / name for name in ("unified", "systemd") if (top / name).is_dir()]


def until(what, condition, within_s=WITHIN_S):
    """Waits for a condition and returns what it is; fails where it does not come."""
    deadline = time.monotonic() + within_s
    while not (seen := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s} s")
        time.sleep(0.1)
    return seen


class Guest:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.root = self.folder / "root"
        self.name = f"groundtrack-guest-{os.getpid()}"
        self.outer = None
        self.leader = None
        self.make_disk()

    # --- the machine ---

    def make_disk(self):
        for folder in ("upper", "work"):
            (self.folder / folder).mkdir()
        folders = ("usr etc/systemd/system etc/apt/apt.conf.d "
                   "etc/apt/sources.list.d etc/apt/preferences.d var/log/journal var/lib/dpkg/info "
                   "var/lib/dpkg/updates var/lib/dpkg/triggers var/lib/dpkg/parts "
                   "var/lib/apt/lists/partial var/cache/apt/archives/partial var/log/apt "
                   "run tmp root home srv proc sys dev opt")  # fmt: skip
        for folder in folders.split():
            (self.root / folder).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib32", "lib64"):
            if pathlib.Path("/usr", link).exists():
                (self.root / link).symlink_to(f"usr/{link}")
        etc = self.root / "etc"
        for file in ("ld.so.cache", "nsswitch.conf"):
            shutil.copy(f"/etc/{file}", etc)
        if pathlib.Path("/etc/ssl").is_dir():
            shutil.copytree("/etc/ssl", etc / "ssl", symlinks=True)
        # systemd wants a file here, not a link.
        shutil.copy("/usr/lib/os-release", etc / "os-release")
        (etc / "hosts").write_text("127.0.0.1 localhost guest\n")
        (etc / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/bash\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        )
        (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
        # Without one, systemd asks the questions of a first boot.
        (etc / "machine-id").write_text(uuid.uuid4().hex + "\n")
        # It knows what is installed and fetches nothing; a second user for that is needless.
        (etc / "apt/apt.conf.d/guest").write_text('APT::Sandbox::User "root";\n')
        dpkg = pathlib.Path("/var/lib/dpkg")
        shutil.copy(dpkg / "status", self.root / "var/lib/dpkg")
        for file in [dpkg / "info/format", *dpkg.glob("info/*.list")]:
            shutil.copy(file, self.root / "var/lib/dpkg/info")

    def boot(self):
        # The kernel has only one, and the journal tells boots apart by it.
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        groups = [group / self.name for group in control_groups()]
        for group in groups:
            group.mkdir(exist_ok=True)

        def join():
            for group in groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        with open(self.folder / "console", "ab") as console:
            self.outer = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--uts", "--ipc",
                 "--cgroup", "--propagation", "private", "--",
                 "setpriv", f"--bounding-set={NOT_ALLOWED}", "--",
                 "bash", "-euc", INIT, "boot", str(self.folder), PATH],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=join,
            )  # fmt: skip
        try:
            self.leader = until("the guest's systemd", self.find_leader, BOOT_WITHIN_S)
            until("the guest's answer", self.answers, BOOT_WITHIN_S)
        except AssertionError as failed:
            console = (self.folder / "console").read_text(errors="replace")[-2000:]
            raise AssertionError(f"{failed}; the console ends:\n{console}")
        # A container's /usr may forbid to start services during an installation; a machine's does not.
        self.run("rm", "-f", "/usr/sbin/policy-rc.d")
        # "degraded" too: units that no container has may fail.
        self.run("timeout", str(BOOT_WITHIN_S), "systemctl", "is-system-running", "--wait", check=False)

    def find_leader(self):
        if self.outer.poll() is not None:
            raise AssertionError(f"the guest ended with {self.outer.returncode}")
        with contextlib.suppress(OSError, IndexError):
            children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children")
            pid = int(children.read_text().split()[0])
            if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid
        return None

    def answers(self):
        return self.run("systemctl", "show", "--property=Version", check=False).returncode == 0

    def reboot(self):
        """As `reboot` on a machine: units are stopped, then everything begins again."""
        before = self.boot_id()
        self.shut_down()
        self.boot()
        assert self.boot_id() != before, "it is another boot"

    def boot_id(self):
        return self.run("cat", "/proc/sys/kernel/random/boot_id").stdout

    def shut_down(self):
        if self.outer is None:
            return
        if self.leader:
            # systemd's signal for `poweroff`.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)
        try:
            self.outer.wait(DOWN_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.outer.kill()
            self.outer.wait()
        self.outer = self.leader = None

    def remove(self):
        """Ends it and takes its control groups away."""
        self.shut_down()
        for top in control_groups():
            group = top / self.name
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    until("an empty group", lambda folder=folder: removed(folder), 10)

    # --- inside ---

    def run(self, *command, check=True, **more):
        """Runs a command inside; its output is text."""
        inside = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-p", "-C", "--",
                  "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root",
                  "DEBIAN_FRONTEND=noninteractive", *command]  # fmt: skip
        done = subprocess.run(inside, capture_output=True, text=True, **more)
        if check and done.returncode != 0:
            raise AssertionError(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            )
        return done

    def systemctl(self, *arguments, check=True):
        return self.run("systemctl", *arguments, check=check)

    def show(self, unit, *properties):
        """Properties of a unit, one or a tuple of them."""
        shown = self.systemctl("show", unit, *[f"--property={name}" for name in properties])
        values = dict(line.split("=", 1) for line in shown.stdout.splitlines())
        found = tuple(values[name] for name in properties)
        return found if len(found) > 1 else found[0]

    def journal(self, unit, *more):
        """A unit's messages of this boot and those before, systemd's about it included."""
        lines = self.run("journalctl", "--unit", unit, "--output=json", "--no-pager", *more)
        return [json.loads(line) for line in lines.stdout.splitlines()]

    def write(self, path, text, mode=0o644, group="root"):
        # Nothing outside knows the guest's groups by name.
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        if group != "root":
            self.run("chgrp", group, path)


def removed(folder):
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return not os.path.exists(folder)
