# On Colab and Kaggle this installs jaxsearch; anywhere else it does nothing.
import importlib.util, os, pathlib, subprocess, sys

# The path of a wheel or a clone, or git+https://...; "" for one next to this notebook.
source = ""

is_hosted = {"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"} & set(os.environ)
spec = importlib.util.find_spec("jaxsearch")
if is_hosted and (spec is None or spec.origin is None):  # no origin: only a folder
    wheels = map(str, pathlib.Path().glob("jaxsearch-*.whl"))
    near = sorted(wheels, key=os.path.getmtime)[-1:]  # the last upload
    near += [p for p in ("jaxsearch", "..") if os.path.exists(f"{p}/jaxsearch/api")]
    source = source or next(iter(near), "")
    if "://" not in source and not os.path.exists(source):
        sys.exit(
            f"{source or 'jaxsearch'} is not here: upload a wheel next to this "
            "notebook (`pip wheel --no-deps .` in a clone makes one), or put the path "
            "or address of a wheel or a clone into `source`"
        )
    # pip would look up a name without slashes in a package index.
    source = source if "://" in source else os.path.abspath(source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", source, "matplotlib"]
    if subprocess.run(pip, stderr=subprocess.DEVNULL).returncode:
        sys.exit(
            f"could not install {source} and what it needs: switch the notebook's "
            "internet on (Kaggle: Settings)"
        )
