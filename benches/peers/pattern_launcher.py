"""pattern-launcher: one YAML file per instance.  See README.md."""

import os
import signal
from pathlib import Path

from adapters.base import Adapter, first_line, instance_id

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


class PatternLauncher(Adapter):
    name = "pattern-launcher"
    notes = "development profile, one YAML file per instance, no health check; add = write aside and rename; stop = SIGTERM"

    @property
    def bin(self):
        return os.environ.get("PATTERN_LAUNCHER_BIN", str(TARGET / "release" / "pattern-launcher"))

    def version(self):
        return first_line([self.bin, "--version"])

    def prepare(self, n):
        self.n = n
        pattern = self.ctx.run_dir / "patterns" / "sleeper"
        pattern.mkdir(parents=True)
        # The tenant is the instance, so the sleeper's id arrives as its namespace.
        program, *arguments = self.ctx.argv("$(NAMESPACE)")
        quoted = ", ".join(f'"{argument}"' for argument in arguments)
        (pattern / "manifest.yaml").write_text(
            f"name: sleeper\nversion: 1.0.0\nexecutable: {program}\nargs: [{quoted}]\n"
        )
        self.desired = self.ctx.run_dir / "desired"
        self.desired.mkdir()
        for i in range(1, n + 1):
            self.declare(instance_id(i))

    def declare(self, iid):
        """Writes the file of an instance beside the folder and renames it in, as a careful program does."""
        aside = self.ctx.run_dir / f".{iid}"
        aside.write_text(f"pattern: sleeper\nnamespace: {iid}\n")
        aside.rename(self.desired / f"{iid}.yaml")

    def start(self, n):
        self.proc = self.spawn([
            self.bin, "run",
            "--profile", "development",
            "--patterns-dir", str(self.ctx.run_dir / "patterns"),
            "--desired-dir", str(self.desired),
            "--launch-dir", str(self.ctx.run_dir / "launched"),
            "--state-dir", str(self.ctx.run_dir / "state"),
            "--http-port", "off",
            "--grpc-port", "off",
        ])

    def add_one(self, iid):
        self.declare(iid)

    def stop(self):
        os.kill(self.proc.pid, signal.SIGTERM)
