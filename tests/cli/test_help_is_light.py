"""What `lgsid --help` and a plain import of the package must not bring in: seconds of loading for a page of text."""

import json
import subprocess
import sys

HEAVY = {"faiss", "numpy", "pandas", "peft", "plotly", "pyarrow", "ray", "scipy", "sklearn", "torch", "transformers"}

PROBE = """
import json, sys
from lgsid_ray.cli import main
sys.argv = ["lgsid", *{arguments!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(name for name in sys.modules if "." not in name)), file=sys.stderr)
"""


def test_help_loads_no_numerics() -> None:
    assert _loaded(PROBE.format(arguments=["--help"])) & HEAVY == set()


def test_help_of_a_stage_loads_no_numerics() -> None:
    assert _loaded(PROBE.format(arguments=["tokenise", "--help"])) & HEAVY == set()


def test_importing_the_package_loads_no_numerics() -> None:
    probe = "import json, sys, lgsid_ray\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    assert _loaded(probe) & HEAVY == set()


def _loaded(program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `program`, which prints them to stderr last."""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(ended.stderr.splitlines()[-1]))
