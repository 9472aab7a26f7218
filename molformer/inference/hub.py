"""Models on the Hugging Face hub: weights in safetensors, JSON and the model card; nothing else is fetched.

`huggingface_hub` is the extra `molformer[hub]`, imported when a function here is called.
"""

import os
from pathlib import Path
from typing import Any

from molformer.errors import ModelError, extra

FILES = ("config.json", "model.safetensors", "reference.safetensors", "README.md")  # none needs unpickling


def download(repo_id: str, revision: str | None = None, token: str | None = None, **options: Any) -> Path:
    """The local copy of a model on the hub; fetched once, with options of `huggingface_hub.snapshot_download`.

    Raises:
        ModelError: there is no such model, or it cannot be reached.
        ConfigError: huggingface_hub is not installed.
    """
    with extra("hub", f"there is no folder '{repo_id}'; to look for it on the Hugging Face hub"):
        import huggingface_hub as hub

    patterns = [*FILES, *(f"member-*/{name}" for name in FILES)]
    try:
        folder = hub.snapshot_download(repo_id, revision=revision, token=token, allow_patterns=patterns, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"there is no folder '{repo_id}', and no such model on the hub: {reason}") from None
    return Path(folder)


def upload(
    folder: str | os.PathLike[str],
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Model",
) -> str:
    """Put a model folder on the hub, see `Predictor.push_to_hub`; returns the address of the commit.

    Raises:
        ModelError: the hub cannot be reached or refuses.
        ConfigError: huggingface_hub is not installed.
    """
    with extra("hub", "to put a model on the Hugging Face hub"):
        import huggingface_hub as hub

    api = hub.HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=os.fspath(folder), commit_message=message))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot put the model on the hub as '{repo_id}': {str(error).splitlines()[0]}") from None
