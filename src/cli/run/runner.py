# chv's runner: runs commands for the host, in the guest. It speaks on four named ports of a console device:
# org.chv.run carries lines, org.chv.stdin, .stdout and .stderr the command's bytes and nothing else.
#
#   guest: hello 1              it is there (after each boot)
#   guest: ready                the boot is over: cloud-init has done its work
#   host:  {"argv": …}          the command, one line of JSON; with "more": true another may follow it
#   guest: started PID
#   host:  signal N             for the command's process group
#   guest: exited STATUS OUT ERR, or killed SIGNAL OUT ERR; OUT and ERR: bytes put out
#   host:  poweroff
#
# The end of the command's input is the end of org.chv.stdin. With "more" it is told, for this port stays open:
#
#   host:  input N              the command's input is N bytes; always said, after "exited" at the latest
#   guest: ready                the input has come, and what the command did not read is dropped: the next one
#
# Python 3.5 is enough.
import array
import fcntl
import json
import os
import pwd
import queue
import select
import signal
import subprocess
import sys
import termios
import threading
import time

BOOT_OVER = "/run/cloud-init/result.json"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORTS = "/sys/class/virtio-ports"
PIECE = 32768
# of a command that has ended no more than that is in its pipe (fs.pipe-max-size)
PIPE_MOST = 1 << 20


def find_port(name):
    """The device of a port; waits until the driver has made it."""
    folder = os.environ.get("CHV_RUN_PORTS")
    if folder:
        return os.path.join(folder, name)
    for turn in range(600):
        for port in os.listdir(PORTS) if os.path.isdir(PORTS) else []:
            try:
                with open(os.path.join(PORTS, port, "name")) as file:
                    found = file.read().strip() == name
            except OSError:
                continue
            if found and os.path.exists("/dev/" + port):
                return "/dev/" + port
        if turn == 20:
            subprocess.call(["modprobe", "virtio_console"], stderr=subprocess.DEVNULL)
        time.sleep(0.1)
    sys.exit("no port " + name)


def open_port(name, flags):
    return os.open(find_port("org.chv." + name), flags)


def encode(text):
    return text.encode("utf-8", "surrogateescape")


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:PIECE]) :]


class Pump(threading.Thread):
    """Moves bytes from one descriptor to another until the first ends or the second takes no more."""

    def __init__(self, source, target, ended=None, is_port=False, keeps=None):
        super().__init__(daemon=True)
        self.source, self.target, self.ended, self.is_port = source, target, ended, is_port
        # while somebody still writes into it: a pipe that is closed has a number that the next command's may get
        self.keeps = keeps
        self.total = 0
        self.idle = False
        self.dropped = False
        self.moving = threading.Lock()
        self.start()

    def read(self):
        if not self.is_port:
            select.select([self.source], [], [])
            self.idle = False
            return os.read(self.source, 2 * PIECE)
        # a port reads as ended until its driver has heard of the other side
        for turn in range(5):
            data = os.read(self.source, 2 * PIECE)
            if data:
                return data
            time.sleep(0.01)
        return b""

    def run(self):
        try:
            while True:
                self.idle = True
                data = self.read()
                if not data:
                    break
                with self.moving:
                    if not self.dropped:
                        write_all(self.target, data)
                        self.total += len(data)
        except OSError:
            pass
        finally:
            self.idle = True
            if self.ended:
                self.ended()

    def waiting(self):
        count = array.array("i", [0])
        fcntl.ioctl(self.source, termios.FIONREAD, count)
        return count[0]

    def drain(self):
        """What was put out has gone. Whoever inherited the pipe and lives on is not waited for, and heard no more."""
        quiet = 0
        most = self.total + PIPE_MOST
        while self.is_alive() and quiet < 3 and self.total < most:
            self.join(0.01)
            # in this order: it is not idle from before a read takes bytes until they have been moved
            quiet = quiet + 1 if self.waiting() == 0 and self.idle else 0
        with self.moving:
            self.dropped = True


class Input(threading.Thread):
    """Hands the host's bytes to one command after the other; where each one's input ends is told apart."""

    def __init__(self, source):
        super().__init__(daemon=True)
        self.source = source
        self.changed = threading.Condition()
        self.begin()
        self.start()

    def begin(self):
        """What comes from now on is the next command's, which may start later than it comes."""
        with self.changed:
            self.target, self.dropped, self.count, self.end = None, False, 0, None

    def attach(self, target):
        os.set_blocking(target.fileno(), False)
        with self.changed:
            self.target = target
            self.look()
            self.changed.notify_all()

    def ends_at(self, count):
        with self.changed:
            self.end = count
            self.look()

    def finish(self):
        """The command has ended: what it did not read is dropped, when it has come."""
        with self.changed:
            self.drop()
            while self.end is None or self.count < self.end:
                self.changed.wait()
            self.begin()

    def look(self):
        if self.target and self.end is not None and self.count >= self.end:
            self.drop()
        self.changed.notify_all()

    def drop(self):
        if self.target:
            self.target.close()
        self.target, self.dropped = None, True
        self.changed.notify_all()

    def run(self):
        while True:
            data = os.read(self.source, 2 * PIECE)
            if not data:
                time.sleep(0.05)
                continue
            view = memoryview(data)
            while view:
                view = view[self.hand_on(view) :]
            with self.changed:
                self.count += len(data)
                self.look()

    def hand_on(self, view):
        with self.changed:
            while not self.target and not self.dropped:
                self.changed.wait()
            if self.dropped:
                return len(view)
            fd = self.target.fileno()
            try:
                return os.write(fd, view[:PIECE])
            except BlockingIOError:
                pass
            except OSError:
                self.drop()
                return len(view)
        try:
            select.select([], [fd], [], 0.05)
        except OSError:
            pass
        return 0


