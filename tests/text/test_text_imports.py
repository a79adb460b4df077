from __future__ import annotations

import pkgutil
import subprocess
import sys

import lightwell.text


def test_the_text_folder_never_imports_torch_nor_pyarrow_at_import_time() -> None:
    modules = [module.name for module in pkgutil.iter_modules(lightwell.text.__path__, "lightwell.text.")]
    assert "lightwell.text.prepare" in modules
    program = f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'pyarrow', 'zstandard'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
