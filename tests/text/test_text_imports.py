from __future__ import annotations

import pkgutil
import subprocess
import sys

import lightwell.corpus
import lightwell.text
import lightwell.tokens


def test_text_tokens_and_corpus_never_imports_torch_nor_pyarrow_at_import_time() -> None:
    modules = [
        module.name
        for package in (lightwell.text, lightwell.tokens, lightwell.corpus)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    assert "lightwell.corpus.corpus" in modules
    program = f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'pyarrow', 'zstandard'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