class Runner:
    def __init__(self):
        self.control = open_port("run", os.O_RDWR)
        self.process = None
        self.input = None
        self.jobs = queue.Queue()
        self.say("\nhello 1")

    def say(self, line):
        write_all(self.control, (line + "\n").encode())

    def read_lines(self):
        rest = b""
        while True:
            data = os.read(self.control, 4096)
            if not data:
                time.sleep(0.05)
                continue
            rest += data
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                yield line.decode("utf-8", "surrogateescape")

    def wait_for_boot(self):
        over = os.environ.get("CHV_RUN_BOOT_OVER", BOOT_OVER)
        while not os.path.exists(over):
            time.sleep(0.05)

    def run(self):
        self.wait_for_boot()
        threading.Thread(target=self.listen, daemon=True).start()
        self.say("ready")
        out = err = None
        while True:
            job = self.jobs.get()
            if job is None:
                break
            if out is None:
                out = open_port("stdout", os.O_WRONLY)
                err = open_port("stderr", os.O_WRONLY)
            end = self.serve(job, out, err)
            if job.get("sync"):
                os.sync()
            self.process = None
            self.say(end)
            if job.get("more"):
                self.input.finish()
                self.say("ready")
        self.end_machine()

    def serve(self, job, out, err):
        """Runs a command to its end, and gives the line that says how it ended."""
        problem = self.start(job)
        if problem:
            status, text = problem
            data = encode("chv run: " + text + "\n")
            write_all(err, data)
            return "exited %d 0 %d" % (status, len(data))
        process = self.process
        self.say("started %d" % process.pid)
        if job.get("more"):
            self.input.attach(process.stdin)
        else:
            source = open_port("stdin", os.O_RDONLY)
            Pump(source, process.stdin.fileno(), process.stdin.close, is_port=True)
        pumps = [
            Pump(process.stdout.fileno(), out, keeps=process.stdout),
            Pump(process.stderr.fileno(), err, keeps=process.stderr),
        ]
        status = process.wait()
        for pump in pumps:
            pump.drain()
        word, number = ("killed", -status) if status < 0 else ("exited", status)
        return "%s %d %d %d" % (word, number, pumps[0].total, pumps[1].total)

    def start(self, job):
        """Starts the command; (status, text) when it cannot be."""
        argv = [encode(word) for word in job["argv"]]
        try:
            user = pwd.getpwnam(job.get("user") or "root")
        except KeyError:
            return 125, "--user %s: there is no such user" % job["user"]
        env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": user.pw_dir, "SHELL": user.pw_shell}
        env.update(USER=user.pw_name, LOGNAME=user.pw_name)
        env.update(job.get("env") or {})
        env = {encode(name): encode(value) for name, value in env.items()}
        cwd = job.get("workdir") or (user.pw_dir if os.path.isdir(user.pw_dir) else "/")
        if not os.path.isdir(cwd):
            return 125, "--workdir %s: there is no such folder" % cwd

        def become():
            if os.getuid() == 0 and user.pw_uid != 0:
                os.initgroups(user.pw_name, user.pw_gid)
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)

        pipe = subprocess.PIPE
        options = dict(bufsize=0, cwd=encode(cwd), env=env, start_new_session=True, preexec_fn=become)
        try:
            self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, **options)
        except FileNotFoundError:
            return 127, job["argv"][0] + ": not found"
        except OSError as error:
            return 126, job["argv"][0] + ": " + os.strerror(error.errno)
        return None

    def listen(self):
        for line in self.read_lines():
            words = line.split()
            number = int(words[1]) if len(words) == 2 and words[1].isdigit() else -1
            process = self.process
            if line.startswith("{"):
                self.take(json.loads(line))
            elif words == ["poweroff"]:
                self.jobs.put(None)
            elif number >= 0 and words[0] == "input" and self.input:
                self.input.ends_at(number)
            elif number > 0 and words[0] == "signal" and process:
                try:
                    os.killpg(process.pid, number)
                except OSError:
                    pass

    def take(self, job):
        if job.get("more"):
            self.input = self.input or Input(open_port("stdin", os.O_RDONLY))
        self.jobs.put(job)

    def end_machine(self):
        for command in (["systemctl", "poweroff"], ["poweroff"], ["poweroff", "-f"]):
            try:
                if subprocess.call(command, stderr=subprocess.DEVNULL) == 0:
                    return
            except OSError:
                pass


signal.signal(signal.SIGHUP, signal.SIG_IGN)
Runner().run()
