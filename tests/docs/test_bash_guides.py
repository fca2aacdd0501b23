"""Every bash block of README, the guides and the like runs, as far as it needs no more than every machine has."""

import pytest
from docs_blocks import EXTENDING, Block, bash_pages, run_bash, workplace

PAGES = {page: found for page, found in bash_pages().items() if not page.startswith(EXTENDING)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One folder for all pages, as a reader has: a study that one page ran is there for the next."""
    return workplace(tmp_path_factory.mktemp("bash-guides"))


@pytest.mark.parametrize("page", sorted(PAGES))
def test_bash_blocks_of_a_page_run(page, place):
    run_bash(PAGES[page], place)


def test_a_wrong_block_is_found(tmp_path):
    right, wrong = (Block("page.md", line, "bash", "", code) for line, code in ((2, "true"), (9, "echo said; false")))
    run_bash([right], tmp_path)
    with pytest.raises(AssertionError, match="page.md:9 ended with 1:\nsaid"):
        run_bash([right, wrong], tmp_path)
