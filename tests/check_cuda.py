"""The feature `cuda` on a device that computes nothing (tests/fake_cuda): what the host's part does.

    tests/fake_cuda/build FOLDER && python3 tests/check_cuda.py FOLDER

Real are the program, candle's calls and the program's way through them; the device is a library
that counts launches and lets time pass behind the host's back. No speed that is printed here is
that of any hardware.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures" / "models"

# Launches of a step and of a prompt of 16 tokens, as in crates/cost/tests/launches.rs.
LAUNCHES = {
    "llama": (75, 102),
    "qwen2": (81, 113),
    "qwen3": (64, 77),
    "gemma3": (205, 241),
    "phi2": (87, 96),
    "phi3": (50, 91),
    "glm4": (96, 127),
    "lfm2": (89, 1052),
}


class Program:
    def __init__(self, folder):
        self.path = Path(folder).resolve() / "foretoken"
        self.libraries = Path(folder).resolve() / "lib"
        self.work = tempfile.TemporaryDirectory()

    def run(self, *arguments, code=0, **settings):
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(self.libraries),
            "FORETOKEN_HOME": self.work.name,
            **{f"FAKE_CUDA_{name.upper()}": str(value) for name, value in settings.items()},
        }
        done = subprocess.run(
            [self.path, *map(str, arguments)],
            env=environment, cwd=self.work.name, capture_output=True, text=True, check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stderr}"
        return done

    def json(self, *arguments, **settings):
        done = self.run(*arguments, "--format", "json", "--quiet", **settings)
        return json.loads(done.stdout)


def check_devices(program):
    rows = {row["device"]: row for row in program.json("devices", "--here", devices=2)}
    assert rows["cuda:1"]["usable"] and rows["cuda:1"]["name"] == "Fake GPU", rows
    assert rows["cuda:0"]["memory_bytes"] == 8 << 30, rows
    none = program.run("measure", "smollm2-135m", "--device", "cuda", code=2, devices=0)
    assert "the driver reports 0 devices" in none.stderr, none.stderr
    beyond = program.run("measure", "smollm2-135m", "--device", "cuda:3", code=2)
    assert "cuda:3" in beyond.stderr and "hint:" in beyond.stderr, beyond.stderr
    print("devices: found, counted, refused")


def check_memory(program):
    small = program.run(
        "measure", "smollm2-360m", "--quant", "F16", "--device", "cuda", code=2, memory=1500 << 20
    )
    assert "memory" in small.stderr and "Q4_K_M" in small.stderr, small.stderr
    print("memory:", small.stderr.splitlines()[0])


def check_launches(program):
    for name, (step, prompt) in LAUNCHES.items():
        log = Path(program.work.name) / f"{name}.log"
        program.json(
            "measure", FIXTURES / f"{name}.gguf", "--device", "cuda",
            "--prompt", 16, "--gen", 4, "--repeat", 1, log=log,
        )  # fmt: skip
        counted = Counter(int(line.split()[0]) for line in log.read_text().splitlines())
        assert counted[step] >= 3, f"{name}: no steps of {step} launches: {counted}"
        assert counted[prompt] >= 1, f"{name}: no prompt of {prompt} launches: {counted}"
        print(f"launches: {name}: {step} a step, {prompt} a prompt of 16 tokens")


def check_measure(program):
    (line,) = program.json(
        "measure", "smollm2-135m", "--device", "cuda", "--prompt", 64, "--gen", 8,
        "--depth", 128, "--repeat", 2,
    )  # fmt: skip
    assert line["device"] == "fake-gpu", line["device"]
    phases = line["phases"]
    assert phases["layers"] > phases["lm_head"] > 0, phases
    assert line["peak_device_bytes"] > 50e6 and line["first_pass_ms"] > 0, line
    print(f"measure: {line['peak_device_bytes'] / 1e6:.0f} MB at most on the device")


def check_peak_memory(program):
    """Bytes of tensors are counted truly here: the program's forecast against them."""
    for model, quant in [
        ("smollm2-135m", "Q4_K_M"),
        ("smollm2-360m", "Q8_0"),
        ("smollm2-360m", "F16"),
    ]:
        run = [model, "--quant", quant, "--prompt", 256, "--gen", 4]
        (line,) = program.json("measure", *run, "--device", "cuda", "--repeat", 1)
        forecast = program.json("predict", *run, "--calibration", "fake")["memory"]["peak_bytes"]
        error = forecast / line["peak_device_bytes"] - 1
        assert abs(error) < (0.06 if quant == "F16" else 0.02), (model, quant, error)
        megabytes = line["peak_device_bytes"] / 1e6
        print(f"memory: {model} {quant}: {megabytes:.0f} MB, predicted {error:+.1%}")


def check_profile(program):
    report = program.json("profile", "smollm2-135m", "--device", "cuda", "--prompt", 64, "--gen", 16)
    assert report["span_clock"] == "events", report["span_clock"]
    passes = sum(p["ms"] for p in report["phases"] if p["phase"] in ("prefill", "decode"))
    kernels = sum(k["ms"] for k in report["kernels"] if k["phase"] in ("prefill", "decode"))
    assert abs(kernels / passes - 1) < 0.02, (kernels, passes)
    print(f"profile: kernels are {kernels / passes:.1%} of the passes")


def check_calibrate(program):
    answer = program.json("calibrate", "--device", "cuda", "--budget", "30s", "--name", "fake")
    calibration = json.loads((Path(program.work.name) / answer["calibration"]["file"]).read_text())
    assert calibration["device"]["backend"] == "cuda" and calibration["device"]["host"]
    features = {f["feature"] for term in calibration["terms"] for f in term["features"]}
    assert "launches" in features and "calls" in features, features
    cases = [f"{case['phase']} {case['error']:+.0%}" for case in answer["proof"]["cases"]]
    print("calibrate: proof", ", ".join(cases), "(of a made-up device)")

    log = Path(program.work.name) / "steps.log"
    program.json(
        "measure", "smollm2-135m", "--device", "cuda", "--prompt", 16, "--gen", 4, "--repeat", 1,
        log=log,
    )  # fmt: skip
    counted = {int(line.split()[0]) for line in log.read_text().splitlines()}
    predicted = program.json("predict", "smollm2-135m", "--calibration", "fake")
    assert predicted["device"]["backend"] == "cuda"
    assert any(op["bound"] == "launch" for op in predicted["ops"]), predicted["ops"]
    launches = sum(
        term["value"]
        for op in predicted["ops"] if op["phase"] == "decode"
        for term in op["terms"] if term["feature"] == "launches"
    )  # fmt: skip
    assert launches in counted, (launches, counted)
    print(f"predict: {launches:.0f} launches a step, as counted")


def main():
    program = Program(sys.argv[1])
    for check in (
        check_devices,
        check_memory,
        check_launches,
        check_measure,
        check_profile,
        check_calibrate,
        check_peak_memory,
    ):
        check(program)


if __name__ == "__main__":
    main()
