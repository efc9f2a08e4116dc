"""Runs geoseg in its own environment, passes its progress on and can stop it."""

import json
import os
import re
import signal
import subprocess
import threading
import time

FOLDER = os.path.dirname(__file__)
PERCENT = re.compile(r"(\d+) %")
STEP = re.compile(r"step (\d+)/(\d+)")
PATIENCE_S = 15


class CommandFailed(Exception):  # noqa: N818
    """geoseg ended with an error; the text is its last line."""


def command():
    """How geoseg is called: GEOSEG_COMMAND, what 'geoseg qgis install' wrote, or 'geoseg'."""
    if os.environ.get("GEOSEG_COMMAND"):
        return [os.environ["GEOSEG_COMMAND"]]
    path = os.path.join(FOLDER, "command.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    return ["geoseg"]


def environment():
    """Without what QGIS sets for its own Python and libraries."""
    unwanted = (
        "PYTHONHOME",
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "GDAL_DATA",
        "PROJ_LIB",
        "PROJ_DATA",
        "GDAL_DRIVER_PATH",
        "PYTHONSTARTUP",
    )
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def run(arguments, feedback):
    """What geoseg printed; raises CommandFailed. A cancelled run is ended and returns ''."""
    try:
        process = subprocess.Popen(
            [*command(), *arguments],
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise CommandFailed(
            f"geoseg can't be started ({error}): run 'geoseg qgis install' in its environment"
        ) from error
    printed, said = [], []

    def listen(stream, lines):
        lines.extend(iter(stream.readline, ""))

    threads = [
        threading.Thread(target=listen, args=pair)
        for pair in ((process.stdout, printed), (process.stderr, said))
    ]
    for thread in threads:
        thread.start()
    told = 0
    while True:
        ended = process.poll() is not None
        if ended:
            for thread in threads:
                thread.join()
        for line in said[told:]:
            told += 1
            tell(line.rstrip(), feedback)
        if ended:
            break
        if feedback.isCanceled():
            stop(process)
            continue
        time.sleep(0.1)
    process.stdout.close()
    process.stderr.close()
    text = "".join(printed)
    if feedback.isCanceled():
        feedback.pushInfo("geoseg was stopped; no output was written.")
        return ""
    for line in text.splitlines():
        feedback.pushConsoleInfo(line)
    if process.returncode:
        last = [line.strip() for line in said if line.strip()] or [
            f"exit code {process.returncode}"
        ]
        raise CommandFailed(last[-1])
    return text


def tell(line, feedback):
    """A line of progress, or of the log."""
    found, step = PERCENT.search(line), STEP.search(line)
    if step:
        feedback.setProgress(100 * int(step.group(1)) / max(int(step.group(2)), 1))
    elif found:
        feedback.setProgress(min(int(found.group(1)), 100))
    feedback.pushInfo(line)


def stop(process):
    """End it in peace: it finishes its tile and removes its files; else end it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
