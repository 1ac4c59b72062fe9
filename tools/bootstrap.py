"""Make ``.venv`` and install the locked packages into it: what ``make setup`` runs.

Whatever Python the machine calls ``python3`` has to be able to read this file, if only to say that
it is too old. So it is written in the common subset of Python 2.7 and 3: no f-strings, no
annotations, no imports beyond the standard library.

Usage: bootstrap.py [--exact]      --exact: use this interpreter, do not look for a newer one.
"""

import errno
import os
import platform
import subprocess
import sys

OLDEST = (3, 11)
# In the order of preference: the versions that the lock is tried with first.
COMMANDS = ("python3.12", "python3.11", "python3.13", "python3.14", "python3", "python")
# The environment with a CPU build of torch takes 2 GB; a CUDA build takes 7 GB, and a disk that is
# too small for that is reported when pip meets it.
FREE_GB = 3.0
# How pip names the failures of a network.
NETWORK_TROUBLE = (
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Read timed out",
    "ProxyError",
    "SSLError",
)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class SetupError(Exception):
    """One sentence for the user: what is needed, what came, what to do."""


def main(arguments, root=ROOT):
    """Return the exit status: 0, or 1 after one sentence on stderr."""
    try:
        choose_interpreter("--exact" in arguments)
        check_folder(root)
        environment = Environment(root)
        check_space(root, 0.5 if environment.complete() else FREE_GB)
        environment.create()
        environment.install()
    except SetupError as error:
        sys.stderr.write("memnb: {0}\n".format(error))
        return 1
    except (IOError, OSError) as error:
        full = error.errno == errno.ENOSPC
        sys.stderr.write("memnb: {0}\n".format(disk_full(root) if full else error))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nmemnb: the setup was interrupted; run make again to start it afresh.\n")
        return 130
    return 0


# --- which Python ----------------------------------------------------------------------------


def choose_interpreter(exact):
    """Return if this Python will do; else go on in a better one on PATH, or raise SetupError."""
    complaint = complaint_about_this_python()
    if complaint is None:
        return
    better = None if exact else find_python()
    if better is None:
        raise SetupError(complaint)
    sys.stderr.flush()
    # --exact: the one found is not to search again.
    os.execv(better, [better, os.path.abspath(__file__), "--exact"])


def complaint_about_this_python():
    """None, or the sentence that says why this interpreter cannot make the environment."""
    if sys.version_info[:2] < OLDEST:
        return (
            "Python {0}.{1} or newer is needed, but {2} is Python {3}; install a newer one, or "
            "name it: make setup PYTHON=/path/to/python3.12".format(
                OLDEST[0], OLDEST[1], sys.executable, platform.python_version()
            )
        )
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            return (
                "{0} has no '{1}' module, which makes virtual environments; install it (on Debian "
                "and Ubuntu: apt install python3-venv), or name another Python: "
                "make setup PYTHON=/path/to/python3.12".format(sys.executable, module)
            )
    return None


def find_python(path=None):
    """The first Python on PATH that can make the environment, or None."""
    probe = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < {0})".format(OLDEST)
    folders = (os.environ.get("PATH", "") if path is None else path).split(os.pathsep)
    for command in COMMANDS:
        for folder in folders:
            candidate = os.path.join(folder, command)
            # Running it is the only sure test: a version manager's shim exists and yet fails.
            if os.access(candidate, os.X_OK) and succeeds([candidate, "-c", probe]):
                return candidate
    return None


def succeeds(command):
    """Whether ``command`` starts and exits with 0; its output is thrown away."""
    with open(os.devnull, "w") as nowhere:
        try:
            return subprocess.call(command, stdout=nowhere, stderr=nowhere) == 0
        except OSError:
            return False


# --- where it goes ---------------------------------------------------------------------------


def check_folder(root):
    """Raise SetupError unless files can be created in ``root``."""
    trial = os.path.join(root, ".memnb-write-test")
    try:
        with open(trial, "w"):
            pass
        os.remove(trial)
    except (IOError, OSError) as error:
        raise SetupError(
            "the environment is made in {0}, which cannot be written to ({1}); "
            "copy the folder to a place of your own.".format(root, error.strerror)
        )


