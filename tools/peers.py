"""The programs that Ingle is measured beside: where each comes from, pinned, and how it is made
ready. Everything is installed by name, into folders under target/, once. A library for the scripts
here, of the standard library alone.
"""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "bench-peer"
# Pinned, so that figures of two days compare.
PACKAGES = {
    "llama_cpp": "llama-cpp-python==0.3.36",
    "openvino_genai": "openvino-genai==2026.4.1.0",
    "mistralrs": "mistralrs==0.9.5",
}
NATIVE = ["-DGGML_NATIVE=on", "-DCMAKE_BUILD_TYPE=Release"]


def fail(message):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {message}")


def run(*command, **options):
    """Runs a command, its words on standard error; whether it succeeded."""
    return subprocess.run(list(map(str, command)), stdout=sys.stderr, **options).returncode == 0


def ingle(given=None):
    """The ingle binary; built where none is named."""
    if given:
        return pathlib.Path(given)
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True, stdout=sys.stderr)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "ingle"


def python(module, given=None):
    """An interpreter that can import the module; made under target/ where none is named."""
    package = PACKAGES[module]
    found = pathlib.Path(given) if given else HOME / module / "bin" / "python"

    def ready():
        probe = [str(found), "-c", f"import {module}"]
        return found.exists() and subprocess.run(probe, capture_output=True).returncode == 0

    if ready():
        return found
    if given:
        fail(f"{found} cannot import {module}: install {package} there")
    print(f"installing {package} under {HOME} (once)", file=sys.stderr)
    run(sys.executable, "-m", "venv", HOME / module, check=True)
    # llama.cpp is compiled for this machine's own processor; the others come compiled.
    environment = os.environ | {"CMAKE_ARGS": " ".join(NATIVE)}
    source = ["--no-binary", "llama-cpp-python"] if module == "llama_cpp" else []
    install = [found, "-m", "pip", "install", "--quiet", *source, package]
    if not run(*install, env=environment) or not ready():
        fail(f"could not install {package} (pip's words are above)")
    return found


def llama_server(given=None):
    """llama.cpp's server, built from the sources that the pinned Python package carries."""
    if given:
        return pathlib.Path(given)
    home = HOME / "llama-server"
    binary = home / "build" / "bin" / "llama-server"
    if binary.is_file():
        return binary
    print(f"building llama-server under {home} (minutes, once)", file=sys.stderr)
    home.mkdir(parents=True, exist_ok=True)
    package = PACKAGES["llama_cpp"]
    venv = home / "venv" / "bin"
    pip = [venv / "python", "-m", "pip"]
    run(sys.executable, "-m", "venv", home / "venv", check=True)
    run(*pip, "install", "--quiet", "cmake", "ninja", check=True)
    fetch = ["download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python", "-d", home]
    run(*pip, *fetch, package, check=True)
    archive = next(home.glob("llama_cpp_python-*.tar.gz"))
    run("tar", "-xzf", archive, "-C", home, "--strip-components=1", check=True)
    off = ["CURL", "OPENSSL", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_UI", "USE_PREBUILT_UI"]
    options = [*NATIVE, *(f"-DLLAMA_{name}=OFF" for name in off)]
    build = ["-B", home / "build", "-S", home / "vendor" / "llama.cpp", "-G", "Ninja"]
    ninja = f"-DCMAKE_MAKE_PROGRAM={venv / 'ninja'}"
    made = run(venv / "cmake", *build, ninja, *options)
    if not made or not run(venv / "ninja", "-C", home / "build", "llama-server"):
        fail("could not build llama-server; a C++ compiler is needed (its words are above)")
    return binary


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine():
    cpu = platform.processor() or platform.machine()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):
        pass
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system()}


def report(name, command):
    """The JSON object that a measuring process prints on its last line (or as a whole)."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"{name} failed ({done.returncode}):\n{done.stderr.strip()[-4000:]}")
    for text in (done.stdout, done.stdout.strip().rpartition("\n")[2]):
        try:
            return json.loads(text)
        except ValueError:
            continue
    fail(f"{name} printed no report that can be read:\n{done.stdout[:2000]}")
