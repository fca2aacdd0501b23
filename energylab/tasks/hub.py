"""The hub, as far as tasks need it: which commit a name means, its files, and what its failures mean in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from energylab.errors import EnergylabError

RepoType = Literal["model", "dataset"]


def resolve_commit(repo: str, revision: str | None, kind: RepoType, error: type[EnergylabError]) -> str:
    """Return the commit that `revision` means now, so that everything is loaded from one commit.

    A branch can move between two downloads; a session that resolves it once and loads by commit cannot mix two
    states of a repository, and its record stays true when the branch moves on. Without a network the commit last
    seen for that revision is taken from the local cache.

    Parameters
    ----------
    repo : str
        Hub id, ``organisation/name``.
    revision : str or None
        Branch, tag or commit; the main branch when None.
    kind : {"model", "dataset"}
        What the repository holds.
    error : type
        The error to raise, `ModelError` or `DataError`.

    Returns
    -------
    str
        Forty hexadecimal digits.

    Raises
    ------
    EnergylabError
        Of type `error`, if the repository or revision is missing, gated or not reachable.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    with explained(repo, revision, kind, error):
        try:
            return HfApi().repo_info(repo, revision=revision, repo_type=kind).sha
        except HfHubHTTPError:
            raise  # the hub answered: what it says counts, whatever the cache holds
        except (httpx.TransportError, OSError):
            cached = _cached_commit(repo, revision, kind)
            if cached is None:
                raise
            return cached


def snapshot(repo: str, commit: str, kind: RepoType, patterns: Sequence[str], error: type[EnergylabError]) -> Path:
    """Download the files of one commit that match `patterns`, and return the folder that holds them.

    Files that have arrived are kept, so a download that broke off goes on where it stopped.

    Raises
    ------
    EnergylabError
        Of type `error`, if the repository is missing, gated, or the download breaks off.
    """
    from huggingface_hub import snapshot_download

    with explained(repo, commit, kind, error):
        folder = snapshot_download(repo, revision=commit, repo_type=kind, allow_patterns=list(patterns))
    return Path(folder)


@contextmanager
def explained(repo: str, revision: str | None, kind: RepoType, error: type[EnergylabError]) -> Iterator[None]:
    """Turn every failure of the hub inside the block into one `error` that says what to do."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except HFValidationError as problem:
        raise error(f"{kind} {repo!r} is not a hub id (organisation/name): {problem}") from problem
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, ConnectionError, TimeoutError) as problem:
        raise error(_explain(problem, repo, revision, kind)) from problem


def _explain(problem: Exception, repo: str, revision: str | None, kind: RepoType) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(problem, GatedRepoError):
        return (
            f"{kind} {repo!r} is gated: accept its terms on its page at the hub, then run `hf auth login` "
            "(or set HF_TOKEN) with an account that was granted access"
        )
    if isinstance(problem, RepositoryNotFoundError):
        return (
            f"{kind} {repo!r} is not on the hub, or is private: check the spelling; for a private one run "
            "`hf auth login` first"
        )
    if isinstance(problem, RevisionNotFoundError):
        return f"{kind} {repo!r} has no revision {revision!r}: pass a branch, a tag or a full commit"
    return (
        f"{kind} {repo!r} could not be fetched from the hub ({type(problem).__name__}: {problem}); check the "
        "network and run again: what has already arrived is kept"
    )


def _cached_commit(repo: str, revision: str | None, kind: RepoType) -> str | None:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return None
    for entry in cache.repos:
        if entry.repo_id == repo and entry.repo_type == kind:
            for held in entry.revisions:
                if (revision or "main") in held.refs or held.commit_hash == revision:
                    return held.commit_hash
    return None
