"""A groundtrack under test, and its log."""

import json
import os
import pathlib
import re
import subprocess
import time

MESSAGE = re.compile(r'"msg":"([^"]*)"')

# A debug build on a busy machine; what takes longer is stuck.
WITHIN_S = 120


class Failed(Exception):
    """Something that must hold does not."""


class Process:
    """A groundtrack that runs, and its log."""

    def __init__(self, program, config, *arguments, log, faults=None):
        self.log = pathlib.Path(log)
        self.lines, self.rest, self.read_to = [], b"", 0
        environment = dict(os.environ)
        if faults:
            environment["GROUNDTRACK_FAULTS"] = faults
        with open(self.log, "wb") as output:
            command = [program, "run", "--config", config, *arguments]
            self.process = subprocess.Popen(command, stderr=output, env=environment)

    def look(self):
        """Reads what was logged since the last look."""
        with open(self.log, "rb") as log:
            log.seek(self.read_to)
            new = log.read()
        self.read_to += len(new)
        *whole, self.rest = (self.rest + new).split(b"\n")
        for line in whole:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"level": "TEXT", "msg": line.decode(errors="replace")})

    def count(self, message):
        self.look()
        return sum(line["msg"] == message for line in self.lines)

    def said(self, since=0, levels=("WARN", "ERRO", "CRIT")):
        """Its warnings, each message once with how often."""
        self.look()
        counts = {}
        for line in self.lines[since:]:
            if line["level"] in levels:
                about = line.get("error") or line.get("place") or ""
                text = f"{line['level']} {line['msg']}"
                counts.setdefault(text, [0, about])[0] += 1
        return [f"{text} ({number}) {about}" for text, (number, about) in counts.items()]

    def wait_for(self, what, condition, within_s=WITHIN_S):
        deadline = time.monotonic() + within_s
        while not condition():
            if self.process.poll() is not None and not condition():
                raise Failed(f"it ended with {self.process.returncode}, before {what}{self.tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"not within {within_s} s: {what}{self.tail()}")
            time.sleep(0.01)

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "".join(f"\n    | {line[:400]}" for line in lines)

    def last_words(self, number=3):
        """The last messages of its log, without reading all of it."""
        with open(self.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        found = [MESSAGE.search(line) for line in lines]
        return [match[1] for match in found if match][-number:]

    def end(self, how=None, within_s=WITHIN_S):
        """Its exit code, after a signal or by itself."""
        if how is not None:
            self.process.send_signal(how)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"it does not end{self.tail()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
