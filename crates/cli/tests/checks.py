"""What the checks of real clients share: a server's address, its metrics, and how they are run.

Each function of a script whose name begins with `check_` is one check; all run, and the exit code
tells whether all passed. A script is started with the server's address and a key.
"""

import sys
import time
import traceback
import urllib.request

URL, KEY = sys.argv[1:3]

WEATHER_PARAMETERS = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 20},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    },
    "required": ["place", "unit"],
    "additionalProperties": False,
}


def metric(name):
    request = urllib.request.Request(f"{URL}/metrics", headers={"Authorization": f"Bearer {KEY}"})
    for line in urllib.request.urlopen(request, timeout=30).read().decode().splitlines():
        # A model's own carry its name as a label; one model is served here.
        if line.startswith((f"{name} ", f"{name}{{")):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name}")


def fails_with(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def idle():
    names = ["ingle_server_answers_in_flight", "ingle_engine_sequences_running"]
    names.append("ingle_engine_kv_blocks_used")
    end = time.monotonic() + 60
    while any(metric(name) for name in names):
        assert time.monotonic() < end, {name: metric(name) for name in names}
        time.sleep(0.01)


def run(checks):
    failed = 0
    for name, check in list(checks.items()):
        if name.startswith("check_"):
            try:
                check()
                print(f"ok      {name}")
            except Exception:
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}")
    sys.exit(1 if failed else 0)
