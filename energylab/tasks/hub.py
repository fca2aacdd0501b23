"""Access to the hub: resolve names to commits, download files, and explain failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from energylab.errors import EnergylabError

RepoType = Literal["model", "dataset"]

#: Small files nearly every repository has: one is fetched while a revision is resolved.
_LANDMARKS = {"model": ["config.json", "model_index.json"], "dataset": ["README.md"]}

#: What the hub's errors mean, by the name of their class.
_MEANINGS = {
    "GatedRepoError": "is gated: accept its terms on its page at the hub, then run `hf auth login` (or set HF_TOKEN) "
    "with an account that was granted access",
    "RepositoryNotFoundError": "is not on the hub, or is private: check the spelling; for a private one run "
    "`hf auth login` first",
    "RevisionNotFoundError": "has no revision {revision!r}: give a branch, a tag or a full commit",
    "HFValidationError": "is not a hub id (organisation/name): {first}",
}
_OTHERWISE = (
    "could not be fetched from the hub ({name}: {first}); check the network and run again (downloaded files are kept), "
    "or use model_source=random and data_source=sample, which need no network"
)


def resolve_commit(repo: str, revision: str | None, kind: RepoType, error: type[EnergylabError]) -> str:
    """Return the current commit of a branch, a tag or None (the main branch).

    A branch can move between two downloads; a session that resolves it once and loads by commit cannot mix two states
    of a repository. Without a network, the commit is taken from the local cache.
    """
    return snapshot(repo, revision, kind, _LANDMARKS[kind], error).name


def snapshot(
    repo: str, commit: str | None, kind: RepoType, patterns: Sequence[str], error: type[EnergylabError],
    into: Path | None = None,
) -> Path:  # fmt: skip
    """Download the files of one commit that match `patterns`, and return their folder.

    Downloaded files are kept, so an interrupted download continues where it stopped. They are stored in the hub's
    cache, or in the folder `into`, which other runs do not use.
    """
    from huggingface_hub import snapshot_download

    with explained(repo, commit, kind, error):
        return Path(
            snapshot_download(repo, revision=commit, repo_type=kind, allow_patterns=list(patterns), local_dir=into)
        )


@contextmanager
def explained(repo: str, revision: str | None, kind: RepoType, error: type[EnergylabError]) -> Iterator[None]:
    """Turn every failure of the hub inside the block into an `error` that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # the base of all errors of the HTTP library under the client, which differs by the client's version
    network = next(base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except (HFValidationError, network, LocalEntryNotFoundError, ConnectionError, TimeoutError) as problem:
        names = [base.__name__ for base in type(problem).__mro__]
        meaning = next((_MEANINGS[name] for name in names if name in _MEANINGS), _OTHERWISE)
        first = next((line for line in str(problem).splitlines() if line.strip()), "no reason given")[:200]
        reason = meaning.format(revision=revision, name=names[0], first=first)
        raise error(f"{kind} {repo!r} {reason}") from problem


def check_access(repo: str, kind: RepoType) -> None:
    """Raise the hub's own error if this user may not read a repository (see `explained`)."""
    from huggingface_hub import HfApi

    HfApi().auth_check(repo, repo_type=kind)
