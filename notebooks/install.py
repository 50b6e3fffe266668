# On Colab and Kaggle this installs jaxsearch; anywhere else it does nothing.
import importlib.util, os, pathlib, subprocess, sys

is_hosted = {"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"} & set(os.environ)
source = ".." if pathlib.Path("../pyproject.toml").exists() else "jaxsearch"
if is_hosted and importlib.util.find_spec("jaxsearch") is None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", source, "matplotlib"]
    if subprocess.run(pip, stderr=subprocess.DEVNULL).returncode:
        sys.exit(
            f"could not install {source}: switch the notebook's internet on (Kaggle: "
            "Settings), or upload a wheel of jaxsearch and put its path into `source`"
        )
