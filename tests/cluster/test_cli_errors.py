"""What the user sees when a stage cannot go on: exit code, a message that names the cause, nothing half-done."""

import subprocess
import sys
from pathlib import Path


def _lgsid(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lgsid_ray.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def _catalogue(out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    small = ("ray.address=local", "ray.cpus=1", "ray.object_store_mb=100", *overrides)
    return _lgsid("catalogue", "--out", str(out), *(word for pair in small for word in ("--set", pair)))


def test_a_missing_catalogue_exits_3_and_is_named(tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(f"catalogue: {{source: {{kind: files, items: {{path: {tmp_path}/nowhere.csv}}}}}}\n")
    done = _lgsid("catalogue", "--config", str(config), "--out", str(tmp_path / "run"))
    assert done.returncode == 3
    assert f"{tmp_path}/nowhere.csv: no such file" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list((tmp_path / "run").rglob("manifest.json"))


def test_a_finished_stage_is_skipped_and_a_corrupt_manifest_exits_5(tmp_path: Path) -> None:
    small = ("catalogue.source.items=50", "catalogue.source.users=0", "catalogue.source.towns=3")
    first = _catalogue(tmp_path, *small)
    assert first.returncode == 0, first.stderr
    assert "skipped" in _catalogue(tmp_path, *small).stdout
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest.write_text(manifest.read_text()[:100])
    done = _catalogue(tmp_path, *small)
    assert done.returncode == 5
    assert str(manifest) in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
