# Loaded by every Python that pip starts (as `sitecustomize`). Before pip keeps a source distribution it asks the
# package's own build backend for the metadata, which runs code of the package and of what it is built with. Here it
# is answered by a stand-in instead: the metadata of a source distribution is in its PKG-INFO already.
# The variables and the hook are those of PEP 517 as pip has them.
import importlib.machinery
import importlib.util
import os
import sys
import types


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as source:
        text = source.read()
    header = dict(line.split(": ", 1) for line in text.split("\n\n")[0].splitlines() if line[:1].strip() and ": " in line)
    name = "%s-%s.dist-info" % (header["Name"].replace("-", "_"), header["Version"])
    os.mkdir(os.path.join(metadata_directory, name))
    with open(os.path.join(metadata_directory, name, "METADATA"), "w", encoding="utf-8") as target:
        target.write(text)
    return name


def refuse(*args, **kwargs):
    raise RuntimeError("nothing is built here")


backend = os.environ.get("_PYPROJECT_HOOKS_BUILD_BACKEND") or os.environ.get("PEP517_BUILD_BACKEND")
if backend:
    path, _, attributes = backend.partition(":")
    in_tree = os.environ.get("_PYPROJECT_HOOKS_BACKEND_PATH") or os.environ.get("PEP517_BACKEND_PATH") or os.curdir
    parts = path.split(".")
    for end in range(1, len(parts) + 1):
        module = types.ModuleType(".".join(parts[:end]))
        module.__path__ = []
        # A backend that lies in the package must come from there.
        module.__file__ = os.path.join(in_tree.split(os.pathsep)[0], "stand-in.py")
        sys.modules[module.__name__] = module
    for attribute in [name for name in attributes.split(".") if name]:
        setattr(module, attribute, module)
    module.prepare_metadata_for_build_wheel = prepare_metadata_for_build_wheel
    module.build_wheel = module.build_sdist = refuse
else:
    # The one that this file hides, where a system has one.
    here = os.path.dirname(os.path.abspath(__file__))
    others = [entry for entry in sys.path if os.path.abspath(entry) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec and spec.loader:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
