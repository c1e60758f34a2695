"""What is in the wheel: the framework, with the files of its report, and no shelf."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_the_reports_files_and_nothing_of_the_shelves(tmp_path):
    words = ["-m", "pip", "wheel", "--quiet", "--no-deps", str(ROOT), "-w", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200)
    if done.returncode and "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("hatchling, which builds the wheel, cannot be downloaded here")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    template = ROOT / "rlkd" / "report" / "template"
    wanted = {path.relative_to(ROOT).as_posix() for path in template.iterdir()}
    assert len(wanted) > 5
    assert wanted <= set(names)
    assert {name.partition("/")[0] for name in names} == {"rlkd", f"{wheel.name[:10]}.dist-info"}