def free_gb(folder):
    """Free space in ``folder`` for this user, in GB."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / 1e9


def check_space(root, needed):
    """Raise SetupError unless ``needed`` GB are free in ``root``."""
    free = free_gb(root)
    if free < needed:
        raise SetupError(
            "the environment needs {0:.1f} GB of disk, but only {1:.1f} GB are free in {2}; "
            "free some space there, or move the folder to another disk.".format(needed, free, root)
        )


def disk_full(root):
    """The sentence for a disk that filled up on the way."""
    return (
        "the disk filled up while installing ({0:.1f} GB are free in {1}); the environment takes "
        "2 GB with a CPU build of torch and 7 GB with a CUDA build: free some space and run make "
        "again.".format(free_gb(root), root)
    )


class Environment(object):
    """``<root>/.venv``. Two marks tell how far an earlier setup came.

    ``.memnb-installing`` stands in it while packages are being installed: found at the start, the
    setup was killed half-way, and half-installed packages are nothing to build on.
    ``.memnb-installed`` is the stamp that make compares with the lock.
    """

    def __init__(self, root):
        self.root = root
        self.folder = os.path.join(root, ".venv")
        self.python = os.path.join(self.folder, "bin", "python")
        self.installing = os.path.join(self.folder, ".memnb-installing")
        self.installed = os.path.join(self.folder, ".memnb-installed")
        self.log = os.path.join(self.folder, "install.log")

    def complete(self):
        """Whether an earlier setup came to its end and its interpreter still runs."""
        probe = "import sys, pip; sys.exit(sys.version_info[:2] < {0})".format(OLDEST)
        return not os.path.exists(self.installing) and succeeds([self.python, "-c", probe])

    def create(self):
        """Make the environment, from nothing unless a complete one is there."""
        if self.complete():
            return
        made_by_venv = os.path.exists(os.path.join(self.folder, "pyvenv.cfg"))
        if not made_by_venv and any(files for _, _, files in os.walk(self.folder)):
            raise SetupError(
                "{0} is in the way: it is not a virtual environment; move it.".format(self.folder)
            )
        say("Making {0} with Python {1} ...".format(self.folder, platform.python_version()))
        process = subprocess.Popen(
            [sys.executable, "-m", "venv", "--clear", self.folder],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip
        output = process.communicate()[0]
        if process.returncode:
            raise SetupError(self.explain(output))

    def install(self):
        """Install the locked packages, then memnb itself in editable form; leave the stamp."""
        with open(self.installing, "w"):
            pass
        say("Installing the packages of requirements.lock (some minutes the first time) ...")
        with open(self.log, "w") as log:
            self.pip(log, "--no-compile", "-r", "requirements.lock")
            self.compile(log)
            # Everything it needs is in the lock, and so is what builds it: no network from here.
            self.pip(log, "--no-deps", "--no-build-isolation", "-e", ".")
        os.remove(self.installing)
        with open(self.installed, "w"):
            pass
        say("Ready.")

    def pip(self, log, *arguments):
        """Run ``pip install``; everything goes to the log, large downloads to the screen."""
        command = [self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        process = subprocess.Popen(
            command + list(arguments), cwd=self.root,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        )  # fmt: skip
        output = []
        for line in process.stdout:
            log.write(line)
            output.append(line)
            if line.lstrip().startswith("Downloading") and " MB)" in line:
                say("  " + line.strip())
        process.stdout.close()
        if process.wait():
            raise SetupError(self.explain("".join(output)))

    def compile(self, log):
        """Compile the packages on all cores, where pip takes one; their own tests are left out.

        What does not compile is never imported (templates, other Pythons' syntax): that is no
        failure, and Python compiles what it misses.
        """
        folder = subprocess.check_output(
            [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            universal_newlines=True,
        ).strip()
        command = [self.python, "-m", "compileall", "-q", "-j", "0", "-x", r"[\\/]tests?[\\/]"]
        subprocess.call(command + [folder], stdout=log, stderr=subprocess.STDOUT)

    def explain(self, output):
        """The sentence for a failed command, from what it printed."""
        if "No space left on device" in output or "Errno 28" in output:
            return disk_full(self.root)
        if any(mark in output for mark in NETWORK_TROUBLE):
            return (
                "the package index could not be reached; look at the network and at pip's "
                "settings (pip config list), then run make again."
            )
        if "No matching distribution found for" in output:
            package = output.split("No matching distribution found for")[1].split()[0]
            return (
                "pip finds no {0} for Python {1} on {2} {3}; try another Python "
                "(make setup PYTHON=/path/to/python3.12), or use conda: "
                "conda env create -f environment.yml".format(
                    package, platform.python_version(), platform.system(), platform.machine()
                )
            )
        last = [line.strip() for line in output.splitlines() if line.strip()][-1:]
        return "the installation failed: {0} (all of it: {1})".format(
            " ".join(last) or "no output", self.log
        )


def say(text):
    """Print one line at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
